"""Contract cases: leakage from what a federated client shares."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import tiny
from contract_case import Case

from mijax import federation
from mijax.attacks import (
    bayes_optimal,
    cpl,
    dlg,
    ggl,
    grad_inversion,
    idlg,
    imprint,
    inverting_gradients,
    learning_to_invert,
    linear_leak,
    order_invariant,
)
from mijax.core import Reconstruction, Target
from mijax.knowledge import SharedUpdate, validate


def _leak(attack, config, *, batch=1, random=True):
    return Case(
        attack,
        SharedUpdate,
        config,
        lambda which, wrap: _shared(attack, which, wrap, batch),
        functools.partial(_is_batches, batch=batch),
        tuple(_refused_updates(attack, config, batch)),
        random,
    )


def _sent(attack, which, function):
    params = tiny.variables([1, 2, 1][which])
    target = Target(params, function, tiny.SHAPE, tiny.CLASSES)
    public = _pictures(9, 4)
    return imprint.plant(target, public, 3) if attack is imprint else target


@functools.cache
def _updates(attack, which, batch):
    target = _sent(attack, which, tiny.classify)
    x = _pictures(which, 2 * batch).reshape(2, batch, *tiny.SHAPE)
    labels = jnp.array([[0, 2, 1, 0], [1, 0, 1, 2], [2, 2, 0, 1]][which])
    labels = labels[: 2 * batch].reshape(2, batch)
    share = functools.partial(federation.share, jax.random.key(0), federation.Recipe())
    return jax.jit(share)(target, x, labels).change


def _pictures(seed, number):
    return jax.random.uniform(jax.random.key(seed), (number, *tiny.SHAPE))


def _shared(attack, which, wrap, batch):
    target = _sent(attack, which, wrap(tiny.classify))
    update = _updates(attack, which, batch)
    return SharedUpdate(target, update, batch, prior=tiny.prior())


def _refused_updates(attack, config, batch):
    def run(config=config, spoil=lambda update: update, **changes):
        known = _shared(attack, 0, lambda function: function, batch)
        known = dataclasses.replace(known, update=spoil(known.update), **changes)
        attack.attack(jax.random.key(0), validate(known), config)

    def times(number):
        return lambda update: jax.tree.map(lambda leaf: number * leaf, update)

    for changes, message in [
        ({"spoil": times(jnp.nan)}, r"update's leaves .*bias.* NaN"),
        ({"spoil": times(0)}, "update of client 0 is all zero"),
        (
            {"spoil": lambda update: {"layer": update}},
            "leaf .* that the target does not have",
        ),
        (
            {"spoil": lambda update: jax.tree.map(lambda leaf: leaf[..., :1], update)},
            r"leaf .* is \(.*\), but the target's is",
        ),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"recipe": "sgd"}, "recipe is 'sgd'"),
        ({"labels": jnp.full((2, batch), 3)}, "labels hold 3"),
        ({"labels": jnp.zeros((3, batch), int)}, r"labels are \(3, "),
    ]:
        yield functools.partial(run, **changes), message
    if hasattr(config, "steps"):
        negative = dataclasses.replace(config, steps=-1)
        yield functools.partial(run, config=negative), "(steps|generations) is -1"


def _is_batches(found, config, batch):
    restarts = getattr(config, "restarts", 1)
    assert isinstance(found, Reconstruction)
    assert found.x.shape == (2, batch, *tiny.SHAPE) and found.loss.shape == (2,)
    assert found.candidates.shape == (2, restarts, batch, *tiny.SHAPE)
    assert found.losses.shape == (2, restarts)
    assert found.trace.shape == (2, restarts, getattr(config, "steps", 0) + 1)
    assert found.x.min() >= 0 and found.x.max() <= 1
    if found.labels is not None:
        assert found.labels.shape == (2, batch) and found.labels.dtype == jnp.int32


CASES = [
    _leak(dlg, dlg.Config(steps=2, inner=2, history=3)),
    _leak(idlg, idlg.Config(steps=1, inner=2, history=3)),
    _leak(cpl, cpl.Config(steps=1, inner=2, history=3, restarts=2)),
    _leak(inverting_gradients, inverting_gradients.Config(steps=2, tv_weight=1e-2)),
    _leak(grad_inversion, grad_inversion.Config(steps=2, restarts=2), batch=2),
    _leak(order_invariant, order_invariant.Config(steps=2), batch=2),
    _leak(linear_leak, linear_leak.Config(), random=False),
    _leak(imprint, imprint.Config(), batch=2, random=False),
    _leak(
        learning_to_invert,
        learning_to_invert.Config(steps=2, batch_size=4, width=8, features=32),
        random=False,
    ),
    _leak(bayes_optimal, bayes_optimal.Config(steps=2)),
    _leak(ggl, ggl.Config(steps=2, population=4, elite=2)),
]
