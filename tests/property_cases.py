"""Contract cases: properties of the training set of released networks."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from contract_case import Case

from mijax.attacks import deep_sets
from mijax.core import Inference
from mijax.knowledge import ReleasedParameters

_SHADOWS, _VICTIMS, _WIDTHS = 6, 2, (4, 3, 2)


def networks(rng, number):
    """Kernels and biases of random networks."""
    pairs = itertools.pairwise(_WIDTHS)
    return tuple(
        (
            jnp.asarray(rng.normal(size=(number, *pair)), jnp.float32),
            jnp.asarray(rng.normal(size=(number, pair[1])), jnp.float32),
        )
        for pair in pairs
    )


def _known(which, wrap, **changes):
    del wrap  # The models are not run.
    rng = np.random.default_rng(which)
    known = ReleasedParameters(
        networks(rng, _VICTIMS), networks(rng, _SHADOWS), jnp.arange(_SHADOWS) % 2
    )
    return dataclasses.replace(known, **changes)


def _is_properties(found, config):
    del config
    assert isinstance(found, Inference)
    assert found.guess.shape == (_VICTIMS,)
    assert found.log_posterior.shape == (_VICTIMS, 2)
    np.testing.assert_allclose(np.exp(found.log_posterior).sum(1), 1, rtol=1e-5)


_CONFIG = deep_sets.Config(deep_sets.DeepSets(3, 4), steps=2, batch_size=4)


def _refused():
    def run(**changes):
        deep_sets.attack(jax.random.key(0), _known(0, None, **changes), _CONFIG)

    wider = tuple(
        (jnp.pad(kernel, ((0, 0), (0, 1), (0, 1))), jnp.pad(bias, ((0, 0), (0, 1))))
        for kernel, bias in _known(0, None).released
    )
    for changes, message in [
        ({"properties": jnp.zeros(_SHADOWS, int)}, r"properties hold \[0\]"),
        ({"properties": jnp.zeros(3, int)}, r"properties are \(3,\)"),
        ({"released": wider}, r"kernel of layer 0 is \(2, 5, 4\)"),
        ({"released": _known(0, None).released[:1]}, "have 1 layers, the shadow"),
    ]:
        yield functools.partial(run, **changes), message
    yield lambda: dataclasses.replace(_CONFIG, steps=0), "steps is 0"


CASES = [
    Case(
        deep_sets,
        ReleasedParameters,
        _CONFIG,
        _known,
        _is_properties,
        tuple(_refused()),
    )
]
