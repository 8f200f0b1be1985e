"""Explained predictions: the map is what it says, and shows what confidences do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax.attacks import explanation, inverse_network
from mijax.core import Target
from mijax.knowledge import Explained, Scores
from mijax.knowledge.explained import gradient, gradient_times_input
from mijax.models.decoders import DenseDecoder

SHAPE = (4, 4, 1)
WEIGHTS = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)


def linear(params, x):
    return x.reshape(len(x), -1) @ params


def images(seed, number):
    x = np.random.default_rng(seed).uniform(size=(number, *SHAPE))
    return jnp.asarray(x, jnp.float32)


MODEL = Target.from_function(linear, jnp.asarray(WEIGHTS), SHAPE)
LABELS = jnp.zeros(20, jnp.int32)
CONFIG = inverse_network.Config(
    lambda shape: DenseDecoder(shape, (64,)), steps=1500, learning_rate=3e-3
)


def test_maps_of_a_linear_model():
    x = images(0, 5)
    best = np.argmax(linear(WEIGHTS, x), 1)
    slopes = WEIGHTS[:, best].T.reshape(5, *SHAPE)
    np.testing.assert_allclose(gradient(MODEL, x), slopes, rtol=1e-6)
    np.testing.assert_allclose(gradient_times_input(MODEL, x), slopes * x, rtol=1e-6)


def test_a_map_shows_what_confidences_do_not():
    truth, public = images(1, 20), images(2, 400)
    observed = jax.nn.softmax(MODEL.predict(truth).logits)
    run = jax.jit(explanation.attack)

    def error(maps):
        known = Explained.of(
            MODEL, LABELS, public=public, observed=observed, explanations=maps
        )
        found = run(jax.random.key(0), known, CONFIG)
        assert found.queries == 400
        return np.mean((found.x - truth) ** 2)

    plain = Scores.of(MODEL, LABELS, public=public, observed=observed)
    scores = inverse_network.attack(jax.random.key(0), plain, CONFIG).x
    alone = np.mean((scores - truth) ** 2)
    assert error(gradient_times_input(MODEL, truth)) < 0.5 * alone
    other = Target.from_function(linear, jnp.asarray(-WEIGHTS), SHAPE)
    assert error(gradient_times_input(other, truth)) > alone  # null: another model's


def test_a_defense_acts_on_confidences_and_queries_are_counted():
    known = Explained.of(MODEL, LABELS, gradient, release=lambda p: 0 * p)
    scores, maps, asked = known.query(images(0, 3))
    np.testing.assert_array_equal(scores, 0)
    np.testing.assert_allclose(maps, gradient(MODEL, images(0, 3)), rtol=1e-6)
    assert asked.spent == 3
    with pytest.raises(TypeError, match="black box cannot be differentiated"):
        jax.grad(lambda x: jnp.sum(known.query(x)[1]))(images(0, 1))
