"""Inversion of a trained classifier: train, attack, judge, tell.

A paper is a `Study`. Its flags follow from it: `--target.steps`, `--evaluator.steps`,
and, for each method that attacks, the numbers of its `Config`, as `--gmi.steps`.
"""

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import linen as nn

import mijax.priors
from experiments import judging
from experiments.harness import figures, programs, report
from experiments.harness import flags as common
from experiments.harness import run as harness
from experiments.harness.results import Metric, Record, Results
from experiments.harness.run import Run
from experiments.studies import oracles
from experiments.studies.targets import (
    CasiaHead,
    FineTuned,
    Model,
    PublicStudent,
    fitted,
)
from mijax import data
from mijax.attacks.inversion import aggregation, template_inversion
from mijax.core import Glimpse, Prior, Reconstruction, Target
from mijax.data import Dataset, TrainTest
from mijax.data.roles import World
from mijax.evaluation import judges as evaluation
from mijax.evaluation.judges import Provenance
from mijax.knowledge import WhiteBox
from mijax.metrics import distribution, identity, images
from mijax.models.dcgan import Critic, Generator
from mijax.priors import template_decoder, wgan_gp

flags.disclaim_key_flags()

RANDOM, REAL, INPAINTED = "random_latents", "real_test", "inpainted"
_DIRECTIONS = 16  # principal directions: fewer than reconstructions, so it is defined


@dataclasses.dataclass(frozen=True)
class Taught:
    """A prior that the target teaches, on public images, before the attack.

    Attributes:
      networks: generator and critic, from the shipped prior's and a number of classes.
      data: of the training, `(knowledge, images) -> data`.
      config: of the method's `prior`.
      steps: of training.
      fresh: whether its variables are drawn, where else they start as the shipped
        prior's are.
    """

    networks: Callable[[Generator, Critic, int], tuple[nn.Module, nn.Module]]
    data: Callable[[WhiteBox, np.ndarray], Any]
    config: Any
    steps: int
    fresh: bool = False


@dataclasses.dataclass(frozen=True)
class Attack:
    """A method, a module of `mijax.attacks`, and its hyper-parameters.

    Attributes:
      method: the module.
      config: its `Config`.
      aggregated: whether the mean image of its restarts is a row of its own.
      students: networks into which the target is distilled first, on public images.
      prior: one that is trained first, in place of the shipped one.
      sketched: whether template inversion, through the shipped decoder, sketches the
        victims first, and the students get templates for a head.
    """

    method: ModuleType
    config: Any
    aggregated: bool = False
    students: tuple[Model | CasiaHead | PublicStudent, ...] = ()
    prior: Taught | None = None
    sketched: bool = False

    @property
    def name(self) -> str:
        """The method's name, which its flags carry."""
        return self.method.__name__.rpartition(".")[2]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A prior that is trained on public images first, where none of them is shipped.

    Attributes:
      config: of its training.
      steps: of the generator.
      width: of both networks.
    """

    config: wgan_gp.Config
    steps: int
    width: int

    def train(self, run: Run, key: jax.Array, images: np.ndarray) -> Prior:
        """Trains it, from its last checkpoint."""
        size, channels = images.shape[2:]
        training_ = wgan_gp.training(
            Generator(size, channels, self.width, 4),
            Critic(size, self.width, 4),
            self.config,
        )
        batch = self.config.critic_steps * self.config.batch_size
        return fitted(run, key, "prior", training_, images, batch, self.steps)


Null = Callable[[jax.Array, TrainTest, Dataset | None], TrainTest]
Judges = Callable[
    [Run, judging.Judge | None, TrainTest, Dataset | None],
    tuple[list[judging.Judge], list[str]],
]


@dataclasses.dataclass(frozen=True)
class Study:
    """One experiment.

    Attributes:
      title: what it is, for the page's heading.
      data: who is private, from `--dataset` and the data folder.
      target: the attacked classifier.
      evaluator: one that knows everyone, and judges; None for none.
      judges: feature spaces for 1-NN identification, and why some are not at hand;
        the verdict is the lowest of those that share no layers or data with the target.
      attacks: by the name that the table's row bears.
      nulls: what a target is trained on that cannot leak, by `--null`.
      null_rows: the nulls whose targets the first attack is run on too, as rows.
      glimpses: what is seen of a private image, by `--glimpse`.
      blind: fields of the first attack's `Config` with which it ignores the target: the
        baseline where there is a glimpse.
      prior: that is trained where the data have no shipped one.
      victims: how many identities are attacked, the first; None for all.
      repeats: reconstructions of each identity.
      anchors: images drawn from the prior, as public ones.
      published: the paper's number, by the attack's name and the metric.
      differences: of set-up from the paper's, one a line.
    """

    title: str
    data: Callable[[str | None, str | None], World]
    target: Model | FineTuned
    evaluator: Model | None
    judges: Judges
    attacks: Mapping[str, Attack]
    nulls: Mapping[str, Null] = dataclasses.field(default_factory=dict)
    null_rows: tuple[str, ...] = ()
    glimpses: Mapping[str, Callable[[Any], Glimpse]] = dataclasses.field(
        default_factory=dict
    )
    blind: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    prior: Drawn | None = None
    victims: int | None = None
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
        "num_victims",
        None,
        "How many identities to attack, from the first on.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "num_shown", 10, "Identities in the figure: the first.", lower_bound=1
    )
    flags.DEFINE_multi_enum(
        "attacks", None, list(every), "Attacks to run; default: all."
    )
    flags.DEFINE_bool(
        "oracles", False, "Judge searches that see the private images too."
    )
    flags.DEFINE_integer(
        "seeds",
        None,
        "Reconstructions of each identity, each of a key of its own, in one program.",
        lower_bound=1,
    )
    for flag, options, about in (
        ("null", studies[0].nulls, "Attack a target that cannot leak."),
        ("glimpse", studies[0].glimpses, "What is seen of a private image."),
    ):
        if options:
            flags.DEFINE_enum(flag, "none", ["none", *options], about)
    target = common.from_config(studies[0].target, "target")
    judge = next((s.evaluator for s in studies if s.evaluator is not None), None)
    evaluator = judge and common.from_config(judge, "evaluator")
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
            evaluator=study.evaluator and evaluator and evaluator(study.evaluator),
            repeats=flags.FLAGS.seeds or study.repeats,
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
    run: Run, own: judging.Judge | None, private: TrainTest, public: Dataset | None
) -> tuple[list[judging.Judge], list[str]]:
    """The evaluator, and the public face networks that are at hand."""
    found, absent = judging.face_networks(
        run.data_dir, run.workdir, private.train, public
    )
    return [*([own] if own else []), *found], absent


def by_faces_of_private(
    run: Run, own: judging.Judge | None, private: TrainTest, public: Dataset | None
) -> tuple[list[judging.Judge], list[str]]:
    """As `by_faces`, among the private people alone, which takes less time."""
    del public
    return by_faces(run, own, private, None)


def by_pixels(
    run: Run, own: judging.Judge | None, private: TrainTest, public: Dataset | None
) -> tuple[list[judging.Judge], list[str]]:
    """The evaluator, and raw pixels."""
    del run
    raw = judging.pixels(private.train, public)
    return [*([own] if own else []), raw], []


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
    student_key, prior_key, drawn_key = (
        jax.random.fold_in(keys["attack"], number) for number in (1, 2, 3)
    )

    def trained_on(null: str, name: str) -> tuple[Target, np.ndarray]:
        known = private
        if null != "none":
            known = study.nulls[null](keys["null"], private, world.public)
        return study.target.train(run, keys["target"], name, known, world)

    target, target_hits = trained_on(null, "target")
    results = Results([Record({}, "target_test_accuracy", report.metric(target_hits))])
    own = None
    if study.evaluator is not None:
        own, hits = expert(run, keys["evaluator"], study.evaluator, world, private)
        results += Results([Record({}, "evaluator_test_accuracy", report.metric(hits))])

    classes = np.arange(len(world.private.names), dtype=np.int32)
    labels = np.repeat(classes[: values.num_victims or study.victims], study.repeats)
    if world.prior is not None:
        prior = mijax.priors.load(world.prior)
    else:
        assert study.prior is not None and world.public is not None
        prior = study.prior.train(run, drawn_key, world.public.images)
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
    blind = {
        name: dataclasses.replace(knowledge, target=trained_on(name, f"null_{name}")[0])
        for name in study.null_rows
    }
    shown = anchors if world.public is None else world.public.images

    def taught(name: str, attack: Attack, known: WhiteBox) -> WhiteBox:
        if attack.sketched:
            known = dataclasses.replace(known, decoder=template_decoder.load())
            sketch = template_inversion.attack(keys["attack"], known).x
            known = dataclasses.replace(known, sketch=sketch)
        students = []
        for index, student in enumerate(attack.students):
            own = f"student_{index}_{name}"
            own_key = jax.random.fold_in(student_key, zlib.crc32(own.encode()))
            students.append(student.distill(run, own_key, own, known, shown))
        if attack.prior is not None:
            assert world.prior is not None
            own = f"prior_{attack.name}{'' if name in study.attacks else f'_{name}'}"
            known = with_prior(run, prior_key, own, attack, known, world.prior, shown)
        return dataclasses.replace(known, surrogates=tuple(students))

    found = attack(run, keys["attack"], study, knowledge, blind, taught)
    judges, absent = study.judges(run, own and own.judge, private, world.public)
    oracle = {}
    if values.oracles:
        faces = world.private.images if world.public is None else world.public.images
        oracle = {
            "oracle_pixels": oracles.by_pixels(prior, np.asarray(z), drawn, subjects),
            "oracle_eigenfaces": oracles.by_eigenfaces(
                faces, subjects, prior.latent_size
            ),
        } | {
            f"oracle_sample_{j.name}": oracles.by_features(j, drawn, labels)
            for j in judges
        }
    measured = Measured(
        images_of(study, found, world.mirror)
        | oracle
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
    features = {
        judge.name: {row: judge.features(x) for row, x in measured.images.items()}
        for judge in judges
    }
    results += Results(judged(study, measured, target, own, judges, features))
    verdict = strongest(study, results, judges, study.target.provenance(world.name))
    main = next(judge for judge in judges if judge.name == verdict.judge)
    results += Results(
        [
            *distributions(measured, main, features[main.name]),
            *paired(study, measured),
        ]
    )
    lead, *pictures = draw(run, study, measured, world, main, results)
    table = Results(
        [
            *results.filter(metric="identity_1nn", among="private", by="nearest image"),
            *results.filter(metric=("top1", "top5", "psnr", "ssim")),
            *results.filter(metric="success_rate"),
        ]
    ).pivot(rows=("images",), columns=("metric", "judge"))
    return report.Page(
        title=f"{study.title} against {world.name}"
        + ("" if null == "none" else f" (null case: {null})"),
        verdict=in_words(study, results, verdict, len(labels), len(classes)),
        lead=lead,
        caption=f"How well each method recovers the {len(labels)} victims: by the "
        f"nearest real image of {len(classes)} people in each judge's features, and by "
        "classifiers",
        table=table,
        attacked=f"{study.target.about(len(classes))} private identities, "
        f"{world.name}; {len(private.train)} training images. "
        f"{_NULLS_IN_WORDS.get(null, null)}",
        knowledge=f"White box: parameters and architecture; the "
        f"{f'shipped prior {world.prior}' if world.prior else 'own prior'} (trained on "
        f"nothing private) and {study.anchors} samples of it. {_SEEN[seen]} "
        "Restarts are chosen by the attack's own loss.",
        baseline="random latents of the same prior, judged alike; for psnr and ssim, "
        "the prior's own inpainting.",
        n=len(labels),
        results=results,
        pictures=pictures,
        differences=study.differences,
        caveats=caveats(judges, absent, verdict, world),
    )


_SEEN = {
    "none": "No private image.",
    "blur": "Each victim's first private image, as means of 4x4 pixels.",
    "center": "Each victim's first private image, but for its middle.",
    "t": "Each victim's first private image, but for eyes, nose and mouth.",
}


class Expert(NamedTuple):
    """The evaluator: a classifier of everyone, and the judge in its features."""

    classifier: Target
    judge: judging.Judge


def expert(
    run: Run, key: jax.Array, model: Model, world: World, private: TrainTest
) -> tuple[Expert, np.ndarray]:
    """Trains the evaluator on private people and public ones; and its hits."""
    known = private
    if world.public is not None:
        joint = data.evaluation(world.private, world.public, at_least=world.enough)
        known = data.train_test(joint, test_fraction=0.2, seed=run.seed)
    classifier, hits = model.train(run, key, "evaluator", known, world)
    judge = judging.evaluator(
        "evaluator",
        model.provenance(world.name),
        classifier,
        private.train,
        world.public,
    )
    return Expert(classifier, judge), hits


def attack(
    run: Run,
    key: jax.Array,
    study: Study,
    knowledge: WhiteBox,
    blind: Mapping[str, WhiteBox],
    taught: Callable[[str, Attack, WhiteBox], WhiteBox],
) -> dict[str, dict[str, np.ndarray]]:
    """Runs the attacks; the first also on the null targets, and to inpaint a glimpse.

    Args:
      run: where results are kept.
      key: the same for every attack.
      study: the attacks.
      knowledge: of the target.
      blind: of the null targets.
      taught: `(name, attack, knowledge)` with the students that the attack needs.

    Returns:
      The fields of each row's `Reconstruction`, by the row's name.
    """
    compiled = {
        a.name: programs.over_victims(a.method.attack, knowledge.victims)
        for a in study.attacks.values()
    }
    first = next(iter(study.attacks.values()))
    rows = {name: (a, knowledge) for name, a in study.attacks.items()}
    rows |= {f"null_{name}": (first, known) for name, known in blind.items()}
    if knowledge.glimpse is not None:
        config = dataclasses.replace(first.config, **study.blind)
        rows[INPAINTED] = dataclasses.replace(first, config=config), knowledge

    def compute(name: str) -> dict[str, Any]:
        print(f"attack: {name}", flush=True)
        chosen, known = rows[name]
        known = taught(name, chosen, known)
        result, seconds = compiled[chosen.name](key, known, chosen.config)
        arrays = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
        return {k: v for k, v in arrays.items() if v is not None} | seconds

    return {name: run.once(name, lambda name=name: compute(name)) for name in rows}


def with_prior(
    run: Run,
    key: jax.Array,
    name: str,
    attack: Attack,
    knowledge: WhiteBox,
    shipped: str,
    images: np.ndarray,
) -> WhiteBox:
    """Trains an attack's own prior on public images, from its last checkpoint."""
    taught = attack.prior
    assert taught is not None
    sizes = mijax.priors.card(shipped)["networks"]
    generator, critic, _ = mijax.priors.networks(sizes)
    own = taught.networks(generator, critic, knowledge.target.num_classes)
    start = None if taught.fresh else knowledge.prior
    training_ = attack.method.prior(knowledge, *own, taught.config, start)
    config, known = taught.config, taught.data(knowledge, images)
    batch = config.critic_steps * config.batch_size
    own_key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    prior = fitted(run, own_key, name, training_, known, batch, taught.steps)
    return dataclasses.replace(knowledge, prior=prior)


def images_of(
    study: Study, found: Mapping[str, Mapping[str, np.ndarray]], mirror: bool
) -> dict[str, np.ndarray]:
    """The images of each row; of an aggregated attack, its restarts' mean too.

    The nulls are of the first attack.
    """
    fields = [f.name for f in dataclasses.fields(Reconstruction)]
    first = next(iter(study.attacks.values()))
    of_null = {f"null_{name}": first for name in study.null_rows}
    rows = {}
    for name, arrays in found.items():
        rows[name] = arrays["x"]
        attack = {**study.attacks, **of_null}.get(name)
        if attack is not None and attack.aggregated:
            parts = {k: jnp.asarray(v) for k, v in arrays.items() if k in fields}
            mean = aggregation.mean(Reconstruction(**parts), mirror=mirror)
            rows[f"{name}_mean"] = np.asarray(mean)
    return rows


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
    own: Expert | None,
    judges: Sequence[judging.Judge],
    features: Mapping[str, Mapping[str, np.ndarray]],
) -> list[Record]:
    """Every metric of every row of images, compared with random latents.

    Args:
      study: the attacks and the paper's numbers.
      measured: the images.
      target: which also judges its own images: `success_rate`.
      own: the evaluator.
      judges: feature spaces.
      features: of the images, by judge and row.
    """
    labels = measured.labels
    clusters = labels if len(np.unique(labels)) < len(labels) else None
    records = []

    def record(
        metric: str, measure: Callable[[np.ndarray], np.ndarray], of: Any, **about: str
    ) -> None:
        values = {row: measure(x) for row, x in of.items()}
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

    def logits(classifier: Target) -> dict[str, np.ndarray]:
        predict = judging.batched(lambda x: classifier.predict(x).logits)
        return {row: predict(x) for row, x in measured.images.items()}

    def top(k: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda logits: identity.top_k(logits, labels, k)

    if own is not None:
        predicted = logits(own.classifier)
        record("top1", top(1), predicted, judge="evaluator")
        if own.classifier.num_classes > 5:
            record("top5", top(5), predicted, judge="evaluator")
    for judge in judges:
        seen = features[judge.name]
        for among in ("everyone", "private") if judge.knows_everyone else ("private",):
            record(
                "identity_1nn",
                lambda x, judge=judge, among=among: judge.nearest(x, labels, among),
                seen,
                judge=judge.name,
                among=among,
                by="nearest image",
            )
        record(
            "identity_1nn",
            lambda x, judge=judge: judge.nearest_mean(x, labels),
            seen,
            judge=judge.name,
            among="private",
            by="nearest mean",
        )
        for metric in ("knn_distance", "feature_distance"):
            record(
                metric,
                lambda x, distance=getattr(judge, metric): distance(x, labels),
                seen,
                judge=judge.name,
            )
    record("success_rate", top(1), logits(target), judge="target")
    return records


def distributions(
    measured: Measured, judge: judging.Judge, features: Mapping[str, np.ndarray]
) -> list[Record]:
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
    for row in measured.images:
        fake = (features[row] - center) @ directions
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


class Verdict(NamedTuple):
    """Who is believed.

    Attributes:
      attack: the row that is named most often by the judge who names it least often.
      judge: that judge, of those that share nothing with the target.
      related: what each of the other judges shares with the target.
    """

    attack: str
    judge: str
    related: Mapping[str, Sequence[str]]


def strongest(
    study: Study, results: Results, judges: Sequence[judging.Judge], target: Provenance
) -> Verdict:
    """The strongest attack, by the lowest of the judges that are unrelated to it.

    What shares its design or data with a student is no more believed than what shares
    them with the target.
    Where each judge shares something with the target, the last one judges.
    """
    made_of = [target]
    made_of += [s.provenance() for a in study.attacks.values() for s in a.students]
    related = {
        judge.name: tuple(
            sorted(
                {w for own in made_of for w in evaluation.shared(judge.provenance, own)}
            )
        )
        for judge in judges
    }
    heard = [j.name for j in judges if not related[j.name]] or [judges[-1].name]
    rows = [
        row
        for name, attack in study.attacks.items()
        for row in (name, f"{name}_mean")[: 1 + attack.aggregated]
    ]

    def identified(row: str, judge: str) -> float:
        return _identified(results, row, judge).value

    best = max(rows, key=lambda row: min(identified(row, judge) for judge in heard))
    judge = min(heard, key=lambda judge: identified(best, judge))
    return Verdict(best, judge, {name: what for name, what in related.items() if what})


def _identified(results: Results, row: str, judge: str) -> Metric:
    return results.value(
        "identity_1nn", images=row, judge=judge, among="private", by="nearest image"
    )


def in_words(
    study: Study, results: Results, verdict: Verdict, victims: int, people: int
) -> str:
    """What the strongest attack recovers, compared with no target and with reality."""

    def percent(x: float | None) -> str:
        return "-" if x is None else f"{100 * x:.0f}"

    def of(row: str) -> str:
        return percent(_identified(results, row, verdict.judge).value)

    line = _identified(results, verdict.attack, verdict.judge)
    first = next(iter(study.attacks))
    mean = "_mean" if verdict.attack == f"{first}_mean" else ""
    same = "the same attack" if verdict.attack == first + mean else first
    nulls = "".join(
        f", {same} on a target that cannot leak ({name}) {of(f'null_{name}{mean}')}"
        for name in study.null_rows
    )
    trust = (
        "which shares layers or data with the target"
        if verdict.judge in verdict.related
        else "a network that shares neither layers nor data with the target"
    )
    return (
        f"From the images of {verdict.attack.replace('_', ' ')}, {verdict.judge} "
        f"({trust}) names the right one of {people} people for {percent(line.value)} % "
        f"of {victims} victims (95 % interval {percent(line.low)} to "
        f"{percent(line.high)} %). Random images of the same prior, which need no "
        f"target, reach {of(RANDOM)} %{nulls}, and real held-out images {of(REAL)} %."
    )


def caveats(
    judges: Sequence[judging.Judge],
    absent: Sequence[str],
    verdict: Verdict,
    world: World,
) -> list[str]:
    """What a reader must know before quoting a figure of this page."""
    lines = [
        "success_rate is the attacked model's own verdict. It is near 1 for any "
        "attack, MI-Face's noise included, and says nothing of likeness: read "
        "identity_1nn.",
        "surest_sample also uses the target: of the samples drawn from the prior, "
        "the one that it is surest of, with no search at all.",
    ]
    lines += [
        f"{name} shares its {' and '.join(what)} with the target or a student, which "
        "flatters."
        for name, what in verdict.related.items()
    ]
    lines += [
        f"identity_1nn of {judge.name} among everyone is among "
        f"{judge.labels.max() + 1:,} identities."
        for judge in judges
        if judge.knows_everyone
    ]
    if verdict.judge in verdict.related:
        lines.append(
            "No judge at hand is unrelated to the target: install the packages of the "
            "extra `judges`, or give --data_dir with MobileFaceNet's weights."
        )
    if world.public is None:
        lines.append(
            "This data set has no public part: an evaluator would know private people "
            "alone, which flatters every attack."
        )
    return [*lines, *absent]


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
    caption = f"The first {len(first)} identities, none chosen."
    if world.public is not None and judge.knows_everyone:
        caption += (
            " The nearest public image is chosen with the private one in hand: no "
            "adversary can."
        )
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
        if name not in study.attacks or study.attacks[name].method is first_method
    }
    pictures = [report.Picture(recovered, caption)]
    lines = results.filter(
        metric="identity_1nn", judge=judge.name, among="private", by="nearest image"
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
