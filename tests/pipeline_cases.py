"""Contract cases: payloads that malicious training code hid in a model."""

import functools

import jax
import jax.numpy as jnp
import tiny
from contract_case import Case

from mijax.attacks import (
    capacity_abuse,
    correlated_values,
    least_significant_bits,
    sign_encoding,
)
from mijax.core import Payload, Target
from mijax.knowledge import Labels, TrainingPipeline

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
]
