"""Payloads in models: malicious training code hides training images, and reads them.

A `Study` says whose images are hidden in which network, and by which `Hiding`s. Each
is judged by how many bits and pixels come back, and by what it costs in accuracy.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.harness import figures, report
from experiments.harness import run as harness
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from mijax import data
from mijax.attacks import (
    capacity_abuse,
    correlated_values,
    least_significant_bits,
    sign_encoding,
)
from mijax.core import Defense, Target
from mijax.data import Dataset, TrainTest
from mijax.defenses.released_weights import released
from mijax.knowledge import Labels, TrainingPipeline

_LEVELS = 255  # a pixel's gray levels, less one
_LABEL_BITS = 3  # leading bits of a pixel that labels carry
_PATIENCE = 4  # noise is memorized in so many times the steps of the task


@dataclasses.dataclass(frozen=True)
class World:
    """What the malicious training code works with.

    Attributes:
      train: `(name, transformation, extra) -> (target, hits [N])`: trains the study's
        network with an optax transformation before its optimizer, and with extra
        examples `(x, labels)` appended; None for neither.
      pixels: private training images, `[N, H, W, 1]` in gray levels 0 to 255.
      mean: of pixels of such images.
      deviation: their standard deviation.
      clean: the network that was trained without malicious code, and its hits.
      fine_tune: `(name, target, steps) -> target`: trains it further as the clean one.
    """

    train: Callable[..., tuple[Target, np.ndarray]]
    pixels: np.ndarray
    mean: float
    deviation: float
    clean: tuple[Target, np.ndarray]
    fine_tune: Callable[[str, Target, int], Target]


Read = Callable[[Target], tuple[np.ndarray, np.ndarray | None]]


@dataclasses.dataclass(frozen=True)
class Found:
    """A model that carries a payload.

    Attributes:
      target: the model.
      hits: whether it is right about each test image, `[N]`.
      read: what the adversary reads in a released model: images `[n, H, W, 1]` in gray
        levels, and whether each bit came back right; None where numbers are hidden, not
        bits.
    """

    target: Target
    hits: np.ndarray
    read: Read


Hiding = Callable[[World, str], Found]
Change = Callable[[World, Target, str], Target]


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      dataset: of `mijax.data.load`, where `--dataset` is not given.
      network: from the number of classes.
      hidings: by method and strength, such as `("sign encoding", "50")`.
      steps: of training.
      batch_size: examples a step.
      learning_rate: of Adam.
      defended: those of `hidings` whose model is defended before its release.
      defenses: by name and strength, a number: what is done to it.
      differences: from the paper's set-up.
      published: `(method, strength, metric)` to the paper's number.
    """

    title: str
    dataset: str
    network: Callable[[int], nn.Module]
    hidings: Mapping[tuple[str, str], Hiding]
    steps: int = 1_500
    batch_size: int = 64
    learning_rate: float = 1e-3
    defended: tuple[tuple[str, str], ...] = ()
    defenses: Mapping[tuple[str, str], Change] = dataclasses.field(default_factory=dict)
    differences: tuple[str, ...] = ()
    published: Mapping[tuple[str, str, str], float] = dataclasses.field(
        default_factory=dict
    )


# How images are hidden ----------------------------------------------------------------


def low_bits(size: int, images: int) -> Hiding:
    """In the `size` lowest bits of each weight of the clean model."""
    config = least_significant_bits.Config(bits_per_weight=size)

    def hide(world: World, name: str) -> Found:
        del name
        (clean, _), sent = world.clean, _bits(world.pixels[:images])
        written = least_significant_bits.embed(clean.trained, sent, config)

        def read(target: Target) -> tuple[np.ndarray, np.ndarray]:
            known = TrainingPipeline(target, len(sent))
            key = jax.random.key(0)
            found = least_significant_bits.attack(key, known, config).values
            return _pixels(found, world), np.asarray(found == sent)

        return Found(clean.with_trained(written), np.zeros(0), read)

    return hide


def signs(weight: float, images: int) -> Hiding:
    """In the signs of the weights, a bit per weight."""
    config = sign_encoding.Config(weight=weight)

    def hide(world: World, name: str) -> Found:
        sent = _bits(world.pixels[:images])
        malicious = sign_encoding.malicious_gradient(sent, config)

        def read(target: Target) -> tuple[np.ndarray, np.ndarray]:
            known = TrainingPipeline(target, len(sent))
            found = sign_encoding.attack(jax.random.key(0), known, config).values
            return _pixels(found, world), np.asarray(found == sent)

        return Found(*world.train(name, malicious, None), read)

    return hide


def correlation(weight: float, images: int) -> Hiding:
    """In weights that are correlated with the pixels, a pixel per weight."""

    def hide(world: World, name: str) -> Found:
        config = correlated_values.Config(weight, world.mean, world.deviation)
        sent = jnp.ravel(jnp.asarray(world.pixels[:images], jnp.float32))
        malicious = correlated_values.malicious_gradient(sent, config)

        def read(target: Target) -> tuple[np.ndarray, None]:
            known = TrainingPipeline(target, len(sent))
            found = correlated_values.attack(jax.random.key(0), known, config).values
            levels = np.clip(np.asarray(found), 0, _LEVELS)
            return levels.reshape(-1, *world.pixels.shape[1:]), None

        return Found(*world.train(name, malicious, None), read)

    return hide


def labels(images: int) -> Hiding:
    """In the labels of synthetic inputs, a pixel's leading bits per label."""

    def hide(world: World, name: str) -> Found:
        clean, _ = world.clean
        sent = _bits(world.pixels[:images], _LABEL_BITS)
        config = capacity_abuse.Config(length=len(sent))
        extra = capacity_abuse.synthetic(clean.shape, clean.num_classes, sent, config)

        def read(target: Target) -> tuple[np.ndarray, np.ndarray]:
            box = Labels.of(target, jnp.zeros(1, jnp.int32))
            found = capacity_abuse.attack(jax.random.key(0), box, config).values
            return _pixels(found, world, _LABEL_BITS), np.asarray(found == sent)

        return Found(*world.train(name, None, extra), read)

    return hide


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


def _bits(pixels: np.ndarray, kept: int = 8) -> jax.Array:
    """The leading `kept` bits of each gray level, `[N * kept]`."""
    places = jnp.arange(7, 7 - kept, -1)[None]
    numbers = jnp.asarray(pixels, jnp.int32).reshape(-1, 1)
    return (numbers >> places & 1).reshape(-1).astype(jnp.float32)


def _pixels(bits: jax.Array, world: World, kept: int = 8) -> np.ndarray:
    """Gray levels of their leading bits; the others are set to their middle."""
    places = 2.0 ** np.arange(7, 7 - kept, -1)
    levels = np.asarray(bits).reshape(-1, kept) @ places + (2 ** (8 - kept) - 1) / 2
    return levels.reshape(-1, *world.pixels.shape[1:])


# The run ------------------------------------------------------------------------------


def main(name: str, *, quick: Study, paper: Study) -> Callable[[], None]:
    """Returns a paper's `main`."""
    return harness.main(
        name,
        quick={"images": quick},
        paper={"images": paper},
        changed=lambda study: study,
        measure=measure,
        free_mib=256,
    )


def measure(run: Run, study: Study) -> report.Page:
    """Trains, hides, reads back, and tells."""
    loaded = data.load(run.dataset or study.dataset, data_dir=run.data_dir)
    split = data.train_test(loaded, test_fraction=0.2, seed=run.seed)
    world = _world(run, study, split)
    records, shown = [], {}
    clean = np.asarray(world.clean[1], float)
    records.append(Record({"method": "none"}, "target_test_accuracy", metric(clean)))
    for (method, strength), hide in study.hidings.items():
        found = hide(world, f"{method} {strength}".replace(" ", "_"))
        hits = found.hits if found.hits.size else _hits(found.target, split.test)
        own = {"method": method, "strength": strength}
        paper = study.published.get((method, strength, "mape"))
        images, bits = found.read(found.target)
        shown[f"{method} {strength}"] = images
        records += _records(own, images, bits, hits, world, split, paper)
        if (method, strength) not in study.defended:
            continue
        for (defense, level), change in study.defenses.items():
            name = f"{method} {strength} {defense} {level}".replace(" ", "_")
            target = change(world, found.target, name)
            hits = _hits(target, split.test)
            labels = {**own, "defense": defense, "level": level}
            records += _records(labels, *found.read(target), hits, world, split)
    return _page(run, study, split, world, Results(records), shown)


def _records(
    labels: Mapping[str, str],
    images: np.ndarray,
    bits: np.ndarray | None,
    hits: np.ndarray,
    world: World,
    split: TrainTest,
    paper: float | None = None,
) -> list[Record]:
    """How much of the payload came back, and what the model is worth."""
    truth = world.pixels[: len(images)].astype(float)
    guess = np.broadcast_to(_mean_image(split.test), truth.shape)
    error = metric(
        _error(images, truth), baseline=_error(guess, truth), perfect=0.0, paper=paper
    )
    accuracy = metric(hits, baseline=np.asarray(world.clean[1], float))
    records = [
        Record(labels, "target_test_accuracy", accuracy),
        Record(labels, "mape", error),
    ]
    if bits is not None:
        wrong = metric(1.0 - bits, baseline=[0.5], perfect=0.0)
        records.append(Record(labels, "bit_error_rate", wrong))
    return records


def _world(run: Run, study: Study, split: TrainTest) -> World:
    module = study.network(len(split.train.names))
    key = run.keys("train")["train"]
    adam = optax.adam(study.learning_rate)

    def train(
        name: str, transformation: optax.GradientTransformation | None, extra: Any
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
            steps=study.steps if extra is None else _PATIENCE * study.steps,
            batch_size=study.batch_size,
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
            variables=target.params,
            chunk=500,
        )[0]

    pixels = np.round(split.train.images[..., :1] * _LEVELS).astype(np.uint8)
    order = np.random.default_rng(run.seed).permutation(len(pixels))
    others = split.test.images * _LEVELS
    return World(
        train,
        pixels[order],
        float(others.mean()),
        float(others.std()),
        train("clean", None, None),
        fine_tune,
    )


def _hits(target: Target, test: Dataset) -> np.ndarray:
    logits = jax.lax.map(
        lambda x: target.predict(x[None]).logits[0],
        jnp.asarray(test.images),
        batch_size=256,
    )
    return np.asarray(jnp.argmax(logits, 1) == test.labels, float)


def _mean_image(images: Dataset) -> np.ndarray:
    return images.images.mean(0, keepdims=True)[..., :1] * _LEVELS


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
    first = min(10, *(len(images) for images in shown.values() if len(images) > 3))
    rows = [("private", world.pixels[:first] / _LEVELS)]
    for name, images in shown.items():
        padded = np.zeros((first, *images.shape[1:]))
        padded[: min(first, len(images))] = images[:first] / _LEVELS
        rows.append((name, padded))
    path = run.figures / "recovered.png"
    figures.image_grid(rows, path)
    best = min(
        (record for record in results.filter(metric="mape", defense="")),
        key=lambda record: record.value.value,
    )
    accuracy = results.value("target_test_accuracy", **best.labels, defense="")
    clean = results.value("target_test_accuracy", method="none")
    verdict = (
        f"Private training images come back with an error of {best.value.value:.1f} "
        f"gray levels a pixel ({best.labels['method']}, {best.labels['strength']}); "
        f"the mean image has {best.value.baseline:.1f}. The model that carries them "
        f"has a test accuracy of {accuracy.value:.3f}, one without malicious code "
        f"{clean.value:.3f}."
    )
    return report.Page(
        title=study.title,
        verdict=verdict,
        lead=report.Picture(
            path,
            f"The first {first} private images that were hidden, and what was read "
            "back; black where a method hides fewer.",
        ),
        caption="By method and strength",
        table=results.filter(defense="").pivot(
            rows=("method", "strength"), columns=("metric",)
        ),
        attacked=f"A classifier of {split.train.name}, trained on "
        f"{len(split.train):,} images by code that the adversary wrote.",
        knowledge="The released weights (capacity abuse: its predicted labels only), "
        "and what the training code's author knows: the method, its seed, and how much "
        "was hidden. No private image.",
        baseline="accuracy: the model trained without malicious code; mape: the mean "
        "of test images; bit_error_rate: guessing.",
        n=max(len(images) for images in shown.values()),
        results=results,
        pictures=_curves(run, study, results),
        tables=_tables(study, results),
        differences=study.differences,
    )


def _curves(run: Run, study: Study, results: Results) -> list[report.Picture]:
    """The error of what is read back, by each defense's strength."""
    pictures = []
    baseline = next(iter(results.filter(metric="mape"))).value.baseline
    for defense in dict.fromkeys(name for name, _ in study.defenses):
        levels = sorted(
            (level for name, level in study.defenses if name == defense), key=float
        )
        series = {}
        for method, strength in study.defended:
            values = [
                results.value(
                    "mape", method=method, strength=strength, defense=defense, level=at
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
            ylabel="error of a pixel, gray levels",
            baseline=baseline,
            baseline_label="mean image",
        )
        pictures.append(report.Picture(path, f"What is read back after {defense}."))
    return pictures


def _tables(study: Study, results: Results) -> list[report.Table]:
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
                for metric in ("mape", "target_test_accuracy")
            ]
        rows.append(row)
    if not rows:
        return []
    heads = [f"{name}: {metric}" for name in names for metric in ("mape", "accuracy")]
    caption = "Defended before the release: error of a pixel in gray levels, accuracy"
    return [report.Table(caption, ["defense", *heads], rows)]
