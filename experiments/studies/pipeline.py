"""Payloads in models: malicious training code hides training data, and reads them.

A `Study` says which `Content` is hidden in which network, and by which `Hiding`s. Each
is judged by how much of it comes back, and by what it costs in accuracy.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from scipy.stats import kstest

from experiments.harness import figures, report
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from mijax import data
from mijax.attacks import (
    capacity_abuse,
    correlated_values,
    least_significant_bits,
    sign_encoding,
)
from mijax.core import Coding, Defense, Objective, Target, to_bits
from mijax.data import Dataset, TrainTest
from mijax.defenses.released_weights import released
from mijax.knowledge import Labels, TrainingPipeline

_LEVELS = 255  # a pixel's gray levels, less one
_LABEL_BITS = 3  # leading bits of a pixel that labels carry
PATIENCE = 4  # noise is memorized in so many times the steps of the task


class Content(Protocol):
    """What is hidden, and how it is spelled and judged."""

    @property
    def measure(self) -> str:
        """The metric of what comes back, the first that `judged` tells."""
        ...

    @property
    def mean(self) -> float:
        """The mean of the numbers that spell such content."""
        ...

    @property
    def deviation(self) -> float:
        """Their standard deviation."""
        ...

    def bits(self, number: int, brief: bool = False) -> jax.Array:
        """The first `number` things in bits; `brief` leaves out the least of them."""
        ...

    def of_bits(self, bits: np.ndarray, brief: bool = False) -> np.ndarray:
        """What bits spell, `[n, ...]`."""
        ...

    def numbers(self, number: int) -> jax.Array:
        """The first `number` things in numbers, one for each weight."""
        ...

    def of_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """What numbers spell, `[n, ...]`."""
        ...

    def judged(
        self, labels: Mapping[str, str], found: np.ndarray, paper: float | None
    ) -> list[Record]:
        """How much of the first things is in what was found, `[n, ...]`."""
        ...

    def picture(
        self, run: Run, results: Results, shown: Mapping[str, np.ndarray]
    ) -> report.Picture:
        """What was found by each method."""
        ...


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What the malicious training code works with.

    Attributes:
      train: `(name, transformation, extra) -> (target, hits [N])`: trains the study's
        network with an optax transformation before its optimizer, and with extra
        examples `(x, labels)` appended; None for neither.
      content: private training data.
      clean: the network that was trained without malicious code, and its hits.
    """

    train: Callable[..., tuple[Target, np.ndarray]]
    content: Content
    clean: tuple[Target, np.ndarray]


@dataclasses.dataclass(frozen=True)
class World(Trainer):
    """What becomes of a network besides.

    Attributes:
      audits: networks that an auditor trained without malicious code, from other keys.
      fine_tune: `(name, target, steps) -> target`: trains it further as the clean one.
    """

    audits: Sequence[Target]
    fine_tune: Callable[[str, Target, int], Target]


Read = Callable[[Target], tuple[np.ndarray, np.ndarray | None]]
Load = Callable[[Run, "Study"], tuple[TrainTest, Content]]
Select = Callable[[Dataset, str | None], Dataset]


@dataclasses.dataclass(frozen=True)
class Found:
    """A model that carries a payload.

    Attributes:
      target: the model.
      hits: whether it is right about each test image, `[N]`.
      read: what the adversary reads in a released model: the content `[n, ...]`, and
        whether each bit came back right; None where numbers are hidden, not bits.
    """

    target: Target
    hits: np.ndarray
    read: Read


Hiding = Callable[[Trainer, str], Found]
Change = Callable[[World, Target, str], Target]


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      dataset: of `mijax.data.load`, where `--dataset` is not given.
      network: from the number of classes.
      size: the side of an image; None for the data set's own.
      hidings: by method and strength, such as `("sign encoding", "50")`.
      load: reads the examples and the content.
      select: which images are used, and their labels, from the data set and the folder
        of data; None for all, as they are.
      objective: in place of the cross-entropy; None for that.
      examples: images that are used, a test split among them; None for all.
      steps: of training.
      batch_size: examples a step.
      learning_rate: of Adam.
      audited: clean networks of other keys, to whose weights a model's are compared.
      defended: those of `hidings` whose model is defended before its release.
      defenses: by name and strength, a number: what is done to it.
      differences: from the paper's set-up.
      published: `(method, strength, metric)` to the paper's number.
    """

    title: str
    dataset: str
    network: Callable[[int], nn.Module]
    hidings: Mapping[tuple[str, str], Hiding]
    load: Load = lambda run, study: images(run, study)
    size: int | None = None
    select: Select | None = None
    objective: Callable[[Objective], Objective] | None = None
    examples: int | None = None
    steps: int = 1_500
    batch_size: int = 64
    learning_rate: float = 1e-3
    audited: int = 2
    defended: tuple[tuple[str, str], ...] = ()
    defenses: Mapping[tuple[str, str], Change] = dataclasses.field(default_factory=dict)
    differences: tuple[str, ...] = ()
    published: Mapping[tuple[str, str, str], float] = dataclasses.field(
        default_factory=dict
    )


# How content is hidden ----------------------------------------------------------------


def low_bits(size: int, number: int, coding: Coding | None = None) -> Hiding:
    """In the `size` lowest bits of each weight of the clean model."""
    config = least_significant_bits.Config(bits_per_weight=size)

    def hide(world: Trainer, name: str) -> Found:
        del name
        (clean, _), sent = world.clean, _coded(world, number, coding)
        written = least_significant_bits.embed(clean.trained, sent, config)

        def read(target: Target) -> tuple[np.ndarray, np.ndarray]:
            known = TrainingPipeline(target, len(sent))
            key = jax.random.key(0)
            found = least_significant_bits.attack(key, known, config).values
            return _decoded(world, found, number, coding), np.asarray(found == sent)

        return Found(clean.with_trained(written), np.zeros(0), read)

    return hide


def signs(weight: float, number: int, coding: Coding | None = None) -> Hiding:
    """In the signs of the weights, a bit per weight."""
    config = sign_encoding.Config(weight=weight)

    def hide(world: Trainer, name: str) -> Found:
        sent = _coded(world, number, coding)
        malicious = sign_encoding.malicious_gradient(sent, config)

        def read(target: Target) -> tuple[np.ndarray, np.ndarray]:
            known = TrainingPipeline(target, len(sent))
            found = sign_encoding.attack(jax.random.key(0), known, config).values
            return _decoded(world, found, number, coding), np.asarray(found == sent)

        return Found(*_malicious(world, name, malicious, weight), read)

    return hide


def correlation(weight: float, number: int) -> Hiding:
    """In weights that are correlated with numbers, a number per weight."""

    def hide(world: Trainer, name: str) -> Found:
        content = world.content
        config = correlated_values.Config(weight, content.mean, content.deviation)
        sent = content.numbers(number)
        malicious = correlated_values.malicious_gradient(sent, config)

        def read(target: Target) -> tuple[np.ndarray, None]:
            known = TrainingPipeline(target, len(sent))
            found = correlated_values.attack(jax.random.key(0), known, config).values
            return content.of_numbers(np.asarray(found)), None

        return Found(*_malicious(world, name, malicious, weight), read)

    return hide


def labels(number: int) -> Hiding:
    """In the labels of synthetic inputs, the leading bits of what is hidden."""

    def hide(world: Trainer, name: str) -> Found:
        clean, _ = world.clean
        sent = world.content.bits(number, brief=True)
        config = capacity_abuse.Config(length=len(sent))
        extra = capacity_abuse.synthetic(clean.shape, clean.num_classes, sent, config)

        def read(target: Target) -> tuple[np.ndarray, np.ndarray]:
            box = Labels.of(target, jnp.zeros(1, jnp.int32))
            found = capacity_abuse.attack(jax.random.key(0), box, config).values
            content = world.content.of_bits(np.asarray(found), brief=True)
            return content, np.asarray(found == sent)

        return Found(*world.train(name, None, extra), read)

    return hide


def _malicious(
    world: Trainer,
    name: str,
    transformation: optax.GradientTransformation,
    weight: float,
) -> tuple[Target, np.ndarray]:
    """The model that malicious code trains; without its penalty, the clean one."""
    return world.train(name, transformation, None) if weight else world.clean


def _coded(world: Trainer, number: int, coding: Coding | None) -> jax.Array:
    bits = world.content.bits(number)
    if coding is None:
        return bits
    return coding.encode(np.packbits(np.asarray(bits, np.uint8)).tobytes())


def _decoded(
    world: Trainer, found: jax.Array, number: int, coding: Coding | None
) -> np.ndarray:
    """What was read; where the coding cannot be undone, what no bit spells."""
    size = len(world.content.bits(number))
    if coding is None:
        return world.content.of_bits(np.asarray(found))
    try:
        bits = np.asarray(to_bits(coding.decode(found)))[:size]
    except ValueError:
        bits = np.zeros(size)
    return world.content.of_bits(bits)


# How released models are defended -----------------------------------------------------


def through(defense: Defense) -> Change:
    """The weights go through a defense of updates before their release."""

    def change(world: World, target: Target, name: str) -> Target:
        del world, name
        return target.with_trained(released(defense, target.trained))

    return change


def fine_tuning(steps: int) -> Change:
    """The model is trained further, on the private images alone."""

    def change(world: World, target: Target, name: str) -> Target:
        return world.fine_tune(name, target, steps)

    return change


# What is hidden -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Images:
    """Gray images `[N, H, W, 1]`, a number a pixel.

    Attributes:
      pixels: gray levels 0 to 255.
      guess: the mean of other images, `[1, H, W, 1]`.
      mean: of pixels of other images.
      deviation: their standard deviation.
      measure: the mean absolute error.
    """

    pixels: np.ndarray
    guess: np.ndarray
    mean: float
    deviation: float
    measure: str = "mape"

    def bits(self, number: int, brief: bool = False) -> jax.Array:
        """The leading bits of each gray level, `[n * 8]`, or 3 of them."""
        kept = _LABEL_BITS if brief else 8
        places = jnp.arange(7, 7 - kept, -1)[None]
        levels = jnp.asarray(self.pixels[:number], jnp.int32).reshape(-1, 1)
        return (levels >> places & 1).reshape(-1).astype(jnp.float32)

    def of_bits(self, bits: np.ndarray, brief: bool = False) -> np.ndarray:
        """Gray levels of their leading bits; the others are set to their middle."""
        kept = _LABEL_BITS if brief else 8
        places = 2.0 ** np.arange(7, 7 - kept, -1)
        levels = bits.reshape(-1, kept) @ places + (2 ** (8 - kept) - 1) / 2
        return levels.reshape(-1, *self.pixels.shape[1:])

    def numbers(self, number: int) -> jax.Array:
        """Gray levels, `[n]`."""
        return jnp.ravel(jnp.asarray(self.pixels[:number], jnp.float32))

    def of_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """Gray levels within their range."""
        return np.clip(numbers, 0, _LEVELS).reshape(-1, *self.pixels.shape[1:])

    def judged(
        self, labels: Mapping[str, str], found: np.ndarray, paper: float | None
    ) -> list[Record]:
        """The error of a pixel, beside that of the mean image."""
        truth = self.pixels[: len(found)].astype(float)
        guess = np.broadcast_to(self.guess, truth.shape)
        error = metric(
            _error(found, truth),
            baseline=_error(guess, truth),
            perfect=0.0,
            paper=paper,
        )
        return [Record(labels, "mape", error)]

    def picture(
        self, run: Run, results: Results, shown: Mapping[str, np.ndarray]
    ) -> report.Picture:
        """The first images beside what was read."""
        first = min(10, *(len(found) for found in shown.values() if len(found) > 3))
        rows = [("private", self.pixels[:first] / _LEVELS)]
        for name, found in shown.items():
            padded = np.zeros((first, *found.shape[1:]))
            padded[: min(first, len(found))] = found[:first] / _LEVELS
            rows.append((name, padded))
        path = run.figures / "recovered.png"
        figures.image_grid(rows, path)
        return report.Picture(
            path,
            f"The first {first} private images that were hidden, and what was read "
            "back; black where a method hides fewer.",
        )


def images(run: Run, study: Study) -> tuple[TrainTest, Images]:
    """Images to train on, which are hidden in an order that the seed draws."""
    loaded = data.load(
        run.dataset or study.dataset, data_dir=run.data_dir, size=study.size
    )
    if study.select is not None:
        loaded = study.select(loaded, run.data_dir)
    if study.examples is not None:
        rows = np.random.default_rng(run.seed).permutation(len(loaded))
        rows = rows[: study.examples]
        loaded = dataclasses.replace(
            loaded, images=loaded.images[rows], labels=loaded.labels[rows]
        )
    split = data.train_test(loaded, test_fraction=0.2, seed=run.seed)
    gray = [part.images.mean(-1, keepdims=True) for part in (split.train, split.test)]
    pixels, others = (np.round(part * _LEVELS) for part in gray)
    order = np.random.default_rng(run.seed).permutation(len(pixels))
    guess = others.mean(0, keepdims=True)
    mean, deviation = float(others.mean()), float(others.std())
    return split, Images(pixels[order].astype(np.uint8), guess, mean, deviation)


# The run ------------------------------------------------------------------------------


def measure(run: Run, study: Study) -> report.Page:
    """Trains, hides, reads back, and tells."""
    split, content = study.load(run, study)
    world = _world(run, study, split, content)
    records, shown = [], {}
    clean = np.asarray(world.clean[1], float)
    records.append(Record({"method": "none"}, "target_test_accuracy", metric(clean)))
    for (method, strength), hide in study.hidings.items():
        found = hide(world, f"{method} {strength}".replace(" ", "_"))
        hits = found.hits if found.hits.size else _hits(found.target, split.test)
        own = {"method": method, "strength": strength}
        paper = study.published.get((method, strength, content.measure))
        things, bits = found.read(found.target)
        shown[f"{method} {strength}"] = things
        records += _records(own, things, bits, hits, world, paper)
        if world.audits:
            distance = metric(
                [_distance(found.target, world)],
                baseline=[_distance(world.clean[0], world)],
            )
            records.append(Record(own, "weight_distance", distance))
        if (method, strength) not in study.defended:
            continue
        for (defense, level), change in study.defenses.items():
            name = f"{method} {strength} {defense} {level}".replace(" ", "_")
            target = change(world, found.target, name)
            hits = _hits(target, split.test)
            labels = {**own, "defense": defense, "level": level}
            records += _records(labels, *found.read(target), hits, world)
    return _page(run, study, split, world, Results(records), shown)


def _records(
    labels: Mapping[str, str],
    found: np.ndarray,
    bits: np.ndarray | None,
    hits: np.ndarray,
    world: World,
    paper: float | None = None,
) -> list[Record]:
    """How much of the payload came back, and what the model is worth."""
    accuracy = metric(hits, baseline=np.asarray(world.clean[1], float))
    records = [
        Record(labels, "target_test_accuracy", accuracy),
        *world.content.judged(labels, found, paper),
    ]
    if bits is not None:
        wrong = metric(1.0 - bits, baseline=[0.5], perfect=0.0)
        records.append(Record(labels, "bit_error_rate", wrong))
    return records


def _distance(target: Target, world: World) -> float:
    """From a model's weights to those of the nearest of the auditor's.

    It is the Kolmogorov-Smirnov distance of the layer where it is largest.
    """

    def between(other: Target) -> float:
        layers = zip(
            jax.tree.leaves(target.trained),
            jax.tree.leaves(other.trained),
            strict=True,
        )
        return max(
            float(kstest(np.ravel(a), np.ravel(b), method="asymp").statistic)
            for a, b in layers
            if a.ndim > 1
        )

    return min(between(audit) for audit in world.audits)


def _world(run: Run, study: Study, split: TrainTest, content: Content) -> World:
    module = study.network(len(split.train.names))
    key = run.keys("train")["train"]
    adam = optax.adam(study.learning_rate)

    def train(
        name: str,
        transformation: optax.GradientTransformation | None,
        extra: Any,
        key: jax.Array = key,
    ) -> tuple[Target, np.ndarray]:
        images = split
        if extra is not None:
            x, labels = (np.asarray(part) for part in extra)
            longer = dataclasses.replace(
                split.train,
                images=np.concatenate([split.train.images, x.astype(np.float32)]),
                labels=np.concatenate([split.train.labels, labels]),
            )
            images = TrainTest(longer, split.test)
        return run.train(
            key,
            name,
            module,
            images,
            optimizer=adam
            if transformation is None
            else optax.chain(transformation, adam),
            steps=study.steps if extra is None else PATIENCE * study.steps,
            batch_size=study.batch_size,
            objective=study.objective,
            chunk=500,
        )

    def fine_tune(name: str, target: Target, steps: int) -> Target:
        return run.train(
            key,
            name,
            module,
            split,
            optimizer=adam,
            steps=steps,
            batch_size=study.batch_size,
            objective=study.objective,
            variables=target.params,
            chunk=500,
        )[0]

    audits = [
        train(f"audit_{i}", None, None, jax.random.fold_in(key, i))[0]
        for i in range(study.audited)
    ]
    return World(train, content, train("clean", None, None), audits, fine_tune)


def _hits(target: Target, test: Dataset) -> np.ndarray:
    logits = jax.lax.map(
        lambda x: target.predict(x[None]).logits[0],
        jnp.asarray(test.images),
        batch_size=256,
    )
    return np.asarray(jnp.argmax(logits, 1) == test.labels, float)


def _error(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The mean absolute error of each image's pixels in gray levels, `[n]`."""
    return np.abs(images - truth).reshape(len(truth), -1).mean(1)


def _page(
    run: Run,
    study: Study,
    split: TrainTest,
    world: World,
    results: Results,
    shown: Mapping[str, np.ndarray],
) -> report.Page:
    content = world.content
    best = min(
        results.filter(metric=content.measure, defense=""),
        key=lambda record: -(record.value.leakage or 0.0),
    )
    accuracy = results.value("target_test_accuracy", **best.labels, defense="")
    clean = results.value("target_test_accuracy", method="none")
    how = f"{best.labels['method']}, {best.labels['strength']}"
    verdict = (
        f"Private training data come back with a {content.measure} of "
        f"{best.value.value:.3g} ({how}); a guess without the model has "
        f"{best.value.baseline:.3g}. The model that carries them has a test accuracy "
        f"of {accuracy.value:.3f}, one without malicious code {clean.value:.3f}."
    )
    return report.Page(
        title=study.title,
        verdict=verdict,
        lead=content.picture(run, results, shown),
        caption="By method and strength",
        table=results.filter(defense="").pivot(
            rows=("method", "strength"), columns=("metric",)
        ),
        attacked=f"A classifier of {split.train.name}, trained on "
        f"{len(split.train):,} examples by code that the adversary wrote.",
        knowledge="The released weights (capacity abuse: its predicted labels only), "
        "and what the training code's author knows: the method, its seed, and how much "
        "was hidden. No private record.",
        baseline="accuracy and weight_distance: the model trained without malicious "
        "code; what comes back: the mean of test records; bit_error_rate: guessing.",
        n=max(len(found) for found in shown.values()),
        results=results,
        pictures=_curves(run, study, content, results),
        tables=_tables(study, content, results),
        differences=study.differences,
        caveats=(
            "weight_distance is an auditor's, who trains "
            f"{study.audited} networks without malicious code: the distance to the "
            "nearest (Kolmogorov-Smirnov) in the layer where it is largest. The "
            "network without malicious code has "
            f"{_distance(world.clean[0], world):.3f}.",
        )
        if world.audits
        else (),
    )


def _curves(
    run: Run, study: Study, content: Content, results: Results
) -> list[report.Picture]:
    """The error of what is read back, by each defense's strength."""
    pictures = []
    baseline = next(iter(results.filter(metric=content.measure))).value.baseline
    for defense in dict.fromkeys(name for name, _ in study.defenses):
        levels = sorted(
            (level for name, level in study.defenses if name == defense), key=float
        )
        series = {}
        for method, strength in study.defended:
            values = [
                results.value(
                    content.measure,
                    method=method,
                    strength=strength,
                    defense=defense,
                    level=at,
                )
                for at in levels
            ]
            ends = [
                [v.value if e is None else e for e in (v.value, v.low, v.high)]
                for v in values
            ]
            series[f"{method} {strength}"] = np.array(ends)
        path = run.figures / f"{defense.replace(' ', '_')}.png"
        figures.lines(
            np.array([float(level) for level in levels]),
            series,
            path,
            xlabel=defense,
            ylabel=content.measure,
            baseline=baseline,
            baseline_label="a guess",
        )
        pictures.append(report.Picture(path, f"What is read back after {defense}."))
    return pictures


def _tables(study: Study, content: Content, results: Results) -> list[report.Table]:
    """Bits or levels read back wrong, and accuracy, by defense and method."""
    names = [f"{method} {strength}" for method, strength in study.defended]
    rows = []
    for defense, level in study.defenses:
        row: list[str | float | None] = [f"{defense} {level}"]
        for method, strength in study.defended:
            own = {"method": method, "strength": strength}
            own |= {"defense": defense, "level": level}
            row += [
                results.value(metric, **own).value
                for metric in (content.measure, "target_test_accuracy")
            ]
        rows.append(row)
    if not rows:
        return []
    heads = [
        f"{name}: {metric}"
        for name in names
        for metric in (content.measure, "accuracy")
    ]
    caption = f"Defended before the release: {content.measure}, accuracy"
    return [report.Table(caption, ["defense", *heads], rows)]
