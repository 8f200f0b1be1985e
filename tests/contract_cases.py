"""The worlds in which `contract_test.py` asks of every attack what all promise.

A family of attacks is one function that returns its cases; `CASES` joins them.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from mijax.attacks import (
    approximate_inference,
    attribute_advantage,
    csmia,
    gmi,
    influence_game,
    lomia,
    map_inference,
    mi_face,
    poisoned_regression,
    tree_inversion,
)
from mijax.core import Inference, Prior, Reconstruction, Target
from mijax.knowledge import (
    Candidates,
    Labels,
    Oracle,
    PartialRecord,
    PoisonedTraining,
    Scores,
    WhiteBox,
    confusion,
    normal,
)
from mijax.models import linear


class Case(NamedTuple):
    """One attack, with one kind of knowledge.

    Attributes:
      attack: the module.
      kind: the type of the knowledge.
      config: small sizes.
      knowing: `(which, wrap) -> knowledge` of world 0, 1 or 2: trees of one structure
        and shape that differ in model and victims. The model's function goes through
        `wrap(function)`.
      check: `(found, config)` asserts shapes and ranges of what was found in world 0.
      refused: `(make, message)`: `make()` runs the attack, or makes its knowledge, and
        must raise a ValueError that matches the message.
      random: whether another key finds something else.
    """

    attack: Any
    kind: type
    config: Any
    knowing: Callable[[int, Callable], Any]
    check: Callable[[Any, Any], None]
    refused: tuple[tuple[Callable[[], Any], str], ...]
    random: bool = True

    @property
    def name(self) -> str:
        """As pytest shows it."""
        return f"{self.attack.__name__.split('.')[-1]}-{self.kind.__name__}"


def kinds(attack) -> tuple[type, ...]:
    """The types of knowledge that an attack takes."""
    hint = typing.get_type_hints(attack.attack)["knowledge"]
    return typing.get_args(hint) or (hint,)


# Inversion of a trained model -----------------------------------------------------


def _inversion(attack, config, *, random):
    for kind in kinds(attack):
        yield Case(
            attack,
            kind,
            config,
            lambda which, wrap, kind=kind: _inverted(kind, which, wrap),
            _is_images,
            tuple(_refused_inversions(attack, kind, config)),
            random,
        )


def _inverted(kind, which, wrap):
    labels, seed = jnp.array([[0, 2], [1, 0], [2, 2]][which]), [1, 2, 1][which]
    model = Target(tiny.variables(seed), wrap(tiny.classify), tiny.SHAPE, tiny.CLASSES)
    return (WhiteBox if kind is WhiteBox else kind.of)(
        model, labels, prior=tiny.prior()
    )


def _refused_inversions(attack, kind, config):
    make = WhiteBox if kind is WhiteBox else kind.of

    def run(labels=(0,), target=None, prior=None, config=config, **auxiliary):
        known = make(
            target or tiny.target(),
            jnp.asarray(labels),
            prior=prior or tiny.prior(),
            **auxiliary,
        )
        attack.attack(jax.random.key(0), known, config)

    nan = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), tiny.variables(1))
    infinite = dataclasses.replace(tiny.prior(), critic=jnp.array([jnp.inf]))
    for changes, message in [
        ({"labels": [3]}, "labels hold 3: the target's classes are 0 to 2"),
        ({"labels": [0, -1]}, "labels hold -1"),
        ({"labels": [0.0, 1.0]}, "labels are float32"),
        ({"labels": np.zeros(0, np.int32)}, "labels are empty"),
        ({"labels": [[0, 1]]}, r"labels are \(1, 2\)"),
        (
            {"target": dataclasses.replace(tiny.target(), params=nan)},
            r"target's parameters.*NaN",
        ),
        ({"prior": infinite}, r"prior's parameters\.critic.*infinite"),
        (
            {"public": np.full((2, *tiny.SHAPE), np.nan, np.float32)},
            "public images hold 128",
        ),
        ({"config": dataclasses.replace(config, steps=-1)}, "steps is -1"),
    ]:
        yield functools.partial(run, **changes), message
    if attack is gmi:
        small = Prior(jnp.ones(()), None, _times, _first, 4, (4, 4, 1))
        message = r"prior draws images \(4, 4, 1\).*\(8, 8, 1\)"
        yield functools.partial(run, prior=small), message


def _times(w, z):
    return w * z


def _first(w, x):
    return x[:, 0]


def _is_images(found, config):
    restarts = getattr(config, "restarts", 1)
    assert isinstance(found, Reconstruction)
    assert found.x.shape == (2, *tiny.SHAPE) and found.loss.shape == (2,)
    assert found.candidates.shape == (2, restarts, *tiny.SHAPE)
    assert found.losses.shape == (2, restarts)
    assert found.trace.shape == (config.steps + 1, 2, restarts)
    np.testing.assert_allclose(found.losses, found.trace.min(0), rtol=1e-5)
    np.testing.assert_array_equal(found.loss, found.losses.min(1))
    assert found.x.min() >= 0 and found.x.max() <= 1


# Inference of attributes ----------------------------------------------------------

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
        attack.attack(jax.random.key(0), dataclasses.replace(known, **changes), config)

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


def _poisoned():
    config = poisoned_regression.Config(poisoned_regression.gradient, steps=3)

    def run(**changes):
        known = dataclasses.replace(_poisoned_training(0, lambda f: f), **changes)
        poisoned_regression.attack(jax.random.key(0), known, config)

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
    _poisoned(),
    *_inversion(mi_face, mi_face.Config(steps=2), random=False),
    *_inversion(gmi, gmi.Config(steps=2, restarts=2), random=True),
]
BLACK_BOXES = {Scores, Labels}
COUNTED = {*BLACK_BOXES, PartialRecord}
