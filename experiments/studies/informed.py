"""The informed adversary: one unknown record of a training, from the weights.

A `Study` says how many records are known, which network is trained on them, and how
many shadow models the adversary trains.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.harness import figures, programs, report
from experiments.harness import run as harness
from experiments.harness.results import Metric, Record, Results, metric
from experiments.harness.run import Run
from mijax import data, training
from mijax.attacks import informed_adversary
from mijax.data import Dataset
from mijax.knowledge import AllButOne

_SHOWN = 12  # victims in the picture
_SINGLE = 20  # models that the Python loop trains to be timed


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      dataset: of `mijax.data.load`, where `--dataset` is not given.
      network: from the number of classes.
      known: records that the adversary knows.
      shadows: models that the adversary trains.
      victims: released models, each with another missing record.
      steps: of training, full batches.
      learning_rate: of the training.
      momentum: of the training.
      config: of the attack.
      differences: from the paper's set-up.
    """

    title: str
    dataset: str
    network: Callable[[int], nn.Module]
    known: int = 300
    shadows: int = 2400
    victims: int = 100
    steps: int = 60
    learning_rate: float = 0.2
    momentum: float = 0.9
    config: informed_adversary.Config = informed_adversary.Config()
    differences: tuple[str, ...] = ()


def main(name: str, *, quick: Study, paper: Study) -> Callable[[], None]:
    """Returns a paper's `main`."""
    return harness.main(
        name,
        quick={"records": quick},
        paper={"records": paper},
        measure=measure,
        free_mib=256,
    )


def measure(run: Run, study: Study) -> report.Page:
    """Trains models that miss a record, reconstructs it, and tells."""
    loaded = data.load(run.dataset or study.dataset, data_dir=run.data_dir)
    order = np.random.default_rng(run.seed).permutation(len(loaded))
    ends = np.cumsum([study.known, study.victims, study.victims, study.shadows])
    if ends[-1] >= len(loaded):
        raise ValueError(
            f"{loaded.name} has {len(loaded):,} images and {ends[-1]:,} are needed, "
            "some left for a test: train fewer shadow models, or know fewer records."
        )
    known, victims, others, public, test = (
        _records(loaded, rows) for rows in np.split(order, ends)
    )
    learn = _learner(run, study, loaded)

    def train() -> dict[str, Any]:
        every = jax.tree.map(lambda *x: np.concatenate(x), victims, others, public)
        weights, seconds = programs.program(
            functools.partial(informed_adversary.shadows, learn)
        )(known, every)
        leaves = {f"leaf_{i}": w for i, w in enumerate(jax.tree.leaves(weights))}
        return {**leaves, **seconds, "seconds": seconds["run"]}

    trained = run.once("models", train)
    leaves = [trained[f"leaf_{i}"] for i in range(len(trained) - 3)]
    structure = jax.tree.structure(jax.eval_shape(learn, known, _first(known)))
    weights = jax.tree.unflatten(structure, leaves)
    split = 2 * study.victims
    shadow_weights = jax.tree.map(lambda leaf: leaf[split:], weights)

    def reconstruct() -> dict[str, Any]:
        released = jax.tree.map(lambda leaf: leaf[:split], weights)
        knowledge = AllButOne(released, shadow_weights, jnp.asarray(public[0]))
        key = run.keys("attack")["attack"]
        found, seconds = programs.program(informed_adversary.attack)(
            key, knowledge, study.config
        )
        return {"x": found.x, "loss": found.loss, **seconds}

    found = run.once("reconstructed", reconstruct)

    def one_by_one() -> dict[str, Any]:
        single = jax.jit(learn)
        rows = [jax.tree.map(lambda x, i=i: x[i], public) for i in range(_SINGLE + 1)]
        jax.block_until_ready(single(known, rows[-1]))  # Compiles.
        start = time.monotonic()
        for row in rows[:-1]:
            jax.block_until_ready(single(known, row))
        return {"seconds": (time.monotonic() - start) / _SINGLE}

    alone = run.once("one_by_one", one_by_one)
    each = float(trained["seconds"]) / (split + study.shadows)
    speed = {"one program": 60 / each, "Python loop": 60 / float(alone["seconds"])}
    module = study.network(len(loaded.names))
    first = jax.tree.map(lambda leaf: leaf[0], weights)
    logits = programs.batched(
        lambda x: module.apply({"params": first}, x).logits  # type: ignore[union-attr]
    )(test[0])
    hits = logits.argmax(1) == test[1]
    records = [Record({}, "target_test_accuracy", metric(hits.astype(float)))]
    records += [
        Record({"training": name}, "models_per_minute", Metric(value))
        for name, value in speed.items()
    ]
    x = found["x"]
    rows = {
        "informed adversary": x[: study.victims],
        "null: other records": x[study.victims :],
    }
    guesses = _guesses(victims, public)
    for name, images in {**rows, **guesses}.items():
        records += _judged(name, images, victims[0], known[0], public[0], guesses)
    return _page(run, study, loaded, Results(records), victims[0], rows, guesses, found)


def _learner(run: Run, study: Study, loaded: Dataset) -> Callable[[Any, Any], Any]:
    module = study.network(len(loaded.names))
    key = run.keys("initial")["initial"]
    shape = loaded.images.shape[1:]
    initial = module.init(key, jnp.zeros((1, *shape)))["params"]

    losses = training.record_losses(module)
    optimizer = optax.sgd(study.learning_rate, study.momentum)
    return informed_adversary.trained_with(losses, optimizer, initial, study.steps)


def _records(loaded: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return loaded.images[rows], loaded.labels[rows]


def _first(records: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], records)


def _guesses(victims: Any, public: Any) -> dict[str, np.ndarray]:
    """What an adversary without the weights would say of each victim."""
    images, labels = public
    means = {k: images[labels == k].mean(0) for k in np.unique(labels)}
    every = np.broadcast_to(images.mean(0), victims[0].shape)
    return {
        "guess: mean image": every,
        "guess: mean of its class": np.array([means[k] for k in victims[1]]),
    }


def _distances(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean squared distance of each image to each other one, `[n, m]`."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (images, others))
    return ((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T) / a.shape[1]


def _judged(
    name: str,
    images: np.ndarray,
    truth: np.ndarray,
    known: np.ndarray,
    public: np.ndarray,
    guesses: dict[str, np.ndarray],
) -> list[Record]:
    def errors(x: np.ndarray) -> np.ndarray:
        return ((x - truth) ** 2).reshape(len(truth), -1).mean(1)

    nearest = _distances(truth, np.concatenate([known, public])).min(1)

    def closer(x: np.ndarray) -> np.ndarray:
        return (errors(x) < nearest).astype(float)

    def named(x: np.ndarray) -> np.ndarray:
        return (_distances(x, truth).argmin(1) == np.arange(len(x))).astype(float)

    best = guesses["guess: mean of its class"]
    own = {"adversary": name}
    judged = {
        "mse": (errors, 0.0),
        "success_rate": (closer, 1.0),
        "record_1nn": (named, 1.0),
    }
    return [
        Record(own, measure, metric(f(images), baseline=f(best), perfect=perfect))
        for measure, (f, perfect) in judged.items()
    ]


def _page(
    run: Run,
    study: Study,
    loaded: Dataset,
    results: Results,
    truth: np.ndarray,
    rows: dict[str, np.ndarray],
    guesses: dict[str, np.ndarray],
    found: dict[str, np.ndarray],
) -> report.Page:
    path = run.figures / "recovered.png"
    shown = {"missing record": truth, **rows, **guesses}
    figures.image_grid([(name, x[:_SHOWN]) for name, x in shown.items()], path, tile=56)
    attack = {
        name: results.value(name, adversary="informed adversary")
        for name in ("mse", "success_rate", "record_1nn")
    }
    speed = {
        name: results.value("models_per_minute", training=name).value
        for name in ("one program", "Python loop")
    }
    verdict = (
        f"Reconstructions of the one unknown record have a squared error of "
        f"{attack['mse'].value:.4f}; the mean of its class, the best guess without the "
        f"weights, has {attack['mse'].baseline:.4f}. {attack['success_rate'].value:.0%}"
        " are closer to it than any image that the adversary has, and "
        f"{attack['record_1nn'].value:.0%} are nearest to the right one of "
        f"{len(truth)} (guess: {attack['record_1nn'].baseline:.0%})."
    )
    return report.Page(
        title=study.title,
        verdict=verdict,
        lead=report.Picture(
            path,
            f"The first {_SHOWN} victims: the record, what is recovered of it, what is "
            "recovered of models that another record trained, and two guesses.",
        ),
        caption="By adversary",
        table=results.filter(
            adversary=[*rows, *guesses], metric=("mse", "success_rate", "record_1nn")
        ).pivot(rows=("adversary",), columns=("metric",)),
        attacked=f"{study.victims} classifiers of {loaded.name}, each trained on the "
        f"same {study.known} records and one more.",
        knowledge="The released weights, the training code with its initial weights, "
        f"the {study.known} records, and {study.shadows:,} others of the same kind, "
        "with which shadow models are trained. Not the record, nor its label.",
        baseline="the mean image of the record's class, whose label is told to it.",
        n=study.victims,
        results=results,
        differences=study.differences,
        caveats=(
            f"Shadow models a minute: {speed['one program']:,.0f} as one program, "
            f"{speed['Python loop']:,.0f} in a Python loop of compiled trainings.",
            "The adversary measures an error of "
            f"{float(found['loss'][0]):.4f} on its own held-out shadow models.",
        ),
    )
