"""DP-SGD against its strongest adversary: success, and the bound that holds for all.

A `Study` says which model is trained how privately. Many trainings miss another record
each; the adversary names it among candidates, and the bound is that of the accountant.
"""

import dataclasses
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
from mijax.attacks import prior_aware
from mijax.core import pytree
from mijax.defenses import dp_sgd
from mijax.knowledge import PrivateHistory


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      dataset: of `mijax.data.load`, where `--dataset` is not given.
      network: from the number of classes.
      side: pixels of an image, which are means of the original's.
      known: records that the adversary knows, all of the training but one.
      candidates: n, equally likely to be the last one.
      tested: held-out records of the accuracy.
      trials: trainings of each privacy.
      updates: of a training, T.
      samplings: with which probability each record takes part in an update.
      epsilons: at `delta`; the noise is what the accountant asks for.
      delta: None for 1 / (known + 1).
      norm: to which each record's gradient is clipped.
      learning_rate: of gradient descent on the mean.
      chunk: trainings at a time.
      differences: from the paper's set-up.
    """

    title: str
    dataset: str
    network: Callable[[int], nn.Module]
    side: int = 14
    known: int = 300
    candidates: int = 10
    tested: int = 1000
    trials: int = 400
    updates: int = 20
    samplings: tuple[float, ...] = (1.0, 0.2)
    epsilons: tuple[float, ...] = (1.0, 4.0, 10.0, 20.0, 50.0)
    delta: float | None = None
    norm: float = 0.5
    learning_rate: float = 2.0
    chunk: int = 25
    differences: tuple[str, ...] = ()


def main(name: str, *, quick: Study, paper: Study) -> Callable[[], None]:
    """Returns a paper's `main`."""
    return harness.main(
        name,
        quick={"records": quick},
        paper={"records": paper},
        measure=measure,
    )


def measure(run: Run, study: Study) -> report.Page:
    """Trains at each privacy, names the missing records, and tells."""
    loaded = data.load(run.dataset or study.dataset, data_dir=run.data_dir)
    order = np.random.default_rng(run.seed).permutation(len(loaded))
    images = _smaller(loaded.images, study.side)
    cut = np.split(order, np.cumsum([study.known, study.candidates, study.tested]))
    known, candidates, test = ((images[rows], loaded.labels[rows]) for rows in cut[:3])
    if not len(test[0]):
        raise ValueError(
            f"{loaded.name} has {len(loaded):,} images, and all are known or "
            "candidates: know fewer."
        )
    truth = np.random.default_rng(run.seed + 1).integers(
        0, study.candidates, study.trials
    )
    train = programs.program(_trainer(run, study, len(loaded.names)))
    delta = study.delta or 1 / (study.known + 1)
    records = []
    for sampling in study.samplings:
        for epsilon in study.epsilons:

            def compute(sampling: float = sampling, epsilon: float = epsilon) -> Any:
                multiplier = noise_for(epsilon, sampling, study.updates, delta)
                setting = _Setting(jnp.float32(multiplier), jnp.float32(sampling))
                key = run.keys("trials")["trials"]
                found, seconds = train(key, known, candidates, test, truth, setting)
                bound = dp_sgd.reconstruction_bound(
                    1 / study.candidates, multiplier, sampling, study.updates
                )
                guess, accuracy = found
                return {
                    "multiplier": multiplier,
                    "bound": bound,
                    "hits": guess == truth,
                    "accuracy": accuracy,
                    **seconds,
                }

            found = run.once(f"sampling_{sampling:g}_epsilon_{epsilon:g}", compute)
            labels = {"sampling": f"{sampling:g}", "privacy": f"{epsilon:g}"}
            records += _records(labels, epsilon, found, study)
    return _page(run, study, loaded.name, Results(records), delta)


def noise_for(epsilon: float, sampling: float, updates: int, delta: float) -> float:
    """The least noise multiplier of that epsilon, within one percent above."""
    low, high = 0.05, 200.0
    while high / low > 1.01:
        middle = float(np.sqrt(low * high))
        if dp_sgd.epsilon(middle, sampling, updates, delta) > epsilon:
            low = middle
        else:
            high = middle
    return high


@pytree
class _Setting:
    """How private a training is."""

    multiplier: jax.Array
    sampling: jax.Array


def _trainer(run: Run, study: Study, classes: int) -> Callable[..., Any]:
    """Trains once a trial, and attacks: guesses and accuracies, `[trials]`."""
    module = study.network(classes)
    shape = (1, study.side, study.side, 1)
    initial = module.init(run.keys("initial")["initial"], jnp.zeros(shape))["params"]

    losses = training.record_losses(module)

    def loss(params: Any, record: Any) -> jax.Array:
        return losses(params, jax.tree.map(lambda leaf: leaf[None], record))[0]

    def gradient(params: Any, record: Any) -> Any:
        found = jax.grad(loss)(params, record)
        scale = study.norm / jnp.maximum(optax.tree.norm(found), study.norm)
        return jax.tree.map(lambda leaf: scale * leaf, found)

    def trial(
        key: jax.Array, known: Any, missing: Any, setting: _Setting
    ) -> tuple[Any, Any]:
        """The weights before each update, and what was added to their gradient."""
        deviation = setting.multiplier * study.norm
        expected = setting.sampling * (study.known + 1)

        def update(params: Any, key: jax.Array) -> tuple[Any, Any]:
            take_key, one_key, noise_key = jax.random.split(key, 3)
            take = jax.random.bernoulli(take_key, setting.sampling, (study.known,))
            singles = jax.vmap(gradient, (None, 0))(params, known)
            total = jax.tree.map(
                lambda leaf: jnp.tensordot(take.astype(leaf.dtype), leaf, 1), singles
            )
            took = jax.random.bernoulli(one_key, setting.sampling)
            noise = optax.tree.random_like(noise_key, params)
            residual = jax.tree.map(
                lambda z, g: deviation * z + took * g, noise, gradient(params, missing)
            )
            moved = jax.tree.map(
                lambda p, a, b: p - study.learning_rate / expected * (a + b),
                params,
                total,
                residual,
            )
            return moved, (params, residual)

        return jax.lax.scan(update, initial, jax.random.split(key, study.updates))

    def attacked(history: Any, candidates: Any, setting: _Setting) -> jax.Array:
        params, residual = jax.tree.map(lambda leaf: leaf[None], history)
        known = PrivateHistory(
            params,
            residual,
            candidates,
            gradient,
            setting.multiplier * study.norm,
            setting.sampling,
        )
        return prior_aware.attack(jax.random.key(0), known).guess[0]

    def every(
        key: jax.Array,
        known: Any,
        candidates: Any,
        test: Any,
        truth: jax.Array,
        setting: _Setting,
    ) -> Any:
        def one(arguments: Any) -> Any:
            key, index = arguments
            missing = jax.tree.map(lambda leaf: leaf[index], candidates)
            last, history = trial(key, known, missing, setting)
            logits = module.apply({"params": last}, test[0]).logits  # type: ignore[union-attr]
            accuracy = jnp.mean(jnp.argmax(logits, 1) == test[1])
            return attacked(history, candidates, setting), accuracy

        keys = jax.random.split(key, study.trials)
        return jax.lax.map(one, (keys, truth), batch_size=study.chunk)

    return every


def _smaller(images: np.ndarray, side: int) -> np.ndarray:
    """Means of squares of pixels, `[N, side, side, 1]`."""
    factor = images.shape[1] // side
    if factor * side != images.shape[1]:
        raise ValueError(
            f"side is {side}: it must divide {images.shape[1]}, the images' own."
        )
    parts = images.mean(-1).reshape(len(images), side, factor, side, factor)
    return parts.mean((2, 4))[..., None].astype(np.float32)


def _records(
    labels: dict[str, str], epsilon: float, found: dict[str, np.ndarray], study: Study
) -> list[Record]:
    chance = 1 / study.candidates
    return [
        Record(labels, "epsilon", Metric(epsilon)),
        Record(labels, "noise_multiplier", Metric(float(found["multiplier"]))),
        Record(labels, "success_bound", Metric(float(found["bound"]))),
        Record(
            labels,
            "success_rate",
            metric(found["hits"].astype(float), baseline=[chance], perfect=1.0),
        ),
        Record(labels, "target_test_accuracy", metric(found["accuracy"])),
    ]


def _page(
    run: Run, study: Study, name: str, results: Results, delta: float
) -> report.Page:
    paths = []
    above = []
    for sampling in study.samplings:
        series = {"bound": [], "attack": [], "test accuracy": []}
        for epsilon in study.epsilons:
            labels = {"sampling": f"{sampling:g}", "privacy": f"{epsilon:g}"}
            bound = results.value("success_bound", **labels).value
            attack = results.value("success_rate", **labels)
            accuracy = results.value("target_test_accuracy", **labels)
            if attack.low is not None and attack.low > bound:
                above.append(labels)
            series["bound"].append((bound, bound, bound))
            for line, value in (("attack", attack), ("test accuracy", accuracy)):
                series[line].append((value.value, value.low, value.high))
        path = run.figures / f"sampling_{sampling:g}.png"
        figures.lines(
            np.array(study.epsilons),
            {line: np.array(values, float) for line, values in series.items()},
            path,
            xlabel=f"epsilon, delta {delta:.1e}",
            ylabel="probability",
            log_x=True,
            baseline=1 / study.candidates,
            baseline_label=f"guess of {study.candidates}",
        )
        caption = f"Records take part in an update with probability {sampling:g}."
        paths.append(report.Picture(path, caption))
    first, last = (
        {"sampling": f"{study.samplings[0]:g}", "privacy": f"{epsilon:g}"}
        for epsilon in (study.epsilons[0], study.epsilons[-1])
    )
    low, high = (results.value("success_rate", **labels) for labels in (first, last))
    bounds = [results.value("success_bound", **each).value for each in (first, last)]
    verdict = (
        f"At epsilon {first['privacy']} the adversary who knows all else names the "
        f"record among {study.candidates} with probability {low.value:.2f}, at epsilon "
        f"{last['privacy']} with {high.value:.2f}; no adversary can exceed "
        f"{bounds[0]:.2f} and {bounds[1]:.2f}. "
    )
    verdict += (
        f"{len(above)} of {len(study.samplings) * len(study.epsilons)} settings lie "
        "above the bound by more than their interval."
    )
    return report.Page(
        title=study.title,
        verdict=verdict,
        lead=paths[0],
        caption="By sampling and epsilon",
        table=results.pivot(rows=("sampling", "privacy"), columns=("metric",)),
        attacked=f"{study.trials} classifiers of {name} at each privacy, each trained "
        f"with DP-SGD on the same {study.known} records and one more.",
        knowledge="All updates, all other records and which updates they took part in, "
        f"the training code, and {study.candidates} candidates for the last record.",
        baseline="a guess among the candidates.",
        n=study.trials,
        results=results,
        pictures=paths[1:],
        differences=study.differences,
        caveats=(
            "The bound is of the accountant, which rounds upwards; batches are drawn "
            "by Poisson sampling, as it assumes.",
        ),
    )
