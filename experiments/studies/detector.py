"""A detector of payloads by the weights' distribution: how often is it right?

An auditor trains networks without malicious code. A released one raises an alarm where
its distance to the nearest of them is above all distances of theirs to the others, so
that of honest networks trained in the same way 1 in `audited + 1` is expected to. A
`Study` says how honest networks may be trained otherwise, and what is hidden in others.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.harness import figures, programs, report
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from experiments.studies import pipeline
from experiments.studies.pipeline import Content, Trainer
from mijax import training
from mijax.attacks.pipeline.weights import carriers
from mijax.core import Target
from mijax.data import TrainTest

_CHUNK = 10  # networks that are trained at a time
_POINTS = 999  # at which distributions are compared
_LOW = 20  # bits of a weight that may hide a payload
WEIGHTS, LOW_BITS = "weights", "low bits"


@dataclasses.dataclass(frozen=True)
class Training:
    """How an honest network's training differs from the auditor's.

    Attributes:
      steps: times the auditor's.
      rate: of learning, times the auditor's.
      decay: of the weights, decoupled.
      share: of the images that are used, others for each network.
    """

    steps: float = 1.0
    rate: float = 1.0
    decay: float = 0.0
    share: float = 1.0


@dataclasses.dataclass(frozen=True)
class Study:
    """Which networks the detector sees.

    Attributes:
      hidden: the examples, the network, its training, and what is hidden how.
      honest: how networks without a payload are trained, by name.
      audited: networks of the auditor's.
      repeats: networks of each kind, each from a key of its own.
    """

    hidden: pipeline.Study
    honest: Mapping[str, Training]
    audited: int = 20
    repeats: int = 20


def measure(run: Run, study: Study) -> report.Page:
    """Trains honest and malicious networks, and counts the alarms."""
    split, content = study.hidden.load(run, study.hidden)
    keys = run.keys("audits", "honest", "clean", "hidden")
    audits = _networks(run, study, split, keys["audits"], "audits", study.audited)
    targets = [target for target, _ in audits]
    grid = [
        np.quantile(np.concatenate(layer), np.linspace(0, 1, _POINTS + 2)[1:-1])
        for layer in zip(*map(_layers, targets), strict=True)
    ]
    known = np.stack([_distribution(target, grid) for target in targets])
    others = [np.delete(known, i, 0) for i in range(len(known))]
    limits = {
        WEIGHTS: max(map(_distance, known, others)),
        LOW_BITS: max(map(_unbalanced, targets)),
    }

    def told(name: str, networks: list[tuple[Target, np.ndarray]]) -> list[Record]:
        found = [target for target, _ in networks]
        seen = {
            WEIGHTS: [_distance(_distribution(own, grid), known) for own in found],
            LOW_BITS: [_unbalanced(own) for own in found],
        }
        chance = [1 / (study.audited + 1)]
        records = [
            Record(
                {"network": name, "detector": detector},
                "alarm_rate",
                metric(np.asarray(values) > limits[detector], baseline=chance),
            )
            for detector, values in seen.items()
        ]
        away = metric(seen[WEIGHTS], baseline=[limits[WEIGHTS]])
        hits = metric([right.mean() for _, right in networks])
        return [
            *records,
            Record({"network": name}, "weight_distance", away),
            Record({"network": name}, "target_test_accuracy", hits),
        ]

    records = []
    for i, (name, how) in enumerate(study.honest.items()):
        key = jax.random.fold_in(keys["honest"], i)
        networks = _networks(run, study, split, key, name, study.repeats, how)
        records += told(name, networks)
    clean = _networks(run, study, split, keys["clean"], "clean", study.repeats)
    worlds = _worlds(run, study, split, content, keys["hidden"], clean)
    for (method, strength), hide in study.hidden.hidings.items():
        name = f"{method}, {strength}"
        found = [hide(world, name) for world in worlds]
        networks = [
            (each.target, each.hits if each.hits.size else world.clean[1])
            for each, world in zip(found, worlds, strict=True)
        ]
        records += told(name, networks)
        errors = []
        for each in found:
            read, _ = each.read(each.target)
            errors.append(content.judged({}, read, None)[0].value.value)
        records.append(Record({"network": name}, content.measure, metric(errors)))
    return _page(run, study, split, Results(records), limits)


def _worlds(
    run: Run,
    study: Study,
    split: TrainTest,
    content: Content,
    key: jax.Array,
    clean: list[tuple[Target, np.ndarray]],
) -> list[Trainer]:
    """What malicious code trains by, each network from another key.

    The first one that asks for a method's network has those of all trained.
    """
    trained: dict[str, list[tuple[Target, np.ndarray]]] = {}

    def world(i: int) -> Trainer:
        def train(
            name: str, transformation: Any, extra: Any
        ) -> tuple[Target, np.ndarray]:
            if name not in trained:
                how = Training(pipeline.PATIENCE if extra is not None else 1.0)
                own = jax.random.fold_in(key, len(trained))
                trained[name] = _networks(
                    run, study, split, own, name, len(clean), how, transformation, extra
                )
            return trained[name][i]

        return Trainer(train, content, clean[i])

    return [world(i) for i in range(len(clean))]


def _networks(
    run: Run,
    study: Study,
    split: TrainTest,
    key: jax.Array,
    name: str,
    number: int,
    how: Training = Training(),
    transformation: optax.GradientTransformation | None = None,
    extra: Any = None,
) -> list[tuple[Target, np.ndarray]]:
    """`number` networks, and whether each is right about each test image."""
    hidden, shape = study.hidden, split.train.images.shape[1:]
    module = hidden.network(len(split.train.names))
    adam = optax.adamw(hidden.learning_rate * how.rate, weight_decay=how.decay)
    optimizer = optax.chain(transformation or optax.identity(), adam)
    step = training.supervised(module, optimizer)
    x, labels = split.train.images, split.train.labels
    kept = round(how.share * len(x))
    if extra is not None:
        x = np.concatenate([x, np.asarray(extra[0], np.float32)])
        labels = np.concatenate([labels, np.asarray(extra[1])])
        kept = len(x)

    def one(key: jax.Array, x: jax.Array, labels: jax.Array, test: jax.Array) -> Any:
        init_key, rows_key, fit_key = jax.random.split(key, 3)
        state, _ = training.fit(
            fit_key,
            training.train_state(init_key, module, shape, optimizer),
            lambda key, state, rows: step(key, state, (x[rows], labels[rows])),
            jax.random.permutation(rows_key, len(x))[:kept],
            batch_size=hidden.batch_size,
            steps=round(how.steps * hidden.steps),
        )
        logits: Any = module.apply(state.variables, test)
        return state.variables, jnp.argmax(logits.logits, 1)

    def compute() -> dict[str, Any]:
        print(f"networks: {name}", flush=True)
        many = programs.program(
            lambda keys, *examples: jax.lax.map(
                lambda key: one(key, *examples), keys, batch_size=_CHUNK
            )
        )
        found, seconds = many(
            jax.random.split(key, number), x, labels, split.test.images
        )
        leaves = {f"leaf_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(found))}
        return leaves | seconds

    arrays = run.once(name.replace(" ", "_"), compute)
    form = jax.eval_shape(one, key, x, labels, split.test.images)
    structure = jax.tree.structure(form)
    leaves = [arrays[f"leaf_{i}"] for i in range(structure.num_leaves)]
    networks = []
    for i in range(number):
        variables, said = jax.tree.unflatten(structure, [leaf[i] for leaf in leaves])
        target = Target.from_linen(module, variables, shape)
        networks.append((target, np.asarray(said == split.test.labels, float)))
    return networks


# What the detector sees ---------------------------------------------------------------


def _layers(target: Target) -> list[np.ndarray]:
    leaves = jax.tree.leaves(target.trained)
    return [np.sort(np.ravel(leaf)) for leaf in leaves if leaf.ndim > 1]


def _distribution(target: Target, grid: list[np.ndarray]) -> np.ndarray:
    """The share of each layer's weights below each point, `[layers, points]`."""
    return np.stack(
        [
            np.searchsorted(layer, points) / len(layer)
            for layer, points in zip(_layers(target), grid, strict=True)
        ]
    )


def _distance(own: np.ndarray, known: np.ndarray) -> float:
    """Kolmogorov and Smirnov's, of the worst layer, to the nearest known network."""
    return float(np.abs(known - own).max((1, 2)).min())


def _unbalanced(target: Target) -> float:
    """How far the share of ones among the weights' low bits is from a half."""
    raw = np.asarray(carriers(target.trained)).view(np.uint32) & (2**_LOW - 1)
    return abs(float(np.bitwise_count(raw).mean()) / _LOW - 0.5)


def _page(
    run: Run,
    study: Study,
    split: TrainTest,
    results: Results,
    limits: Mapping[str, float],
) -> report.Page:
    rates = results.filter(metric="alarm_rate", detector=WEIGHTS)
    path = run.figures / "alarms.png"
    figures.bars(
        [record.labels["network"] for record in rates],
        [record.value.value for record in rates],
        path,
        low=[record.value.low or 0.0 for record in rates],
        high=[1.0 if r.value.high is None else r.value.high for r in rates],
        baseline=1 / (study.audited + 1),
        baseline_label="expected of honest ones",
        xlabel="share of networks that raise an alarm",
    )
    first = next(iter(study.honest))
    false = results.value("alarm_rate", network=first, detector=WEIGHTS)
    return report.Page(
        title=f"{study.hidden.title}: a detector by the weights",
        verdict=(
            f"Of honest networks ({first}), {false.value:.2f} raise an alarm by the "
            f"distribution of their weights; the rule expects "
            f"{1 / (study.audited + 1):.2f}. The table says how many of others do."
        ),
        lead=report.Picture(
            path, "Alarms by the weights' distribution, with 95 % intervals."
        ),
        caption="By how the networks were trained, or what they carry",
        table=results.pivot(rows=("network",), columns=("metric", "detector")),
        attacked=f"Classifiers of {split.train.name}, {study.repeats} of each kind.",
        knowledge=f"The released weights, and {study.audited} networks that the "
        "auditor trained without malicious code on the same images.",
        baseline="of alarm_rate, 1 in the auditor's networks and one more; of "
        "weight_distance, the limit.",
        n=study.repeats,
        results=results,
        differences=study.hidden.differences,
        caveats=(
            f"The limits are {limits[WEIGHTS]:.4f} (the largest distance of one of the "
            "auditor's networks to the nearest other) and "
            f"{limits[LOW_BITS]:.5f} (the same of the share of ones among the "
            f"{_LOW} lowest bits of all weights, away from a half).",
        ),
    )
