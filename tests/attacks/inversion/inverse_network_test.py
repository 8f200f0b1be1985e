"""Decoders of scores: a planted inverse is found; another model's scores give none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax.attacks import inverse_network
from mijax.core import Target
from mijax.defenses import top_k
from mijax.knowledge import Scores
from mijax.models.decoders import DenseDecoder
from mijax.models.mlp import MLP

SHAPE = (4, 4, 1)
PARTS = np.random.default_rng(5).uniform(size=(3, 16))


def images(seed, number):
    """Mixtures of three images."""
    mixed = np.random.default_rng(seed).dirichlet(np.ones(3), number) @ PARTS
    return jnp.asarray(mixed.reshape(number, *SHAPE), jnp.float32)


def linear(params, x):
    return x.reshape(len(x), -1) @ params


def model(params):
    return Target.from_function(linear, jnp.asarray(params, jnp.float32), SHAPE)


# The logits are 2 times the mixture's shares.
KNOWN = model(2 * np.linalg.pinv(PARTS))
CONFIG = inverse_network.Config(
    lambda shape: DenseDecoder(shape, (32,)), steps=1500, learning_rate=3e-3
)


def scores(target, x):
    return jax.nn.softmax(target.predict(x).logits)


def test_a_decoder_inverts_scores_that_determine_the_image():
    truth, public = images(1, 20), images(2, 300)
    baseline = np.mean((np.asarray(truth) - np.mean(np.asarray(public), 0)) ** 2)
    run = jax.jit(inverse_network.attack)
    labels = jnp.zeros(20, jnp.int32)

    def error(observed):
        known = Scores.of(KNOWN, labels, public=public, observed=observed)
        found = run(jax.random.key(0), known, CONFIG)
        assert found.queries == 300
        return np.mean((found.x - truth) ** 2)

    assert error(scores(KNOWN, truth)) < 0.1 * baseline
    other = model(np.random.default_rng(3).normal(size=(16, 3)))
    assert error(scores(other, truth)) > 0.8 * baseline  # null: of another model


def test_log_scores():
    p = jnp.array([[0.5, 0.5, 0.0], [1.0, 1e-30, 0.0]])
    raised = np.log(1e-30) + 50  # below 0, so all are raised by it
    expected = [[np.log(0.5) + 50] * 2 + [0], [50 - raised, 0, 0]]
    np.testing.assert_allclose(
        inverse_network.log_scores(p), np.array(expected) / 50, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, [[0, 0, 0.5], [0.4, 0, 0]]), (2, [[0, 0.3, 0.5], [0.4, 0.4, 0]])],
)
def test_top_k(number, expected):
    p = jnp.array([[0.2, 0.3, 0.5], [0.4, 0.4, 0.2]])
    np.testing.assert_allclose(top_k.top_k(number).output(p), expected)


def test_more_classes_than_there_are_cannot_be_released():
    with pytest.raises(ValueError, match=r"The 4 largest .* there are 3 classes"):
        top_k.top_k(4).output(jnp.ones((1, 3)) / 3)


@pytest.mark.slow
def test_joint_training_learns_the_task_and_the_inverse():
    x = images(0, 600)
    labels = jnp.argmax(KNOWN.predict(x).logits, 1)
    training = inverse_network.joint(MLP(3, (8,)), SHAPE, 5.0, CONFIG)
    run = jax.jit(lambda key: training.fit(key, (x, labels), batch_size=64, steps=1000))
    (variables, decoder), metrics = run(jax.random.key(0))
    logits = MLP(3, (8,)).apply(variables, x).logits
    found = decoder(inverse_network.log_scores(jax.nn.softmax(logits)))
    assert np.mean(jnp.argmax(logits, 1) == labels) > 0.9
    assert np.mean((found - x) ** 2) < 0.3 * np.var(np.asarray(x), 0).mean()
    assert metrics["error"][-1] < metrics["error"][0]
