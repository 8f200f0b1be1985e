"""Contract cases: what crosses a split network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from contract_case import Case

from mijax import attacks
from mijax.attacks import query_free, regularized_mle
from mijax.core import Reconstruction
from mijax.knowledge import Half, SplitQueries, SplitQueryFree, SplitWhiteBox, validate
from mijax.models.decoders import DenseDecoder

inverse_network = attacks.split_inverse_network
_FEATURES = 5


def small(shape):
    """A decoder that compiles in a moment."""
    return DenseDecoder(shape, (4,))


def first(params, x):
    """A first half: a dense layer."""
    return jnp.tanh(x.reshape(len(x), -1) @ params)


def rest(params, features):
    """A second half: a dense layer of three classes."""
    return features @ params


def _drawn(which, shape):
    rng = np.random.default_rng(which % 2)  # World 2 is world 0 with other victims.
    return jnp.asarray(rng.normal(0, 0.3, shape), jnp.float32)


def _images(seed, number):
    rng = np.random.default_rng(10 + seed)
    return jnp.asarray(rng.uniform(size=(number, *tiny.SHAPE)), jnp.float32)


def _features(which):
    return first(_drawn(which, (64, _FEATURES)), _images(which, 2))


def white_box(which, wrap, features=None):
    half = Half(_drawn(which, (64, _FEATURES)), wrap(first))
    features = _features(which) if features is None else features
    return SplitWhiteBox(features, tiny.SHAPE, half)


def queries(which, wrap, features=None, public=None):
    half = Half(_drawn(which, (64, _FEATURES)), wrap(first))
    features = _features(which) if features is None else features
    public = _images(7, 6) if public is None else public
    return SplitQueries.of(features, tiny.SHAPE, half, public)


def query_free_of(which, wrap, features=None, labels=(0, 1, 2, 0, 1, 2)):
    half = Half(_drawn(which, (_FEATURES, 3)), wrap(rest))
    features = _features(which) if features is None else features
    return SplitQueryFree(
        features, tiny.SHAPE, half, _images(7, 6), jnp.asarray(labels, jnp.int32)
    )


def _is_images(steps, found, config):
    del config
    assert isinstance(found, Reconstruction)
    assert found.x.shape == (2, *tiny.SHAPE) and found.loss.shape == (2,)
    assert found.candidates.shape == (2, 1, *tiny.SHAPE)
    assert found.trace.shape == (2, 1, steps)
    assert found.x.min() >= 0 and found.x.max() <= 1


def _refused(method, config, knowing, wrong):
    def run(config=config, **changes):
        known = validate(knowing(0, lambda function: function, **changes))
        method.attack(jax.random.key(0), known, config)

    other = jnp.zeros((2, _FEATURES + 1))
    return (
        (functools.partial(run, features=other), r"features.*\(2, 6\)"),
        (
            functools.partial(run, features=jnp.full((2, _FEATURES), jnp.nan)),
            "The features hold 10 values that are NaN",
        ),
        *((functools.partial(run, **changes), message) for changes, message in wrong),
    )


def _case(method, kind, config, knowing, steps, wrong, *, random):
    return Case(
        method,
        kind,
        config,
        knowing,
        functools.partial(_is_images, steps),
        _refused(method, config, knowing, wrong),
        random,
    )


CASES = [
    _case(
        regularized_mle,
        SplitWhiteBox,
        regularized_mle.Config(steps=3),
        white_box,
        4,
        [({"config": regularized_mle.Config(steps=-1)}, "steps is -1")],
        random=False,
    ),
    _case(
        inverse_network,
        SplitQueries,
        inverse_network.Config(small, steps=3, batch_size=4),
        queries,
        3,
        [
            ({"config": inverse_network.Config(steps=0)}, "steps is 0"),
            ({"public": jnp.zeros((3, 4, 4, 1))}, r"Images are \(4, 4, 1\)"),
        ],
        random=True,
    ),
    _case(
        query_free,
        SplitQueryFree,
        query_free.Config(small, regularized_mle.Config(steps=3), 2, 4),
        query_free_of,
        4,
        [
            ({"labels": [0, 1, 2]}, r"There are \(3,\) labels of 6 public"),
            ({"labels": [0, 1, 2, 0, 1, 3]}, "labels hold 3"),
            (
                {"config": query_free.Config(lambda shape: small((7,)))},
                r"makes features \(7,\) but \(5,\)",
            ),
        ],
        random=True,
    ),
]
