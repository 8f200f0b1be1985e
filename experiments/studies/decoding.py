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
import optax
from flax import linen as nn

from experiments.harness import figures, programs, report
from experiments.harness import run as harness
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from mijax import data
from mijax.attacks import inverse_network
from mijax.core import Defense, Target, chain
from mijax.data import Dataset, TrainTest
from mijax.knowledge import Scores
from mijax.metrics import images as distances

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
    """

    defense: Callable[[Trained], Defense] | None = None
    network: Callable[[int], nn.Module] | None = None
    objective: Defense = Defense()
    code: Callable[[jax.Array], jax.Array] = inverse_network.log_scores


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      data: who is private, from `--dataset`, the data folder and the seed.
      network: of the target, from the number of classes.
      judge: the evaluator's.
      releases: by name; the first is without a defense.
      attack: of the decoder.
      reduced: the auxiliary set with which all releases are attacked; every other is
        attacked with the first release alone.
      victims: test images that are attacked.
      steps: of the target's training.
      batch_size: examples a step.
      learning_rate: of Adam.
      differences: from the paper's set-up.
    """

    title: str
    data: Callable[[Run], World]
    network: Callable[[int], nn.Module]
    judge: Callable[[int], nn.Module]
    releases: Mapping[str, Release]
    attack: inverse_network.Config = inverse_network.Config()
    reduced: str = "related"
    victims: int = 500
    steps: int = 600
    batch_size: int = 64
    learning_rate: float = 1e-3
    differences: tuple[str, ...] = ()


def main(
    name: str, *, quick: Mapping[str, Study], paper: Mapping[str, Study]
) -> Callable[[], None]:
    """Returns a paper's `main`."""
    return harness.main(
        name, quick=quick, paper=paper, changed=lambda study: study, measure=measure
    )


def measure(run: Run, study: Study) -> report.Page:
    """Trains the targets, releases, decodes, judges, and tells."""
    world = study.data(run)
    keys = run.keys("target", "judge", "defense", "attack")
    judge, judged = _train(run, study, keys["judge"], "evaluator", study.judge, world)
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
    targets: dict[Any, tuple[Target, np.ndarray]] = {}
    for name, release in study.releases.items():
        form = release.network, release.objective.objective is None
        if form not in targets or not form[1]:
            targets[form] = _train(
                run,
                study,
                keys["target"],
                f"target {name}",
                release.network or study.network,
                world,
                release.objective,
            )
        target, _ = targets[form]
        defense = chain()
        if release.defense is not None:
            made = Trained(keys["defense"], target, jnp.asarray(world.reference.images))
            defense = release.defense(made)
        scores, released = (
            _scores(target, own, test.images) for own in (None, defense.output)
        )
        records += _cost(name, scores, released, test.labels)
        first = name == next(iter(study.releases))
        for auxiliary, public in world.auxiliaries.items():
            if auxiliary != study.reduced and not first:
                continue
            known = Scores.of(
                target,
                jnp.asarray(labels),
                release=defense.output,
                public=jnp.asarray(public),
                observed=jnp.asarray(released[: study.victims]),
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


def _train(
    run: Run,
    study: Study,
    key: jax.Array,
    name: str,
    network: Callable[[int], nn.Module],
    world: World,
    objective: Defense = Defense(),
) -> tuple[Target, np.ndarray]:
    images = world.judge if name == "evaluator" else world.private
    return run.train(
        key,
        name.replace(" ", "_"),
        network(len(images.train.names)),
        images,
        optimizer=optax.adam(study.learning_rate),
        steps=study.steps,
        batch_size=study.batch_size,
        objective=objective.objective,
        chunk=500,
    )


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


def _attacked(
    run: Run, name: str, key: jax.Array, known: Scores, study: Study, release: Release
) -> np.ndarray:
    config = dataclasses.replace(study.attack, code=release.code)

    def compute() -> dict[str, Any]:
        found, seconds = programs.program(inverse_network.attack)(key, known, config)
        print(f"{name}: {seconds['run']:.1f} s", flush=True)
        return {"x": found.x, "queries": found.queries} | seconds

    return run.once("".join(c if c.isalnum() else "_" for c in name), compute)["x"]


def _recovered(
    labels: dict[str, str],
    judge: Target,
    truth: np.ndarray,
    classes: np.ndarray,
    found: np.ndarray,
    blind: np.ndarray | None,
) -> list[Record]:
    """Error and similarity, and whether the evaluator sees the input's class."""
    guess = programs.batched(lambda x: judge.predict(x).logits)

    def seen(x: np.ndarray) -> np.ndarray:
        return (guess(np.asarray(x)).argmax(1) == classes).astype(float)

    if blind is None:
        return [Record(labels, "top1", metric(seen(found)))]
    line = metric(seen(found), baseline=seen(blind), perfect=1.0)
    records = [Record(labels, "top1", line)]
    for name, distance, perfect in (
        ("mse", distances.mse, 0.0),
        ("ssim", distances.ssim, 1.0),
    ):
        mine, other = (
            np.asarray(distance(jnp.asarray(truth), jnp.asarray(x)))
            for x in (found, blind)
        )
        line = metric(mine, baseline=other, perfect=perfect)
        records.append(Record(labels, name, line))
    return records


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
            metric=("mse", "ssim", "top1", "target_test_accuracy", "score_distortion")
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
