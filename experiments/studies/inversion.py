"""Inversion of a trained classifier: train, attack, judge, tell.

A paper is a `Study`. Its flags follow from it: `--target.steps`, `--evaluator.steps`,
and, for each method that attacks, the numbers of its `Config`, as `--gmi.steps`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from flax import linen as nn

import mijax.priors
from experiments import judging
from experiments.harness import figures, programs, report
from experiments.harness import flags as common
from experiments.harness import run as harness
from experiments.harness.results import Metric, Record, Results
from experiments.harness.run import Run
from mijax import data, training
from mijax.core import Glimpse, Target
from mijax.data import Dataset, TrainTest
from mijax.data.roles import World
from mijax.knowledge import WhiteBox
from mijax.metrics import distribution, identity, images

flags.disclaim_key_flags()

RANDOM, REAL, INPAINTED = "random_latents", "real_test", "inpainted"
_DIRECTIONS = 16  # principal directions: fewer than reconstructions, so it is defined


@dataclasses.dataclass(frozen=True)
class Model:
    """A classifier and its training: AdamW, whose rate falls as a cosine.

    Attributes:
      network: from the number of classes.
      steps: of training.
      batch_size: examples a step.
      learning_rate: at the first step.
      weight_decay: of AdamW.
    """

    network: Callable[[int], nn.Module]
    steps: int = 320
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3


@dataclasses.dataclass(frozen=True)
class Attack:
    """A method, a module of `mijax.attacks`, and its hyper-parameters."""

    method: ModuleType
    config: Any

    @property
    def name(self) -> str:
        """The method's name, which its flags carry."""
        return self.method.__name__.rpartition(".")[2]


Null = Callable[[jax.Array, TrainTest, Dataset | None], TrainTest]
Judges = Callable[[Run, Target, TrainTest, Dataset | None], list[judging.Judge]]


@dataclasses.dataclass(frozen=True)
class Study:
    """One experiment.

    Attributes:
      title: what it is, for the page's heading.
      data: who is private, from `--dataset` and the data folder.
      target: the attacked classifier.
      evaluator: one that knows everyone, and judges.
      judges: feature spaces for 1-NN identification; the verdict is the last one's.
      attacks: by the name that the table's row bears.
      nulls: what a target is trained on that cannot leak, by `--null`.
      glimpses: what is seen of a private image, by `--glimpse`.
      blind: fields of the first attack's `Config` with which it ignores the target: the
        baseline where there is a glimpse.
      repeats: reconstructions of each identity.
      anchors: images drawn from the prior, as public ones.
      published: the paper's number, by the attack's name and the metric.
      differences: of set-up from the paper's, one a line.
    """

    title: str
    data: Callable[[str | None, str | None], World]
    target: Model
    evaluator: Model
    judges: Judges
    attacks: Mapping[str, Attack]
    nulls: Mapping[str, Null] = dataclasses.field(default_factory=dict)
    glimpses: Mapping[str, Callable[[Any], Glimpse]] = dataclasses.field(
        default_factory=dict
    )
    blind: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    repeats: int = 1
    anchors: int = 512
    published: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=dict)
    differences: tuple[str, ...] = ()


def main(
    name: str, *, quick: Mapping[str, Study], paper: Mapping[str, Study]
) -> Callable[[], None]:
    """Defines the flags of a paper's studies, and returns its `main`."""
    studies = [*quick.values(), *paper.values()]
    every = {name: a for study in studies for name, a in study.attacks.items()}
    flags.DEFINE_integer(
        "num_victims", None, "Identities to attack; all.", lower_bound=1
    )
    flags.DEFINE_integer(
        "num_shown", 10, "Identities in the figure: the first.", lower_bound=1
    )
    flags.DEFINE_multi_enum("attacks", None, list(every), "Those to run; all.")
    for flag, options, about in (
        ("null", studies[0].nulls, "Attack a target that cannot leak."),
        ("glimpse", studies[0].glimpses, "What is seen of a private image."),
    ):
        if options:
            flags.DEFINE_enum(flag, "none", ["none", *options], about)
    target = common.from_config(studies[0].target, "target")
    evaluator = common.from_config(studies[0].evaluator, "evaluator")
    configs = {a.name: a.method.Config() for a in every.values()}
    methods = {name: common.from_config(own, name) for name, own in configs.items()}

    def changed(study: Study) -> Study:
        chosen = flags.FLAGS.attacks or list(study.attacks)
        if unknown := set(chosen) - set(study.attacks):
            raise ValueError(
                f"--attacks={min(unknown)} is none of this study's: "
                f"{', '.join(study.attacks)}."
            )
        return dataclasses.replace(
            study,
            target=target(study.target),
            evaluator=evaluator(study.evaluator),
            attacks={
                name: dataclasses.replace(a, config=methods[a.name](a.config))
                for name, a in study.attacks.items()
                if name in chosen
            },
        )

    return harness.main(
        name, quick=quick, paper=paper, changed=changed, measure=measure
    )


# What a target that cannot leak is trained on -----------------------------------------


def shuffled(key: jax.Array, private: TrainTest, public: Dataset | None) -> TrainTest:
    """The private images under shuffled labels: the target knows no one."""
    del public
    order = np.asarray(jax.random.permutation(key, len(private.train)))
    labels = private.train.labels[order]
    return TrainTest(dataclasses.replace(private.train, labels=labels), private.test)


def others(key: jax.Array, private: TrainTest, public: Dataset | None) -> TrainTest:
    """As many public people, those with the most images.

    Raises:
      ValueError: if there are not enough of them.
    """
    del key
    classes = len(private.train.names)
    if public is None or len(public.names) < classes:
        raise ValueError(
            f"--null=others needs {classes} public identities: use --dataset=lfw64."
        )
    most = np.argsort(-public.counts(), kind="stable")[:classes]
    rows = np.flatnonzero(np.isin(public.labels, most))
    rank = np.empty(len(public.names), np.int32)
    rank[most] = np.arange(classes)
    names = tuple(public.names[i] for i in most)
    labels = rank[public.labels[rows]]
    chosen = Dataset("other people", public.images[rows], labels, names)
    return data.train_test(chosen, test_fraction=0.2)


NULLS: Mapping[str, Null] = {"shuffled": shuffled, "others": others}
_NULLS_IN_WORDS = {
    "none": "",
    "shuffled": "NULL CASE: its training labels were shuffled, so it knows no one.",
    "others": "NULL CASE: it was trained on as many other people, all public.",
}


# Who judges -----------------------------------------------------------------------


def by_faces(
    run: Run, expert: Target, private: TrainTest, public: Dataset | None
) -> list[judging.Judge]:
    """The evaluator's features, and MobileFaceNet's where its weights are at hand."""
    own = judging.evaluator("evaluator", expert, private.train, public)
    other = judging.face_features(run.data_dir, private.train, public)
    return [own] if other is None else [own, other]


def by_pixels(
    run: Run, expert: Target, private: TrainTest, public: Dataset | None
) -> list[judging.Judge]:
    """The evaluator's features, and raw pixels."""
    del run
    own = judging.evaluator("evaluator", expert, private.train, public)
    return [own, judging.pixels(private.train, public)]


# Measuring ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Measured:
    """All that is judged and drawn.

    Attributes:
      images: by row: attacks, baselines, real images; `[V, H, W, C]` each.
      traces: of each attack's own loss, `[V, R, steps + 1]`.
      labels: of the victims, `[V]`.
      subjects: the first private image of each victim.
      glimpse: what is seen of them.
    """

    images: Mapping[str, np.ndarray]
    traces: Mapping[str, np.ndarray]
    labels: np.ndarray
    subjects: np.ndarray
    glimpse: np.ndarray | None


def measure(run: Run, study: Study) -> report.Page:
    """Trains target and evaluator, attacks, judges, and says what the page tells."""
    values = flags.FLAGS
    null = values.null if study.nulls else "none"
    seen = values.glimpse if study.glimpses else "none"
    world = study.data(run.dataset, run.data_dir)
    print(f"private: {world.name}, {len(world.private):,} images", flush=True)
    private = data.train_test(world.private, test_fraction=0.2, seed=run.seed)
    keys = run.keys("target", "evaluator", "attack", "random", "null")
    known = (
        study.nulls[null](keys["null"], private, world.public)
        if null != "none"
        else private
    )
    target, target_hits = train(
        run, keys["target"], "target", study.target, known, world.mirror
    )
    expert, expert_hits = train(
        run,
        keys["evaluator"],
        "evaluator",
        study.evaluator,
        everyone(run, world, private),
        world.mirror,
    )

    classes = np.arange(len(world.private.names), dtype=np.int32)
    labels = np.repeat(classes[: values.num_victims], study.repeats)
    prior = mijax.priors.load(world.prior)
    z = jax.random.normal(
        keys["random"], (max(study.anchors, len(labels)), prior.latent_size)
    )
    drawn = judging.batched(prior.images)(np.asarray(z))
    anchors = drawn[: study.anchors]
    subjects = first_images(private.train, labels)
    knowledge = WhiteBox(target, jnp.asarray(labels), prior, jnp.asarray(anchors))
    if seen != "none":
        glimpse = study.glimpses[seen](jnp.asarray(subjects))
        knowledge = dataclasses.replace(knowledge, glimpse=glimpse)
    found = attack(run, keys["attack"], study, knowledge)
    measured = Measured(
        {name: arrays["x"] for name, arrays in found.items()}
        | {
            "surest_sample": judging.surest(target, anchors, labels),
            RANDOM: drawn[: len(labels)],
            "mean_image": np.repeat(drawn.mean(0, keepdims=True), len(labels), 0),
            REAL: per_person(private.test, labels),
        },
        {name: arrays["trace"] for name, arrays in found.items()},
        labels,
        subjects,
        None if knowledge.glimpse is None else np.asarray(knowledge.glimpse.image),
    )
    judges = study.judges(run, expert, private, world.public)
    results = Results(
        [
            Record({}, "target_test_accuracy", report.metric(target_hits)),
            Record({}, "evaluator_test_accuracy", report.metric(expert_hits)),
            *judged(study, measured, target, expert, judges),
            *distributions(measured, judges[-1]),
            *paired(study, measured),
        ]
    )
    lead, *pictures = draw(run, study, measured, world, judges[-1], results)
    main_judge = judges[-1].name
    table = Results(
        [
            *results.filter(metric=("top1", "top5"), judge="evaluator"),
            *results.filter(
                metric=("identity_1nn", "knn_distance"),
                judge=main_judge,
                among=("everyone", ""),
            ),
            *results.filter(metric=("psnr", "ssim")),
            *results.filter(metric="success_rate"),
        ]
    ).pivot(rows=("images",), columns=("metric",))
    network = type(study.target.network(len(classes))).__name__
    return report.Page(
        title=f"{study.title} against {world.name}"
        + ("" if null == "none" else f" (null case: {null})"),
        verdict=verdict(study, results, main_judge, len(labels)),
        lead=lead,
        caption=f"How well each method recovers the {len(labels)} victims, judged by "
        f"the evaluator (top-k) and by {main_judge} (1-NN)",
        table=table,
        attacked=f"{network} of {len(classes)} private identities, {world.name}; "
        f"{len(private.train)} training images. {_NULLS_IN_WORDS.get(null, null)}",
        knowledge=f"White box: parameters and architecture; the shipped prior "
        f"{world.prior} (trained on none of these people) and {study.anchors} samples "
        f"of it. {_SEEN[seen]} Restarts are chosen by the attack's own loss.",
        baseline="random latents of the same prior, judged alike; for psnr and ssim, "
        "the prior's own inpainting.",
        n=len(labels),
        results=results,
        pictures=pictures,
        differences=study.differences,
        caveats=caveats(judges, world),
    )


_SEEN = {
    "none": "No private image.",
    "blur": "Each victim's first private image, as means of 4x4 pixels.",
    "center": "Each victim's first private image, but for its middle.",
    "t": "Each victim's first private image, but for eyes, nose and mouth.",
}


def train(
    run: Run, key: jax.Array, name: str, model: Model, known: TrainTest, mirror: bool
) -> tuple[Target, np.ndarray]:
    """Trains one of the study's models; returns it with its hits on test images."""
    rate = optax.cosine_decay_schedule(model.learning_rate, model.steps)
    return run.train(
        key,
        name,
        model.network(len(known.train.names)),
        known,
        optimizer=optax.adamw(rate, weight_decay=model.weight_decay),
        steps=model.steps,
        batch_size=model.batch_size,
        augment=training.shift_and_mirror(3, mirror),
    )


def everyone(run: Run, world: World, private: TrainTest) -> TrainTest:
    """What the evaluator is trained on: private people and public ones."""
    if world.public is None:
        return private
    at_least = 10 if world.prior == "faces64" else 1
    joint = data.evaluation(world.private, world.public, at_least=at_least)
    return data.train_test(joint, test_fraction=0.2, seed=run.seed)


def attack(
    run: Run, key: jax.Array, study: Study, knowledge: WhiteBox
) -> dict[str, dict[str, np.ndarray]]:
    """Runs the attacks, and where there is a glimpse its inpainting by the prior."""
    compiled = {
        a.name: programs.over_victims(a.method.attack, knowledge.victims)
        for a in study.attacks.values()
    }
    attacks = dict(study.attacks)
    if knowledge.glimpse is not None:
        first = next(iter(attacks.values()))
        config = dataclasses.replace(first.config, **study.blind)
        attacks[INPAINTED] = Attack(first.method, config)

    def compute(name: str) -> dict[str, Any]:
        print(f"attack: {name}", flush=True)
        chosen = attacks[name]
        result, seconds = compiled[chosen.name](key, knowledge, chosen.config)
        arrays = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
        return {k: v for k, v in arrays.items() if v is not None} | seconds

    return {name: run.once(name, lambda name=name: compute(name)) for name in attacks}


def first_images(private: Dataset, labels: np.ndarray) -> np.ndarray:
    """The first private training image of each victim's class."""
    return np.stack([private.images[np.argmax(private.labels == k)] for k in labels])


def per_person(test: Dataset, labels: np.ndarray) -> np.ndarray:
    """Real held-out images, one per victim: what a perfect reconstruction would be."""
    used = dict.fromkeys(labels.tolist(), 0)
    rows = []
    for label in labels.tolist():
        own = np.flatnonzero(test.labels == label)
        rows.append(own[used[label] % len(own)])
        used[label] += 1
    return test.images[rows]


def judged(
    study: Study,
    measured: Measured,
    target: Target,
    expert: Target,
    judges: Sequence[judging.Judge],
) -> list[Record]:
    """Every metric of every row of images, compared with random latents."""
    labels = measured.labels
    clusters = labels if len(np.unique(labels)) < len(labels) else None
    records = []

    def record(
        metric: str, measure: Callable[[np.ndarray], np.ndarray], **about: str
    ) -> None:
        values = {row: measure(x) for row, x in measured.images.items()}
        for row, line in values.items():
            real = row == REAL
            value = report.metric(
                line,
                clusters=clusters,
                failure=0.0 if metric in ("top1", "top5", "identity_1nn") else None,
                baseline=None if real else values[RANDOM],
                perfect=None if real else float(np.mean(values[REAL])),
                paper=study.published.get((row, metric)),
            )
            records.append(Record({"images": row} | about, metric, value))

    expert_logits = judging.batched(lambda x: expert.predict(x).logits)
    target_logits = judging.batched(lambda x: target.predict(x).logits)
    for k in (1, 5):
        record(
            f"top{k}",
            lambda x, k=k: identity.top_k(expert_logits(x), labels, k),
            judge="evaluator",
        )
    for judge in judges:
        for among in ("everyone", "private"):
            record(
                "identity_1nn",
                lambda x, j=judge, a=among: j.nearest(x, labels, a == "everyone"),
                judge=judge.name,
                among=among,
            )
        for metric in ("knn_distance", "feature_distance"):
            record(
                metric,
                lambda x, distance=getattr(judge, metric): distance(x, labels),
                judge=judge.name,
            )
    record(
        "success_rate",
        lambda x: identity.top_k(target_logits(x), labels, 1),
        judge="target",
    )
    return records


def distributions(measured: Measured, judge: judging.Judge) -> list[Record]:
    """Frechet distance and precision/recall/density/coverage to the private images.

    In the first principal directions of the private images' features; where there are
    too few reconstructions for that many, the metrics are left out.
    """
    private = judge.private()
    center = private.mean(0)
    _, _, directions = np.linalg.svd(private - center, full_matrices=False)
    directions = directions[:_DIRECTIONS].T
    real = (private - center) @ directions
    records = []
    for row, x in measured.images.items():
        fake = (judge.features(x) - center) @ directions
        if row == "mean_image" or len(fake) <= len(directions.T):
            continue
        about = {"images": row, "judge": judge.name}
        distance = distribution.frechet_distance(real, fake)
        records.append(Record(about, "frechet_distance", Metric(distance, n=len(fake))))
        four = distribution.precision_recall_density_coverage(real, fake)
        records += [
            Record(about, name, report.metric(values))
            for name, values in four._asdict().items()
        ]
    return records


def paired(study: Study, measured: Measured) -> list[Record]:
    """Likeness to the very image that was glimpsed, compared with inpainting."""
    if INPAINTED not in measured.images:
        return []
    records = []
    for metric in ("psnr", "ssim"):
        compare = getattr(images, metric)
        values = {
            row: np.asarray(
                compare(
                    jnp.asarray(measured.subjects), jnp.asarray(measured.images[row])
                )
            )
            for row in (*study.attacks, INPAINTED)
        }
        for row, line in values.items():
            baseline = None if row == INPAINTED else values[INPAINTED]
            records.append(
                Record({"images": row}, metric, report.metric(line, baseline=baseline))
            )
    return records


# The page -------------------------------------------------------------------------


def verdict(study: Study, results: Results, judge: str, victims: int) -> str:
    """What the strongest attack recovers, compared with no target and with reality."""

    def identified(row: str) -> Metric:
        return results.value("identity_1nn", images=row, judge=judge, among="everyone")

    def percent(x: float | None) -> str:
        return "-" if x is None else f"{100 * x:.0f}"

    best = max(study.attacks, key=lambda name: identified(name).value)
    line = identified(best)
    return (
        f"From the images of {best.replace('_', ' ')}, the strongest of "
        f"{len(study.attacks)} attacks, a nearest-neighbor search among everyone in "
        f"the data ({judge}) names the right identity for {percent(line.value)} % of "
        f"{victims} victims (95 % interval {percent(line.low)} to "
        f"{percent(line.high)} %). Random images of the same prior, which need no "
        f"target, reach {percent(identified(RANDOM).value)} %, and real held-out "
        f"images {percent(identified(REAL).value)} %."
    )


def caveats(judges: Sequence[judging.Judge], world: World) -> list[str]:
    """What a reader must know before quoting a figure of this page."""
    lines = [
        "success_rate is the attacked model's own verdict. It is near 1 for any "
        "attack, MI-Face's noise included, and says nothing of likeness: read "
        "identity_1nn.",
        "surest_sample also uses the target: of the samples drawn from the prior, "
        "the one that it is surest of, with no search at all.",
        "identity_1nn is among everyone in the data set "
        f"({judges[-1].labels.max() + 1:,} identities), or among the private ones.",
    ]
    if world.public is None:
        lines.append(
            "This data set has no public part: the evaluator knows private people "
            "alone, which flatters every attack."
        )
    if len(judges) == 1:
        lines.append(
            "MobileFaceNet's weights are not at hand (--data_dir), so every judge here "
            "was trained on the private people."
        )
    return lines


def draw(
    run: Run,
    study: Study,
    measured: Measured,
    world: World,
    judge: judging.Judge,
    results: Results,
) -> list[report.Picture]:
    """Draws recovered and private images, identification, and the losses."""
    labels = measured.labels
    first = np.unique(labels, return_index=True)[1][: flags.FLAGS.num_shown]
    private = measured.subjects[first]
    rows = [("private, first image", private)]
    if measured.glimpse is not None:
        rows.append(("what is seen", measured.glimpse[first]))
    rows += [
        (name.replace("_", " "), x[first])
        for name, x in measured.images.items()
        if name not in ("mean_image", REAL)
    ]
    if world.public is not None:
        public = judge.reference[judge.labels >= judge.num_private]
        near = identity.nearest_neighbor(
            judge.features(private), public, np.arange(len(public))
        )
        rows.append(("nearest public image", world.public.images[near]))
    recovered = run.figures / "recovered.png"
    figures.image_grid(rows, recovered, [world.private.names[k] for k in labels[first]])
    first_method = next(iter(study.attacks.values())).method  # Others' losses differ.
    searched = {
        name: trace.reshape(-1, trace.shape[-1])
        for name, trace in measured.traces.items()
        if name == INPAINTED or study.attacks[name].method is first_method
    }
    pictures = [
        report.Picture(
            recovered,
            f"The first {len(first)} identities, none chosen. The nearest public "
            "image is chosen with the private one in hand: no adversary can.",
        )
    ]
    lines = results.filter(
        metric="identity_1nn", judge=judge.name, among="private"
    ).pivot(rows=("images",), columns=("metric",))
    values = [row[0] for row in lines.cells if row[0] is not None]
    figures.bars(
        [name.replace("_", " ") for (name,) in lines.rows],
        [line.value for line in values],
        run.figures / "identified.png",
        low=[line.low or 0.0 for line in values],
        high=[1.0 if line.high is None else line.high for line in values],
        baseline=1 / len(world.private.names),
        xlabel=f"identified among the private people, 1-NN in {judge.name}",
    )
    pictures.append(
        report.Picture(
            run.figures / "identified.png", "1-NN identification with 95 % intervals."
        )
    )
    if searched:
        figures.curves(
            searched, run.figures / "losses.png", ylabel="the attack's own loss"
        )
        pictures.append(
            report.Picture(
                run.figures / "losses.png",
                "Median and middle 80 % of all victims and restarts.",
            )
        )
    return pictures
