"""Online updates: what answers before and after reveal of the data of an update.

A paper is a `Study`: a model, how it is updated, and cases of sets of one image or of
many. The adversary trains a shadow model of its own on public images.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.harness import figures, programs, report
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from experiments.studies.classifiers import errors, file_name
from mijax import data
from mijax.attacks import cbm_gan, updates_leak
from mijax.attacks.updates import shadow_updates
from mijax.core import Defense, Target
from mijax.data import Dataset
from mijax.data.tables import location
from mijax.knowledge import UpdatedModel
from mijax.metrics import matching
from mijax.models.decoders import DenseDecoder
from mijax.priors import decoder

NULL = "null: no update"
COPY = "an autoencoder of the images themselves"
_SIDE = 21  # of the square that 441 places fill

Load = Callable[[Run], Dataset]


def images(name: str, number: int | None = None) -> Load:
    """`--dataset`, or that of this name; some of its images, or all."""

    def load(run: Run) -> Dataset:
        loaded = data.load(run.dataset or name, data_dir=run.data_dir)
        if number is None:
            return loaded
        rows = np.random.default_rng(run.seed).permutation(len(loaded))[:number]
        return dataclasses.replace(
            loaded, images=loaded.images[rows], labels=loaded.labels[rows]
        )

    return load


def places(run: Run) -> Dataset:
    """Location's people, whose 441 commonest places fill a square, 1 where visited."""
    table = location.load(run.data_dir)
    names = [name for name in table.columns if name.startswith("place_")]
    visited = np.stack([table.columns[name] for name in names], 1)
    common = np.sort(np.argsort(-visited.sum(0), kind="stable")[: _SIDE**2])
    squares = visited[:, common].reshape(-1, _SIDE, _SIDE, 1).astype(np.float32)
    clusters = table.columns["cluster"]
    kinds = tuple(f"cluster {i + 1}" for i in range(clusters.max() + 1))
    return Dataset(table.name, squares, clusters, kinds)


@dataclasses.dataclass(frozen=True)
class Case:
    """Updates by sets of one kind.

    Attributes:
      config: of the attack; its `set_size` and `concentration` are the updates' too.
        Where it is CBM-GAN's, the images of the sets are recovered.
      defense: of the confidences, made of a key.
      image: whether the image is recovered as well.
    """

    config: updates_leak.Config
    defense: Callable[[jax.Array], Defense] | None = None
    image: bool = False


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      load: reads labeled images, or what stands for them.
      network: of the model that is updated.
      cases: by name.
      victims: updates that are attacked.
      probes: images of the probing set.
      steps: of the model's training before the updates.
      autoencoder: trained on the public images, whose error on the updates' images is
        what a decoder could reach.
      differences: from the paper's set-up.
      published: `(case, metric)` to the paper's number.
    """

    title: str
    load: Load
    network: Callable[[int], nn.Module]
    cases: Mapping[str, Case]
    victims: int = 400
    probes: int = 100
    steps: int = 600
    autoencoder: decoder.Config = decoder.Config(
        lambda shape: DenseDecoder(shape, (256, 50, 256)), 3000, 64
    )
    differences: tuple[str, ...] = ()
    published: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=dict)


def measure(run: Run, study: Study) -> report.Page:
    """Trains the model, updates it, attacks, judges, and tells."""
    loaded = study.load(run)
    split = data.train_test(loaded, test_fraction=0.5, seed=run.seed)
    split = split._replace(test=data.shuffled(split.test, seed=run.seed))
    pool = data.train_test(split.train, test_fraction=0.5, seed=run.seed)
    keys = run.keys("model", "sets", "attack", "defense", "autoencoder")
    classes = len(loaded.names)
    train = jax.jit(shadow_updates.shadow, static_argnames=("module", "steps"))
    images = pool.train
    model = train(
        keys["model"],
        study.network(classes),
        jnp.asarray(images.images),
        jnp.asarray(images.labels),
        steps=study.steps,
    )
    logits = programs.batched(lambda x: model.predict(x).logits)(split.test.images)
    hits = (logits.argmax(1) == split.test.labels).astype(float)
    records = [Record({"case": "before"}, "target_test_accuracy", metric(hits))]
    shown: dict[str, np.ndarray] = {}
    for name, case in study.cases.items():
        rows, after = _updates(keys["sets"], study, case, model, pool.test)
        release = None if case.defense is None else case.defense(keys["defense"]).output
        known = _known(study, model, after, split.test, release)
        asked, labels = known, [name]
        if case.defense is None:  # Victims of an update, and as many of none.
            both = jax.tree.map(_beside_unchanged, after, model.params)
            asked = _known(study, model, both, split.test, None)
            labels = [name, f"{name}, {NULL}"]
        found = _attacked(run, name, keys["attack"], asked, case.config)
        for label, part in zip(labels, _parts(found, len(labels)), strict=True):
            records += _labels(
                {"case": label},
                part,
                rows,
                pool.test,
                classes,
                split.test,
                study.published,
            )
        if case.image:
            x = _reconstructed(run, name, keys["attack"], known, case.config)
            truth = pool.test.images[rows[:, 0]]
            mean = split.test.images.mean(0, keepdims=True)
            blind = np.broadcast_to(mean, truth.shape)
            records += errors({"case": name}, truth, x, blind, ("mse",))
            copied = _copied(
                run, study, keys["autoencoder"], known.public, truth, "autoencoder"
            )
            records += errors({"case": COPY}, truth, copied, blind, ("mse",))
            shown |= {"image of the update": truth, "mean": blind, name: x}
        if isinstance(case.config, cbm_gan.Config):
            truth = pool.test.images[rows]
            records += _sets(
                run,
                name,
                keys["attack"],
                known,
                case.config,
                truth=truth,
                pictures=run.figures / "sets.png",
            )
            each = truth.reshape(-1, *truth.shape[2:])
            copied = _copied(
                run,
                study,
                keys["autoencoder"],
                known.public,
                each,
                f"{file_name(name)}_autoencoder",
            )
            mean = split.test.images.mean(0, keepdims=True)
            blind = np.broadcast_to(mean, each.shape)
            own = {"case": f"{name}, {COPY}"}
            records += errors(own, each, copied, blind, ("mse",))
    clones = _speed(run, study, model, split.test)
    return _page(run, study, Results(records), shown, clones)


def _updates(
    key: jax.Array, study: Study, case: Case, model: Target, pool: Dataset
) -> tuple[np.ndarray, Any]:
    """Sets of the pool, as rows `[V, U]`, and the model after each."""
    labels = jnp.asarray(pool.labels)
    config = case.config

    @jax.jit
    def update(key: jax.Array) -> Any:
        rows = shadow_updates.draw_sets(
            key,
            labels,
            len(pool.names),
            number=study.victims,
            size=config.set_size,
            concentration=config.concentration,
        )
        images = jnp.asarray(pool.images)
        return rows, shadow_updates.updated(
            config.recipe, model, images[rows], labels[rows]
        )

    rows, after = update(key)
    return np.asarray(rows), after


def _beside_unchanged(after: jax.Array, before: jax.Array) -> jax.Array:
    return jnp.concatenate([after, jnp.broadcast_to(before, after.shape)])


def _parts(found: Mapping[str, np.ndarray], number: int) -> list[dict[str, np.ndarray]]:
    """What was found of each kind of victims, as many of each."""
    split = {name: np.split(found[name], number) for name in ("guess", "log_posterior")}
    return [{name: parts[i] for name, parts in split.items()} for i in range(number)]


def _known(
    study: Study, model: Target, after: Any, public: Dataset, release: Any
) -> UpdatedModel:
    images = jnp.asarray(public.images)
    return UpdatedModel.of(
        model,
        after,
        images[: study.probes],
        images[study.probes :],
        jnp.asarray(public.labels[study.probes :]),
        release=release,
    )


def _attacked(
    run: Run, name: str, key: jax.Array, known: UpdatedModel, config: Any
) -> dict[str, np.ndarray]:
    def compute() -> dict[str, Any]:
        found, seconds = programs.program(updates_leak.attack)(key, known, config)
        print(f"{name}: {seconds['run']:.1f} s", flush=True)
        return {"guess": found.guess, "log_posterior": found.log_posterior} | seconds

    return run.once(file_name(name), compute)


def _reconstructed(
    run: Run, name: str, key: jax.Array, known: UpdatedModel, config: Any
) -> np.ndarray:
    def compute() -> dict[str, Any]:
        found, seconds = programs.program(updates_leak.reconstruct)(key, known, config)
        return {"x": found.x} | seconds

    return run.once(f"{file_name(name)}_image", compute)["x"]


def _copied(
    run: Run,
    study: Study,
    key: jax.Array,
    public: jax.Array,
    truth: np.ndarray,
    name: str,
) -> np.ndarray:
    """The true images, through an autoencoder of the public ones."""

    def compute() -> dict[str, Any]:
        found, seconds = programs.program(decoder.invert)(
            key, study.autoencoder, public, public, jnp.asarray(truth), 0
        )
        return {"x": found.x} | seconds

    return run.once(name, compute)["x"]


def _sets(
    run: Run,
    name: str,
    key: jax.Array,
    known: UpdatedModel,
    config: cbm_gan.Config,
    *,
    truth: np.ndarray,
    pictures: pathlib.Path,
) -> list[Record]:
    """How near the images recovered of each set are, put into the truth's order.

    Beside them stand those recovered of another update, and as many public images:
    sets that look like digits and have nothing to do with this one.
    """

    def compute() -> dict[str, Any]:
        found, seconds = programs.program(cbm_gan.attack)(key, known, config)
        print(f"{name}: {seconds['run']:.1f} s", flush=True)
        return {"x": found.x, "trace": found.trace[0, 0]} | seconds

    kept = run.once(f"{file_name(name)}_sets", compute)
    public = np.asarray(known.public)
    rng = np.random.default_rng(run.seed)
    drawn = public[rng.integers(0, len(public), truth.shape[:2])]
    mean = np.broadcast_to(public.mean(0), truth.shape)
    blind = ((truth - mean) ** 2).mean((1, 2, 3, 4))
    records, shown = [], {"one update's set": truth[0]}
    errors_of = []
    for label, x in {
        name: kept["x"],
        f"{name}, null: of another update": np.roll(kept["x"], 1, 0),
        f"{name}, null: public images": drawn,
    }.items():
        matched = matching.match(truth, x)
        errors_of.append(matched.mse.mean(1))
        line = metric(errors_of[-1], baseline=blind, perfect=0.0)
        records.append(Record({"case": label}, "mse", line))
        shown[label.removeprefix(f"{name}, ")] = matched.x_hat[0]
    figures.image_grid(
        [
            (label, x[:8])
            for label, x in ({"one update's set": truth[0]} | shown).items()
        ],
        pictures,
    )
    ratios = metric(errors_of[0] / errors_of[1], baseline=np.ones(len(truth)))
    records.append(Record({"case": name}, "null_ratio", ratios))
    first, last = (kept["trace"][part].mean() for part in (slice(50), slice(-50, None)))
    for part, value in (("first 50 steps", first), ("last 50 steps", last)):
        own = {"case": name, "training": part}
        records.append(Record(own, "best_match", metric([value])))
    return records


def _labels(
    own: dict[str, str],
    found: Mapping[str, np.ndarray],
    rows: np.ndarray,
    pool: Dataset,
    classes: int,
    public: Dataset,
    published: Mapping[tuple[str, str], float],
) -> list[Record]:
    """Whether the commonest label is named, and how far the distribution is off."""
    shares = np.eye(classes)[pool.labels[rows]].mean(1)  # [V, K]
    mode = shares.argmax(1)
    majority = np.bincount(mode, minlength=classes).argmax()
    hits = (found["guess"] == mode).astype(float)
    blind = (majority == mode).astype(float)
    paper = published.get((own["case"], "label_accuracy"))
    line = metric(hits, baseline=blind, perfect=1.0, paper=paper)
    records = [Record(own, "label_accuracy", line)]
    if rows.shape[1] > 1:
        prior = np.bincount(public.labels, minlength=classes) / len(public)
        off, off_blind = (
            _divergence(shares, guess)
            for guess in (np.exp(found["log_posterior"]), prior[None])
        )
        line = metric(off, baseline=off_blind, perfect=0.0)
        records.append(Record(own, "label_kl", line))
    return records


def _divergence(shares: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """KL(shares | guess) in nats, `[V]`."""
    logs = np.log(np.maximum(shares, 1e-12)) - np.log(np.maximum(guess, 1e-12))
    return (shares * logs).sum(1)


def _speed(run: Run, study: Study, model: Target, public: Dataset) -> float:
    """Shadow updates a minute, compiled."""
    config = next(iter(study.cases.values())).config
    images, labels = jnp.asarray(public.images), jnp.asarray(public.labels)

    def compute() -> dict[str, Any]:
        rows = jnp.arange(config.clones)[:, None] % len(public)
        several = programs.program(shadow_updates.traces)
        probes = images[: study.probes]
        _, seconds = several(config.recipe, model, probes, images, labels, rows)
        return {"rate": 60 * config.clones / seconds["run"]}

    return float(run.once("clones", compute)["rate"])


def _page(
    run: Run,
    study: Study,
    results: Results,
    shown: Mapping[str, np.ndarray],
    clones: float,
) -> report.Page:
    bars, grid = run.figures / "labels.png", run.figures / "recovered.png"
    lines = list(results.filter(metric="label_accuracy"))
    figures.bars(
        [record.labels["case"] for record in lines],
        [record.value.value for record in lines],
        bars,
        low=[record.value.low or 0.0 for record in lines],
        high=[record.value.high or 0.0 for record in lines],
        baseline=lines[0].value.baseline,
        baseline_label="the commonest label",
        xlabel="share of updates whose (commonest) label is named",
    )
    pictures = []
    if shown:
        figures.image_grid([(name, x[:8]) for name, x in shown.items()], grid)
        pictures.append(
            report.Picture(grid, "The images of the first updates, and those decoded.")
        )
    sets = run.figures / "sets.png"
    if sets.is_file():
        pictures.append(
            report.Picture(sets, "One set of many images, and what was made of it.")
        )
    first = lines[0]
    error = list(results.filter(metric="mse"))
    said = ""
    if error:
        line = error[0].value
        high, mean = line.high or line.value, line.baseline or 0.0
        found = "less than" if high < mean else "no less than"
        said = (
            f" Images are decoded with a squared error of {line.value:.4f} "
            f"({line.low:.4f} to {line.high:.4f}), {found} the mean image's "
            f"{line.baseline:.4f}."
        )
    return report.Page(
        title=study.title,
        verdict=f"Of {first.labels['case']}, answers before and after an update name "
        f"the label in {first.value.value:.2f} of the cases, the commonest label is "
        f"right in {first.value.baseline:.2f}.{said}",
        lead=report.Picture(bars, "Labels of updates, by the kind of update."),
        caption="By the kind of update",
        table=results.pivot(rows=("case", "training"), columns=("metric",)),
        attacked="A classifier, and what becomes of it by each of "
        f"{study.victims} updates, each from the same start; accuracy before: "
        f"{results.value('target_test_accuracy', case='before').value:.3f}.",
        knowledge=f"Confidences of {study.probes} probing images before and after each "
        "update, how updates are made, and labeled images of the distribution, on "
        f"which {clones:,.0f} shadow updates a minute were made.",
        baseline="the commonest label; the labels' distribution in the public data; "
        "the mean image.",
        n=study.victims,
        results=results,
        pictures=pictures,
        differences=study.differences,
    )
