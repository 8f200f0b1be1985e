"""LOMMA finds what the target and its students agree on, and only that."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mijax.attacks import lomma
from mijax.core import Prediction, Prior, Target
from mijax.knowledge import WhiteBox
from mijax.models.mlp import MLP

LATENT, SHAPE, CLASSES = 4, (4, 4, 1), 3
BASIS = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(16, 4)))[0].T)
PLANTED = 0.8 * jnp.eye(CLASSES, LATENT)  # the latent of each class
LABELS = jnp.arange(CLASSES, dtype=jnp.int32)
CONFIG = lomma.Config(
    steps=60, restarts=3, learning_rate=0.5, feature_weight=0.1, critic_weight=0.0
)
attack = jax.jit(lomma.attack)


def invert(x):
    return (x - 0.5).reshape(-1, 16) @ BASIS.T


def knows(planted, x):
    z = invert(x)
    return Prediction(-jnp.sum((z[:, None] - planted[None]) ** 2, -1), z)


def is_deceived(planted, x):
    """Surest far away from what was planted, along the latent that no class uses."""
    prediction = knows(planted, x)
    wrong = 5 * prediction.features[:, 3:]
    return Prediction(prediction.logits + wrong, prediction.features)


def is_blind(planted, x):
    return Prediction(jnp.zeros((len(x), len(planted))), 0 * invert(x))


def knowing(function, *surrogates):
    prior = Prior(
        BASIS,
        jnp.float32(0),
        lambda basis, z: 0.5 + (z @ basis).reshape(-1, *SHAPE),
        lambda critic, x: critic + jnp.zeros(len(x)),
        LATENT,
        SHAPE,
    )
    target, *others = (
        Target.from_function(f, PLANTED, SHAPE) for f in (function, *surrogates)
    )
    z = jax.random.normal(jax.random.key(5), (8, LATENT)) / 4
    return WhiteBox(target, LABELS, prior, prior.images(z), surrogates=tuple(others))


def distance(found):
    """Of each reconstruction's latent from the planted one."""
    return np.linalg.norm(invert(found.x) - PLANTED, axis=1)


def test_finds_what_was_planted():
    assert distance(attack(jax.random.key(0), knowing(knows), CONFIG)).max() < 0.2


def test_students_correct_what_deceives_the_target():
    alone = distance(attack(jax.random.key(0), knowing(is_deceived), CONFIG))
    known = knowing(is_deceived, *[knows] * 9)
    together = distance(attack(jax.random.key(0), known, CONFIG))
    assert alone.min() > 0.8 and together.max() < 0.5


def test_a_target_that_knows_nothing_gives_nothing():
    found = attack(jax.random.key(0), knowing(is_blind), CONFIG)
    np.testing.assert_allclose(found.trace[..., -1], found.trace[..., 0], rtol=1e-5)


def test_features_are_drawn_for_each_candidate():
    """What the features are pulled towards differs, as far as public ones do."""
    known = knowing(is_blind)
    see = lambda planted, x: Prediction(jnp.zeros((len(x), CLASSES)), invert(x))
    known = dataclasses.replace(known, target=Target.from_function(see, PLANTED, SHAPE))
    config = dataclasses.replace(CONFIG, restarts=8, feature_weight=1.0, clip=10.0)
    drawn = invert(attack(jax.random.key(0), known, config).candidates).reshape(-1, 4)
    public = invert(known.public)
    np.testing.assert_allclose(drawn.mean(0), public.mean(0), atol=0.2)
    np.testing.assert_allclose(drawn.std(0), public.std(0), rtol=0.5)


@pytest.fixture(scope="module")
def taught():
    known = knowing(knows)
    sharp = lambda planted, x: knows(8 * planted, 0.5 + 8 * (x - 0.5))
    known = dataclasses.replace(
        known, target=Target.from_function(sharp, PLANTED, SHAPE)
    )
    z = jax.random.normal(jax.random.key(1), (512, LATENT))
    x, probabilities = lomma.examples(known, known.prior.images(z))
    np.testing.assert_allclose(
        probabilities, jax.nn.softmax(known.target.predict(x).logits), atol=1e-5
    )
    network = MLP(CLASSES, (32,), nn.relu)
    training = lomma.student(known, network, learning_rate=0.1)
    student, metrics = jax.jit(
        lambda key, data: training.fit(key, data, batch_size=64, steps=300)
    )(jax.random.key(2), (x[:384], probabilities[:384]))
    return student, metrics, x[384:], probabilities[384:]


def test_a_student_says_what_the_target_says(taught):
    student, metrics, x, probabilities = taught
    assert metrics["loss"][-20:].mean() < 0.3 * metrics["loss"][:5].mean()
    said = jnp.argmax(student.predict(x).logits, 1)
    assert np.mean(said == jnp.argmax(probabilities, 1)) > 0.85


def test_a_student_of_shuffled_answers_does_not(taught):
    student, _, x, probabilities = taught
    said = jnp.argmax(student.predict(x).logits, 1)
    shuffled = jnp.roll(jnp.argmax(probabilities, 1), 1)
    assert np.mean(said == shuffled) < 0.6
