"""Decoders of released scores: what the confidences of an input reveal of it.

A paper is a `Study`: who is private, which images the adversary has to train its
decoder on, and `Release`s, each a defense of the target or of its scores. The decoder
is trained on answers that went through the same defense.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.harness import figures, programs, report
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from experiments.studies.classifiers import Classifier, errors, file_name, named
from mijax import data
from mijax.attacks import explanation, inverse_network
from mijax.core import Defense, Target, chain
from mijax.data import Dataset, TrainTest
from mijax.knowledge import Explained, Scores
from mijax.knowledge.explained import Explain
from mijax.priors.decoder import Decoder

NULL = "null: another input's scores"


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """Who is private, and what the adversary may have.

    Attributes:
      name: in words.
      private: images of the target's classes; the test images are attacked.
      reference: more images of these classes, for a defense that is trained.
      auxiliaries: the adversary's images by name, `[M, H, W, C]` each.
      judge: images and labels of all kinds, for the evaluator, whose first classes are
        the target's.
    """

    name: str
    private: TrainTest
    reference: Dataset
    auxiliaries: Mapping[str, np.ndarray]
    judge: TrainTest


class Trained(NamedTuple):
    """What a defense is made with.

    Attributes:
      key: of its training.
      target: the model that it defends.
      reference: images, `[N, H, W, C]`.
    """

    key: jax.Array
    target: Target
    reference: jax.Array


@dataclasses.dataclass(frozen=True)
class Release:
    """How scores are released.

    Attributes:
      defense: made of what there is once the target is trained; None for none.
      network: of the number of classes, where the target is another one.
      objective: a defense of the training loss.
      code: of the attacked confidences.
      explain: the explanation that is released with them; None for none.
      foreign: whether the explanations of the attacked inputs are another model's, of
        the same training: what the adversary reads in them is then not the target's.
      joint: the weight of the decoder's error where the owner trains target and decoder
        together on the private images; None for an adversary that trains its own.
      trained: whether the defense is trained, so that the page says how long it took.
    """

    defense: Callable[[Trained], Defense] | None = None
    network: Callable[[int], nn.Module] | None = None
    objective: Defense = Defense()
    code: Callable[[jax.Array], jax.Array] = inverse_network.log_scores
    explain: Explain | None = None
    foreign: bool = False
    joint: float | None = None
    trained: bool = False


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      data: who is private, from `--dataset`, the data folder and the seed.
      target: the classifier that is attacked.
      judge: the evaluator.
      releases: by name; the first is without a defense.
      attack: of the decoder.
      reduced: the auxiliary set with which all releases are attacked; every other is
        attacked with the first release alone.
      victims: test images that are attacked.
      differences: from the paper's set-up.
    """

    title: str
    data: Callable[[Run], World]
    target: Classifier
    judge: Classifier
    releases: Mapping[str, Release]
    attack: inverse_network.Config = inverse_network.Config()
    reduced: str = "related"
    victims: int = 500
    differences: tuple[str, ...] = ()


def digits(run: Run) -> World:
    """All ten digits; the adversary has other images of them, as the purifier has."""
    loaded = data.load(run.dataset or "mnist5k", data_dir=run.data_dir)
    split = data.train_test(loaded, test_fraction=0.6, seed=run.seed)
    rest = data.train_test(split.test, test_fraction=0.34, seed=run.seed)
    return World(
        "digits",
        TrainTest(split.train, rest.test),
        rest.train,
        {"same": rest.train.images},
        TrainTest(rest.train, rest.test),
    )


def measure(run: Run, study: Study) -> report.Page:
    """Trains the targets, releases, decodes, judges, and tells."""
    world = study.data(run)
    keys = run.keys("target", "judge", "defense", "attack")
    judge, judged = study.judge.train(run, keys["judge"], "evaluator", world.judge)
    test = data.shuffled(world.private.test, seed=run.seed)
    truth = test.images[: study.victims]
    labels = test.labels[: study.victims]
    records = [
        Record({"released": "all"}, "evaluator_test_accuracy", metric(judged)),
        *_recovered({"images": "real"}, judge, truth, labels, truth, None),
    ]
    own = world.reference
    means = np.stack(
        [own.images[own.labels == k].mean(0) for k in range(len(own.names))]
    )
    mean = np.broadcast_to(own.images.mean(0, keepdims=True), truth.shape)
    oracle = {"released": "the label alone: its class's mean", "auxiliary": "same"}
    records += _recovered(oracle, judge, truth, labels, means[labels], mean)
    shown = {"private input": truth}
    targets: dict[Any, Target] = {}
    for name, release in study.releases.items():
        target, decoder = _target(run, study, keys["target"], name, world, targets)
        defense = chain()
        if release.defense is not None:
            made = Trained(keys["defense"], target, jnp.asarray(world.reference.images))
            defense, seconds = programs.program(release.defense)(made)
            if release.trained:
                line = metric([seconds["run"]])
                records.append(Record({"released": name}, "training_seconds", line))
        scores, released = (
            _scores(target, own, test.images) for own in (None, defense.output)
        )
        records += _cost(name, scores, released, test.labels)
        train = world.private.train
        inside = _scores(target, defense.output, train.images)
        records.append(_members(name, inside, train.labels, released, test.labels))
        observed = jnp.asarray(released[: study.victims])
        if decoder is not None:
            found = np.asarray(
                jax.jit(Decoder.__call__)(decoder, release.code(observed))
            )
            own = {"released": name, "auxiliary": "the owner's"}
            records += _recovered(own, judge, truth, labels, found, mean)
            shown[name] = found
            continue
        first = name == next(iter(study.releases))
        for auxiliary, public in world.auxiliaries.items():
            if auxiliary != study.reduced and not first:
                continue
            common = {
                "labels": jnp.asarray(labels),
                "release": defense.output,
                "public": jnp.asarray(public),
                "observed": observed,
            }
            known: Scores | Explained
            if release.explain is None:
                known = Scores.of(target, **common)
            else:
                maps = _maps(run, study, keys["target"], target, release, world, truth)
                known = Explained.of(
                    target, explain=release.explain, explanations=maps, **common
                )
            found = _attacked(
                run, f"{name}_{auxiliary}", keys["attack"], known, study, release
            )
            own = {"released": name, "auxiliary": auxiliary}
            blind = np.broadcast_to(public.mean(0, keepdims=True), truth.shape)
            records += _recovered(own, judge, truth, labels, found, blind)
            shown[name if auxiliary == study.reduced else f"{name}, {auxiliary}"] = (
                found
            )
            if auxiliary == study.reduced and first:
                null = {"released": NULL, "auxiliary": auxiliary}
                shifted = np.roll(found, 1, 0)
                records += _recovered(null, judge, truth, labels, shifted, blind)
    return _page(run, study, world, Results(records), shown)


def _maps(
    run: Run,
    study: Study,
    key: jax.Array,
    target: Target,
    release: Release,
    world: World,
    truth: np.ndarray,
) -> jax.Array:
    """The explanations of the attacked inputs, the target's or another model's."""
    assert release.explain is not None
    if release.foreign:
        other = jax.random.fold_in(key, 1)
        target, _ = study.target.train(run, other, "another target", world.private)
    assert release.explain is not None
    return jax.jit(release.explain)(target, truth)


def _target(
    run: Run,
    study: Study,
    key: jax.Array,
    name: str,
    world: World,
    targets: dict[Any, Target],
) -> tuple[Target, Decoder | None]:
    """The target of a release, and the decoder that was trained with it, if one was.

    Targets that are trained alike are one, kept in `targets`.
    """
    release = study.releases[name]
    target = study.target
    if release.network is not None:
        target = dataclasses.replace(target, network=release.network)
    if release.joint is not None:
        return _trained_with_decoder(run, study, key, name, target, world)
    form = release.network, release.objective.objective is None
    if form not in targets or not form[1]:
        targets[form], _ = target.train(
            run, key, f"target {name}", world.private, release.objective
        )
    return targets[form], None


def _trained_with_decoder(
    run: Run,
    study: Study,
    key: jax.Array,
    name: str,
    target: Classifier,
    world: World,
) -> tuple[Target, Decoder]:
    images, release = world.private.train, study.releases[name]
    module, shape = target.network(len(images.names)), images.images.shape[1:]
    config = dataclasses.replace(study.attack, code=release.code)
    together = inverse_network.joint(module, shape, release.joint or 0.0, config)

    def fit(key: jax.Array, data: Any) -> Any:
        size = min(config.batch_size, len(images))
        return together.fit(key, data, batch_size=size, steps=config.steps)[0]

    arrays = jnp.asarray(images.images), jnp.asarray(images.labels)
    form = jax.eval_shape(fit, key, arrays)

    def compute() -> dict[str, Any]:
        trained, seconds = programs.program(fit)(key, arrays)
        leaves = jax.tree.leaves(trained)
        return {f"leaf{i}": leaf for i, leaf in enumerate(leaves)} | seconds

    kept = run.once(file_name(f"with decoder {name}"), compute)
    structure = jax.tree.structure(form)
    leaves = [jnp.asarray(kept[f"leaf{i}"]) for i in range(structure.num_leaves)]
    variables, decoder = jax.tree.unflatten(structure, leaves)
    return Target.from_linen(module, variables, shape), decoder


def _scores(target: Target, release: Any, x: np.ndarray) -> np.ndarray:
    """What is released of images, `[N, K]`."""
    softmax = programs.batched(lambda x: jax.nn.softmax(target.predict(x).logits))
    scores = jnp.asarray(softmax(x))
    return np.asarray(scores if release is None else release(scores))


def _cost(
    name: str, scores: np.ndarray, released: np.ndarray, labels: np.ndarray
) -> list[Record]:
    """What a release costs: accuracy, and how far confidences move."""
    own = {"released": name}
    hits = (released.argmax(1) == labels).astype(float)
    moved = np.abs(released - scores).sum(1)
    return [
        Record(own, "target_test_accuracy", metric(hits)),
        Record(own, "score_distortion", metric(moved)),
    ]


def _members(
    name: str,
    inside: np.ndarray,
    labels: np.ndarray,
    outside: np.ndarray,
    others: np.ndarray,
) -> Record:
    """How well the released confidence in the true class tells training images.

    Its interval is over these, against the same test images.
    """
    own = inside[np.arange(len(labels)), labels]
    rest = np.sort(outside[np.arange(len(others)), others])
    sides = [np.searchsorted(rest, own, side) for side in ("left", "right")]
    beaten = np.mean(sides, 0) / len(rest)
    line = metric(beaten, baseline=np.full(len(own), 0.5), perfect=1.0)
    return Record({"released": name}, "membership_auc", line)


def _attacked(
    run: Run,
    name: str,
    key: jax.Array,
    known: Scores | Explained,
    study: Study,
    release: Release,
) -> np.ndarray:
    config = dataclasses.replace(study.attack, code=release.code)
    method = explanation if isinstance(known, Explained) else inverse_network

    def compute() -> dict[str, Any]:
        found, seconds = programs.program(method.attack)(key, known, config)
        print(f"{name}: {seconds['run']:.1f} s", flush=True)
        return {"x": found.x, "queries": found.queries} | seconds

    return run.once(file_name(name), compute)["x"]


def _recovered(
    labels: dict[str, str],
    judge: Target,
    truth: np.ndarray,
    classes: np.ndarray,
    found: np.ndarray,
    blind: np.ndarray | None,
) -> list[Record]:
    """Error and similarity, and whether the evaluator sees the input's class."""
    seen = named(judge, found, classes)
    if blind is None:
        return [Record(labels, "top1", metric(seen))]
    line = metric(seen, baseline=named(judge, blind, classes), perfect=1.0)
    return [
        Record(labels, "top1", line),
        *errors(labels, truth, found, blind),
    ]


def _page(
    run: Run,
    study: Study,
    world: World,
    results: Results,
    shown: Mapping[str, np.ndarray],
) -> report.Page:
    path, bars = run.figures / "recovered.png", run.figures / "mse.png"
    figures.image_grid([(name, x[:8]) for name, x in shown.items()], path)
    lines = list(results.filter(metric="mse"))
    figures.bars(
        [", ".join(record.labels.values()) for record in lines],
        [record.value.value / (record.value.baseline or 1) for record in lines],
        bars,
        baseline=1.0,
        baseline_label="the adversary's mean image",
        xlabel="squared error of a pixel, in units of the mean image's",
    )
    name = next(iter(study.releases))
    own = {"released": name, "auxiliary": study.reduced}
    mse, top1 = (results.value(kind, **own) for kind in ("mse", "top1"))
    plain = results.value("target_test_accuracy", released=name)
    return report.Page(
        title=study.title,
        verdict=f"From confidences alone ({name}), a decoder that was trained on "
        f"{study.reduced} images recovers inputs with a squared error of "
        f"{mse.value:.4f} a pixel, the mean of those images has {mse.baseline:.4f}. "
        f"The evaluator sees the input's class in {top1.value:.2f} of them, and in "
        f"{top1.baseline:.2f} of the mean image's.",
        lead=report.Picture(
            path, "The first attacked inputs, and what was recovered by each release."
        ),
        caption="By release and the adversary's images",
        table=results.filter(
            metric=(
                "mse",
                "ssim",
                "top1",
                "target_test_accuracy",
                "score_distortion",
                "membership_auc",
                "training_seconds",
            )
        ).pivot(rows=("released", "auxiliary", "images"), columns=("metric",)),
        attacked=f"A classifier of {world.name}: {len(world.private.train):,} images "
        f"trained it, its accuracy is {plain.value:.3f}; the inputs are test images.",
        knowledge="The confidences that were released of each input, a query that "
        "releases such confidences, and images of its own; no weights, no private "
        "image, no label.",
        baseline="the mean of the adversary's own images.",
        n=min(study.victims, len(world.private.test)),
        results=results,
        pictures=[
            report.Picture(bars, "Below 1, scores say more than the mean image.")
        ],
        differences=study.differences,
        caveats=(
            "The mean image bounds the error: an error near it says that nothing is "
            "recovered, not that the scores mislead.",
        ),
    )
