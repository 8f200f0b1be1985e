"""Property inference: was a model trained on much or little of some kind of example?

A `Study` says what networks are trained on which task, and the shares of examples with
the property that the two kinds of training sets have. The adversary's shadow models are
trained on other examples than the released ones, all of them as one program, each from
weights of its own.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.harness import figures, programs, report
from experiments.harness import run as harness
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from mijax import data, training
from mijax.attacks import deep_sets
from mijax.knowledge import ReleasedParameters, validate
from mijax.knowledge.released_parameters import Layers
from mijax.metrics import attributes
from mijax.models.mlp import MLP

CHUNK = 100  # models that are trained at a time
_TESTS = 500  # examples that each network is tested on
_attack = programs.program(deep_sets.attack)


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      dataset: of `mijax.data.load`, where `--dataset` is not given.
      size: the side of an image.
      task: from labels to the classes that the networks learn.
      has_property: from images and labels to whether each example has the property.
      shares: of examples with the property in a training set without and with it.
      widths: of the networks' hidden layers.
      shadows: how many shadow models.
      released: how many released models.
      examples: of a training set.
      steps: of a network's training.
      batch_size: examples a step.
      methods: the adversary's classifiers of weights, by name; the first is the
        paper's.
      differences: from the paper's set-up.
    """

    title: str
    dataset: str
    size: int
    task: Callable[[np.ndarray], np.ndarray]
    has_property: Callable[[np.ndarray, np.ndarray], np.ndarray]
    shares: tuple[float, float]
    widths: tuple[int, ...]
    shadows: int
    released: int
    examples: int
    steps: int
    batch_size: int
    methods: Mapping[str, deep_sets.Config]
    differences: tuple[str, ...] = ()


def main(name: str, *, quick: Study, paper: Study) -> Callable[[], None]:
    """Returns a paper's `main`."""
    return harness.main(
        name,
        quick={"images": quick},
        paper={"images": paper},
        measure=measure,
    )


def more_ink(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether a digit has more ink than the median of its class."""
    ink = images.reshape(len(images), -1).mean(1)
    medians = {c: np.median(ink[labels == c]) for c in np.unique(labels)}
    return ink > np.array([medians[c] for c in labels])


def measure(run: Run, study: Study) -> report.Page:
    """Trains released and shadow models, attacks, and tells."""
    name = run.dataset or study.dataset
    loaded = data.load(name, data_dir=run.data_dir, size=study.size)
    images, labels = loaded.images, study.task(loaded.labels)
    has = study.has_property(images, loaded.labels)
    order = np.random.default_rng(run.seed).permutation(len(images))
    sides = {"shadows": order[::2], "released": order[1::2]}
    numbers = {"shadows": study.shadows, "released": study.released}
    keys = run.keys("shadows", "released", "attack", "shuffled")
    networks = {
        side: run.once(
            side,
            lambda side=side, rows=rows: _trained(
                study, keys[side], images, labels, has, rows, numbers[side]
            ),
        )
        for side, rows in sides.items()
    }
    properties = {side: np.arange(number) % 2 for side, number in numbers.items()}
    accuracy = {}
    for side, other in (("shadows", "released"), ("released", "shadows")):
        accuracy[side] = _accuracy(
            study, networks[side], images[sides[other]], labels[sides[other]]
        )
    known = ReleasedParameters(
        _layers(networks["released"]),
        _layers(networks["shadows"]),
        jnp.asarray(properties["shadows"], jnp.int32),
    )
    first = next(iter(study.methods.values()))
    shuffled = dataclasses.replace(
        known, properties=jax.random.permutation(keys["shuffled"], known.properties)
    )
    records = [
        Record({"models": side}, "target_test_accuracy", metric(values))
        for side, values in accuracy.items()
    ]
    truth = properties["released"]
    attempts = [(name, known, config) for name, config in study.methods.items()]
    for method, knowledge, config in [*attempts, ("shuffled", shuffled, first)]:
        arrays = run.once(
            method.replace(" ", "_"),
            lambda knowledge=knowledge, config=config: _attacked(
                keys["attack"], knowledge, config
            ),
        )
        hits = np.asarray(arrays["guess"] == truth, float)
        auc = attributes.macro_auc(np.exp(arrays["log_posterior"]), truth)
        own = {"method": method}
        records += [
            Record(own, "property_accuracy", metric(hits, baseline=[0.5], perfect=1.0)),
            Record(own, "property_auc", metric([auc], baseline=[0.5], perfect=1.0)),
        ]
    return _page(run, study, loaded.name, networks, Results(records))


def trainer(study: Study, classes: int) -> Callable[..., Layers]:
    """Returns `(key, rows [n], x, y) -> layers` of one network; map it over many."""
    module = MLP(classes, study.widths, jax.nn.relu)
    adam = optax.adam(2e-3)
    learn = training.supervised(module, adam)

    def one(key: jax.Array, own: jax.Array, x: jax.Array, y: jax.Array) -> Layers:
        init_key, fit_key = jax.random.split(key)
        state, _ = training.fit(
            fit_key,
            training.train_state(init_key, module, x.shape[1:], adam),
            lambda key, state, chosen: learn(key, state, (x[chosen], y[chosen])),
            own,
            batch_size=study.batch_size,
            steps=study.steps,
        )
        params = state.variables["params"]
        names = [f"hidden_{i}" for i in range(len(study.widths))] + ["logits"]
        return tuple((params[name]["kernel"], params[name]["bias"]) for name in names)

    return one


def _trained(
    study: Study,
    key: jax.Array,
    images: np.ndarray,
    labels: np.ndarray,
    has: np.ndarray,
    rows: np.ndarray,
    number: int,
) -> dict[str, Any]:
    """`number` networks, alternately without and with the property."""
    rng = np.random.default_rng(int(jax.random.bits(key, (), "uint32")))
    sides = [rows[~has[rows]], rows[has[rows]]]

    def drawn(which: int) -> np.ndarray:
        with_it = round(study.examples * study.shares[which])
        wanted = study.examples - with_it, with_it
        return np.concatenate(
            [rng.choice(side, n, False) for side, n in zip(sides, wanted, strict=True)]
        )

    sets = np.stack([drawn(i % 2) for i in range(number)])
    one = trainer(study, int(labels.max()) + 1)
    run = programs.program(jax.vmap(one, (0, 0, None, None)))
    keys = jax.random.split(jax.random.fold_in(key, 1), number)
    parts, seconds = [], {"compile": 0.0, "run": 0.0}
    for start in range(0, number, CHUNK):
        chunk = slice(start, start + CHUNK)
        layers, spent = run(keys[chunk], sets[chunk], images, labels)
        parts.append(jax.tree.map(np.asarray, layers))
        seconds = {kind: seconds[kind] + spent[kind] for kind in seconds}
    layers = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    arrays = {
        f"{kind}_{i}": leaf
        for i, layer in enumerate(layers)
        for kind, leaf in zip(("kernel", "bias"), layer, strict=True)
    }
    return {**arrays, **seconds, "seconds": sum(seconds.values())}


def _layers(arrays: Mapping[str, np.ndarray]) -> Any:
    number = sum(name.startswith("kernel") for name in arrays)
    return tuple(
        (jnp.asarray(arrays[f"kernel_{i}"]), jnp.asarray(arrays[f"bias_{i}"]))
        for i in range(number)
    )


def _accuracy(
    study: Study, arrays: Mapping[str, np.ndarray], x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Of each network, on examples that it was not trained on."""
    x, y = x[:_TESTS], y[:_TESTS]
    h = x.reshape(len(x), -1)[None]
    layers = _layers(arrays)
    for index, (kernel, bias) in enumerate(layers):
        h = h @ np.asarray(kernel) + np.asarray(bias)[:, None]
        h = np.maximum(h, 0) if index < len(study.widths) else h
    return np.mean(h.argmax(2) == y[None], 1)


def _attacked(
    key: jax.Array, knowledge: ReleasedParameters, config: deep_sets.Config
) -> dict[str, Any]:
    found, seconds = _attack(key, validate(knowledge), config)
    return {
        "guess": np.asarray(found.guess),
        "log_posterior": np.asarray(found.log_posterior),
        **seconds,
    }


def _page(
    run: Run,
    study: Study,
    name: str,
    networks: Mapping[str, Mapping[str, np.ndarray]],
    results: Results,
) -> report.Page:
    methods = [*study.methods, "shuffled"]
    path = run.figures / "accuracy.png"
    values = [results.value("property_accuracy", method=m) for m in methods]
    figures.bars(
        methods,
        [value.value for value in values],
        path,
        low=[0.0 if v.low is None else v.low for v in values],
        high=[1.0 if v.high is None else v.high for v in values],
        baseline=0.5,
        xlabel="share of properties inferred",
    )
    best, flat = values[0], values[1]
    rate = 60 * study.shadows / float(networks["shadows"]["seconds"])
    low, high = study.shares
    verdict = (
        f"From the weights alone, the adversary infers for {best.value:.2f} of "
        f"{study.released} released models whether {low:.0%} or {high:.0%} of their "
        f"training examples had the property ({methods[0]}); with the weights as one "
        f"vector, for {flat.value:.2f}. Guessing has .50. {study.shadows:,} shadow "
        f"models were trained as one program, {rate:,.0f} a minute with compilation."
    )
    return report.Page(
        title=study.title,
        verdict=verdict,
        lead=report.Picture(
            path, "Released models whose property is inferred, with 95 % intervals."
        ),
        caption="By method",
        table=results.filter(metric=("property_accuracy", "property_auc")).pivot(
            rows=("method",), columns=("metric",)
        ),
        attacked=f"{study.released} perceptrons of hidden widths {study.widths}, each "
        f"trained on {study.examples:,} examples of {name}.",
        knowledge=f"The weights, and {study.shadows:,} shadow models trained on other "
        "examples of the same population.",
        baseline="guessing; shuffled: shadow models whose properties are permuted.",
        n=study.released,
        results=results,
        differences=study.differences,
    )
