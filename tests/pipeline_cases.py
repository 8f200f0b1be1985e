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
    least_significant_bits,
    sign_encoding,
)
from mijax.core import Payload, Target
from mijax.knowledge import Labels, PartialText, TrainingPipeline

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
]
