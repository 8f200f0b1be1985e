"""GAMIN: the target takes what was generated for the label; the surrogate copies it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mijax.attacks import gamin
from mijax.core import Target
from mijax.knowledge import Scores
from mijax.models.decoders import DenseDecoder
from mijax.models.mlp import MLP

SHAPE = (4, 4, 1)
LABELS = jnp.arange(3)
# The logit of each class is 8 times the brightness of its own rows, less the others'.
ROWS = np.repeat(np.eye(3, 4), 4, 1).T


def linear(params, x):
    return x.reshape(len(x), -1) @ params


def known(params):
    target = Target.from_function(linear, jnp.asarray(params, jnp.float32), SHAPE)
    return Scores.of(target, LABELS)


CONFIG = gamin.Config(
    lambda shape: DenseDecoder(shape, (16,)),
    lambda classes: MLP(classes, (16,), nn.relu),
    steps=300,
    batch_size=16,
    restarts=8,
    latent_size=4,
    learning_rate=3e-3,
    generator_rate=3e-3,
)
train = jax.jit(gamin.train)


def test_each_label_is_reached_and_its_rows_are_lit():
    trained = train(jax.random.key(0), known(2 * ROWS), CONFIG)
    images = gamin.draw(jax.random.key(1), trained, CONFIG, 20)
    logits = linear(2 * ROWS, images.reshape(60, *SHAPE)).reshape(3, 20, 3)
    assert np.mean(np.argmax(logits, -1) == LABELS[:, None]) == 1
    rows = np.mean(np.asarray(images), (1, 3, 4))  # [V, H]
    np.testing.assert_array_equal(rows[:, :3].argmax(1), LABELS)
    guess = np.argmax(gamin.surrogate(trained, CONFIG, images), -1)
    assert np.mean(guess == np.argmax(logits, -1)) > 0.95
    assert trained.asked.spent == 3 * 2 * 16 * 300
    assert np.all((trained.balances >= 0) & (trained.balances <= 1))
    assert np.all(trained.trace[:, -1] < 0.5 * trained.trace[:, 0])


def test_nothing_is_learned_of_a_target_that_always_says_the_same():
    trained = train(jax.random.key(0), known(0 * ROWS), CONFIG)
    images = gamin.draw(jax.random.key(1), trained, CONFIG, 20)
    scores = jax.nn.softmax(gamin.surrogate(trained, CONFIG, images))
    np.testing.assert_allclose(scores, 1 / 3, atol=0.15)


def test_without_a_balance_the_surrogate_copies_alone():
    alone = dataclasses.replace(CONFIG, balance_rate=0.0)
    assert np.all(train(jax.random.key(0), known(2 * ROWS), alone).balances == 0)
