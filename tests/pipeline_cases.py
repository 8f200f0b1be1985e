"""Contract cases: payloads that malicious training code hid in a model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from contract_case import Case

from mijax.attacks import (
    capacity_abuse,
    correlated_values,
    exposure,
    informed_adversary,
    least_significant_bits,
    prior_aware,
    sign_encoding,
)
from mijax.core import Inference, Payload, Reconstruction, Target
from mijax.knowledge import (
    AllButOne,
    Labels,
    PartialText,
    PrivateHistory,
    TrainingPipeline,
)

_LENGTH = 24


def _target(which, wrap):
    seed = [1, 2, 1][which]
    return Target(tiny.variables(seed), wrap(tiny.classify), tiny.SHAPE, tiny.CLASSES)


def _released(which, wrap):
    return TrainingPipeline(_target(which, wrap), _LENGTH)


def _asked(which, wrap):
    return Labels.of(_target(which, wrap), jnp.zeros(1, jnp.int32))


def _is_a_payload(found, config):
    del config
    assert isinstance(found, Payload)
    assert found.values.shape == found.margin.shape == (_LENGTH,)


def _continue(params, x):
    """A language model of six symbols that sees the last two."""
    symbols = x.astype(jnp.int32)
    return params[symbols[:, -2], symbols[:, -1]]


def _text(which, wrap):
    params = jax.random.normal(jax.random.key([1, 2, 1][which]), (6, 6, 6))
    target = Target(params, wrap(_continue), (4,), 6)
    prefix = jnp.array([[0, 0, 3, 1], [0, 2, 1, 1 + which]])
    return PartialText.of(target, prefix, jnp.arange(2, 6), 3)


def _is_an_extraction(found, config):
    del config
    assert found.secret.shape == (2, 3)
    assert np.isin(found.secret, np.arange(2, 6)).all()
    assert found.bits.shape == found.dropped.shape == found.exact.shape == (2,)


def _outside():
    known = _text(0, lambda function: function)
    known = dataclasses.replace(known, symbols=jnp.array([1, 9]))
    exposure.attack(jax.random.key(0), known)


def _all_but_one(which, wrap):
    del wrap  # Weights alone are read.
    rng = np.random.default_rng([1, 2, 1][which])
    x = jnp.asarray(rng.uniform(size=(20, 2, 2, 1)), jnp.float32)

    def weights(x):
        return {"w": 1 + 0.1 * x.reshape(-1, 4), "b": x[:, 0, 0, :] - 0.5}

    return AllButOne(weights(x[:3] + 0.01 * which), weights(x), x)


def _is_a_record(found, config):
    assert isinstance(found, Reconstruction)
    assert found.x.shape == (3, 2, 2, 1) and found.candidates.shape == (3, 1, 2, 2, 1)
    assert found.loss.shape == (3,) and found.trace.shape == (3, 1, config.steps)
    assert (found.x >= 0).all() and (found.x <= 1).all()


def _another_architecture():
    known = _all_but_one(0, None)
    known = dataclasses.replace(known, released={"w": jnp.zeros((3, 5))})
    informed_adversary.attack(jax.random.key(0), known)


def _clipped(params, record):
    gradient = jax.grad(lambda params: jnp.sum(jnp.tanh(params @ record)))(params)
    return gradient / jnp.maximum(1.0, jnp.linalg.norm(gradient))


def _history(which, wrap):
    rng = np.random.default_rng([1, 2, 1][which])
    params, residual = jnp.asarray(rng.normal(size=(2, 3, 5, 4, 2)), jnp.float32)
    candidates = jnp.asarray(rng.normal(size=(4, 2)) + 0.1 * which, jnp.float32)
    return PrivateHistory(params, residual, candidates, wrap(_clipped), 0.8, 0.5)


def _is_a_choice(found, config):
    del config
    assert isinstance(found, Inference)
    assert found.log_posterior.shape == (3, 4)
    np.testing.assert_allclose(jnp.exp(found.log_posterior).sum(1), 1, rtol=1e-5)


def _no_noise():
    known = dataclasses.replace(_history(0, lambda f: f), deviation=0.0)
    prior_aware.attack(jax.random.key(0), known)


def _never_sampled():
    known = dataclasses.replace(_history(0, lambda f: f), sampling=0.0)
    prior_aware.attack(jax.random.key(0), known)


def _too_long(method):
    knowledge = TrainingPipeline(tiny.target(), 10**9)
    return functools.partial(method.attack, jax.random.key(0), knowledge)


CASES = [
    *(
        Case(
            method,
            TrainingPipeline,
            method.Config(),
            _released,
            _is_a_payload,
            ((_too_long(method), "the model carries .* too few"),),
            random=False,
        )
        for method in (least_significant_bits, correlated_values, sign_encoding)
    ),
    Case(
        capacity_abuse,
        Labels,
        capacity_abuse.Config(length=_LENGTH),
        _asked,
        _is_a_payload,
        ((lambda: capacity_abuse.Config(length=0), "length is 0"),),
        random=False,
    ),
    Case(
        exposure,
        PartialText,
        exposure.Config(width=2, frontier=16, rounds=40),
        _text,
        _is_an_extraction,
        (
            (_outside, "symbols holds symbol 9, outside the model's alphabet"),
            (lambda: exposure.Config(width=9, frontier=8), "width is at most"),
        ),
        random=False,
    ),
    Case(
        informed_adversary,
        AllButOne,
        informed_adversary.Config(widths=(4,), steps=3, batch_size=4),
        _all_but_one,
        _is_a_record,
        ((_another_architecture, "shadow models of the released architecture"),),
    ),
    Case(
        prior_aware,
        PrivateHistory,
        prior_aware.Config(),
        _history,
        _is_a_choice,
        (
            (_no_noise, "deviation is 0.0: it must be positive"),
            (_never_sampled, "sampling is 0.0"),
        ),
        random=False,
    ),
]
