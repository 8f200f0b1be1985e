"""Contract cases: inference of attributes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from contract_case import Case

from mijax.attacks import (
    approximate_inference,
    attribute_advantage,
    csmia,
    influence_game,
    lomia,
    map_inference,
    neuron_inference,
    poisoned_regression,
    tree_inversion,
)
from mijax.core import Inference, Target
from mijax.knowledge import (
    Candidates,
    Oracle,
    PartialRecord,
    PoisonedTraining,
    WhiteBoxRecord,
    confusion,
    normal,
    validate,
)
from mijax.models import linear

_COLUMNS = 4
_RECORDS = jnp.asarray(np.random.default_rng(0).normal(size=(5, _COLUMNS)), jnp.float32)
_REGRESSORS = {
    approximate_inference: False,
    attribute_advantage: True,
    csmia: False,
    influence_game: False,
    lomia: False,
    map_inference: True,
    tree_inversion: False,
}


def _softly(weights, x):
    return x @ weights


def _attribute(attack, config, *, random):
    """Five records of which the first two columns hold one of three values."""

    def run(config=config, **changes):
        known = _partial_record(attack, 0, lambda f: f)
        known = validate(dataclasses.replace(known, **changes))
        attack.attack(jax.random.key(0), known, config)

    def candidates(**changes):
        known = _partial_record(attack, 0, lambda f: f).candidates
        return run(candidates=dataclasses.replace(known, **changes))

    refused = [
        (functools.partial(run, outcome=None), "outcome="),
        (
            functools.partial(run, record=_RECORDS[:, :3]),
            r"records are \(5, 3\) but the model takes",
        ),
        (
            functools.partial(run, record=_RECORDS.at[1, 3].set(jnp.nan)),
            "known fields of the records hold 1 values that are NaN",
        ),
        (
            functools.partial(candidates, columns=jnp.array([2, 9])),
            r"fill columns \[2, 9\] but records have 4",
        ),
        (
            functools.partial(candidates, columns=jnp.array([1, 1])),
            "one stands twice",
        ),
        (
            functools.partial(candidates, encodings=jnp.ones((3, 1))),
            r"candidates are \(3, 1\) but fill columns \(2,\)",
        ),
        (
            functools.partial(candidates, log_prior=jnp.zeros(4)),
            r"log_prior is \(4,\): give \[3\]",
        ),
        (
            functools.partial(candidates, log_prior=jnp.full(3, -jnp.inf)),
            "no candidate possible",
        ),
        (functools.partial(run, outcome=jnp.zeros(2, jnp.int32)), "outcome is"),
    ]
    if not _REGRESSORS[attack]:
        wrong = jnp.array([0, 1, 2, 0, 0])
        refused.append((functools.partial(run, outcome=wrong), "outcome holds 2"))
    return Case(
        attack,
        PartialRecord,
        config,
        functools.partial(_partial_record, attack),
        _is_inference,
        tuple(refused),
        random,
    )


def _partial_record(attack, which, wrap):
    outputs = 1 if _REGRESSORS[attack] else 2
    rng = np.random.default_rng([1, 2, 1][which])
    weights = jnp.asarray(rng.normal(size=(_COLUMNS, outputs)), jnp.float32)
    outcome = jnp.asarray(rng.integers(0, 2, 5), jnp.int32)
    return PartialRecord(
        Oracle.of(Target(weights, wrap(_softly), (_COLUMNS,), outputs)),
        _RECORDS + which,
        Candidates.of([0, 1], [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.5, 0.3, 0.2]),
        outcome.astype(jnp.float32) if outputs == 1 else outcome,
        normal(0.5) if outputs == 1 else confusion([[3.0, 1.0], [1.0, 2.0]]),
    )


def _is_inference(found, config):
    assert isinstance(found, Inference)
    assert found.guess.shape == (5,) and found.guess.dtype == jnp.int32
    assert found.log_posterior.shape == (5, 3)
    total = jnp.exp(found.log_posterior).sum(1)
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    assert found.guess.min() >= -1 and found.guess.max() < 3


def _neurons():
    config = neuron_inference.Config(neurons=2)

    def run(**changes):
        known = dataclasses.replace(_white_box_record(0, lambda f: f), **changes)
        neuron_inference.attack(jax.random.key(0), validate(known), config)

    both = Candidates.product(Candidates.of(0, [0.0, 1.0]), Candidates.of(1, [0.0]))
    refused = (
        (functools.partial(run, record=_RECORDS[:, :3]), r"records are \(5, 3\)"),
        (functools.partial(run, value=jnp.zeros(3, jnp.int32)), r"value is \(3,\)"),
        (functools.partial(run, value=jnp.full(5, 3)), "value holds 3 to 3"),
        (functools.partial(run, candidates=both), "candidates are of several fields"),
        (functools.partial(neuron_inference.Config, neurons=0), "neurons is 0"),
    )
    return Case(
        neuron_inference,
        WhiteBoxRecord,
        config,
        _white_box_record,
        _is_inference,
        refused,
        random=False,
    )


def _white_box_record(which, wrap):
    rng = np.random.default_rng([1, 2, 1][which])
    weights = jnp.asarray(rng.normal(size=(_COLUMNS, 3)), jnp.float32)
    return WhiteBoxRecord(
        Target(weights, wrap(_softly), (_COLUMNS,), 3),
        _RECORDS + which,
        Candidates.of([0, 1], [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.5, 0.3, 0.2]),
        jnp.asarray(rng.normal(size=(5, _COLUMNS)), jnp.float32),
        jnp.asarray([0, 1, 2, 0, 1], jnp.int32),
    )


def _poisoned():
    config = poisoned_regression.Config(poisoned_regression.gradient, steps=3)

    def run(**changes):
        known = dataclasses.replace(_poisoned_training(0, lambda f: f), **changes)
        poisoned_regression.attack(jax.random.key(0), validate(known), config)

    refused = (
        (functools.partial(run, rows=0), "rows is 0"),
        (functools.partial(run, y=jnp.ones(12)), "All outcomes are 1.0"),
        (
            functools.partial(run, x=jnp.full((12, 4), jnp.nan)),
            "48 values that are NaN",
        ),
    )
    return Case(
        poisoned_regression,
        PoisonedTraining,
        config,
        _poisoned_training,
        _is_inference,
        refused,
    )


def _poisoned_training(which, wrap):
    rng = np.random.default_rng([1, 2, 1][which])
    x = jnp.asarray(rng.normal(size=(12, _COLUMNS)), jnp.float32)
    value = Candidates.of([0, 1], [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    y = x @ jnp.arange(4.0) + which
    return PoisonedTraining(x, y, value, 0.01, wrap(_learn), rows=3)


def _learn(x, y):
    model = linear.ridge(
        jnp.concatenate([_RECORDS, x]),
        jnp.concatenate([_RECORDS @ jnp.arange(4.0), y]),
        0.01,
    )
    target = linear.target(model)
    return target, target.predict(_RECORDS).logits[:, 0]


CASES = [
    _attribute(map_inference, map_inference.Config(), random=False),
    _attribute(tree_inversion, tree_inversion.Config(), random=False),
    _attribute(influence_game, influence_game.Config(0.1), random=False),
    _attribute(
        attribute_advantage,
        attribute_advantage.Config(training=0.7),
        random=False,
    ),
    _attribute(
        approximate_inference, approximate_inference.Config(radius=1.0), random=False
    ),
    _attribute(csmia, csmia.Config(), random=False),
    _attribute(lomia, lomia.Config(steps=3, width=4), random=True),
    _neurons(),
    _poisoned(),
]
