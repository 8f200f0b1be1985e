"""KED-MI's critic learns the target's opinion; its Gaussians follow what it knows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import ppa_test as planted
import pytest
from flax import linen as nn

from mijax.attacks import ked_mi
from mijax.core import Prediction, Target
from mijax.knowledge import WhiteBox

CLASSES, SHAPE = planted.CLASSES, planted.SHAPE
CONFIG = ked_mi.Config(
    steps=200, restarts=20, learning_rate=0.05, identity_weight=1.0, clip=10.0
)
attack = jax.jit(ked_mi.attack)


def near(height, x):
    return -height * planted.distances(x) / 10


@pytest.fixture(scope="module")
def found():
    return attack(jax.random.key(0), planted.knowing(near), CONFIG)


@pytest.fixture(scope="module")
def begun():
    config = dataclasses.replace(CONFIG, steps=0)
    return attack(jax.random.key(0), planted.knowing(near), config)


def laws(found):
    """Mean and deviation of each victim's draws, `[V, Z]`."""
    z = planted.invert(found.candidates.reshape(-1, *SHAPE))
    z = z.reshape(*found.candidates.shape[:2], -1)
    return z.mean(1), z.std(1)


def test_finds_what_was_planted(found):
    mean, _ = laws(found)
    assert np.all(np.argmin(planted.distances(found.x), 1) == planted.LABELS)
    own = planted.PLANTED > 0
    assert mean[own].min() > 0.5


def test_the_gaussian_contracts(found, begun):
    _, deviation = laws(found)
    _, first = laws(begun)
    own = planted.PLANTED > 0
    assert deviation[own].mean() < 0.85 * first[own].mean()


def test_a_target_that_tells_nothing_moves_nothing(begun):
    found = attack(jax.random.key(0), planted.knowing(planted.blind), CONFIG)
    np.testing.assert_allclose(found.candidates, begun.candidates, atol=1e-5)


def test_the_critic_pulls_toward_what_it_likes():
    def likes(critic, x):
        return critic * planted.invert(x)[:, 0]

    known = planted.knowing(planted.blind)
    prior = dataclasses.replace(known.prior, criticize=likes, critic=jnp.float32(1))
    pulled = attack(jax.random.key(0), dataclasses.replace(known, prior=prior), CONFIG)
    plain = attack(jax.random.key(0), known, CONFIG)
    assert laws(pulled)[0][:, 0].min() > 2 > laws(plain)[0][:, 0].max()


# Its networks -------------------------------------------------------------------------


class Drawer(nn.Module):
    """One dense layer."""

    @nn.compact
    def __call__(self, z, train=False):
        return nn.sigmoid(nn.Dense(64)(z)).reshape(-1, *SHAPE)


class Judge(nn.Module):
    """Two dense layers, with a logit for each class."""

    @nn.compact
    def __call__(self, x):
        x = nn.leaky_relu(nn.Dense(16)(2 * x.reshape(len(x), -1) - 1))
        return Prediction(nn.Dense(CLASSES)(x), x)


def sure(height, x):
    return height * (planted.bumps(1.0, x) + 1)


@pytest.fixture(scope="module")
def public():
    key, noise_key = jax.random.split(jax.random.key(1))
    labels = jax.random.randint(key, (300,), 0, CLASSES)
    z = planted.PLANTED[labels] + 0.3 * jax.random.normal(noise_key, (300, 4))
    return planted.generate(planted.BASIS, z)


@pytest.fixture(scope="module")
def learn(public):
    target = Target.from_function(sure, jnp.float32(10.0), SHAPE)
    known = WhiteBox(target, planted.LABELS)
    config = ked_mi.PriorConfig(
        latent_size=4,
        batch_size=32,
        learning_rate=3e-3,
        critic_learning_rate=3e-3,
        average=0.9,
        real_weight=1.0,
    )
    method = ked_mi.prior(known, Drawer(), Judge(), config)
    fit = jax.jit(lambda key, data: method.fit(key, data, batch_size=32, steps=300))
    images, probabilities = ked_mi.examples(known, public)

    def run(order=None):
        data = images, probabilities if order is None else probabilities[order]
        prior, metrics = fit(jax.random.key(2), data)
        said = Judge().apply(prior.critic, images).logits.argmax(1)
        return prior, metrics, np.mean(said == probabilities.argmax(1))

    return run


@pytest.mark.slow
def test_the_critic_learns_what_the_target_says(public, learn):
    prior, metrics, agreed = learn()
    assert agreed > 0.9
    x = prior.images(prior.sample(jax.random.key(3), 100))
    assert np.mean((x.mean(0) - public.mean(0)) ** 2) < 0.02
    assert np.all(prior.score(x) <= 0)
    assert metrics["labels"][-20:].mean() < 0.5 * metrics["labels"][:5].mean()


def test_not_where_the_answers_are_shuffled(learn):
    order = jax.random.permutation(jax.random.key(4), 300)
    assert learn(order)[2] < 0.7
