"""GMI finds what was planted behind a generator, and nothing where nothing was."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax.attacks import gmi
from mijax.attacks.inversion import losses
from mijax.core import Prediction, Prior, Target
from mijax.knowledge import WhiteBox, glimpses

LATENT, SHAPE, CLASSES = 4, (8, 8, 1), 3
LOSSES = [losses.cross_entropy, losses.logit, losses.max_margin]
# Orthonormal directions: the generator is linear, and its inverse the transpose.
BASIS = np.linalg.qr(np.random.default_rng(0).normal(size=(64, LATENT)))[0].T
BASIS = jnp.asarray(BASIS, jnp.float32)
PLANTED = 0.8 * jnp.eye(CLASSES, LATENT)  # the latent of each class
LABELS = jnp.arange(CLASSES, dtype=jnp.int32)
attack = jax.jit(gmi.attack)


def generate(basis, z):
    return 0.5 + (z @ basis).reshape(-1, *SHAPE)


def invert(x):
    return (x - 0.5).reshape(-1, 64) @ BASIS.T


def unmoved(critic, x):
    return critic * jnp.mean(x, axis=(1, 2, 3))


def bumps(height, x):
    distances = jnp.sum((invert(x)[:, None] - PLANTED[None]) ** 2, -1)
    features = jnp.exp(-distances / 0.5)
    return Prediction(height * features, features)


def blind(height, x):
    return Prediction(0 * height * x[:, 0, 0] + jnp.zeros((1, CLASSES)))


def broken(height, x):
    prediction = bumps(height, x)
    bad = (invert(x)[:, 0] < 0)[:, None]
    return Prediction(jnp.where(bad, jnp.nan, prediction.logits), prediction.features)


def target_of(function):
    return Target.from_function(function, jnp.float32(10.0), SHAPE)


def knowing(function, **auxiliary):
    prior = Prior(BASIS, jnp.float32(0), generate, unmoved, LATENT, SHAPE)
    return WhiteBox(target_of(function), LABELS, prior=prior, **auxiliary)


def identified(x):
    """Whether each image is nearest to what was planted for its class."""
    distances = jnp.sum((invert(x)[:, None] - PLANTED[None]) ** 2, -1)
    return jnp.argmin(distances, 1) == LABELS


@pytest.mark.parametrize("loss", LOSSES)
def test_finds_what_was_planted(loss):
    public = generate(BASIS, jax.random.normal(jax.random.key(9), (70, LATENT)))
    config = gmi.Config(steps=300, restarts=3, identity_loss=loss, identity_weight=30.0)
    found = attack(jax.random.key(0), knowing(bumps, public=public), config)
    assert np.all(identified(found.x))
    np.testing.assert_allclose(invert(found.x), PLANTED, atol=0.25)
    assert np.abs(invert(found.candidates.reshape(-1, *SHAPE))).max() <= 1 + 1e-5


def test_a_target_that_tells_nothing_gives_chance():
    config = gmi.Config(steps=3, restarts=2)
    keys = jax.random.split(jax.random.key(0), 400)
    found = jax.jit(jax.vmap(gmi.attack, (0, None, None)))(keys, knowing(blind), config)
    rate = float(np.mean([identified(x) for x in found.x]))
    assert abs(rate - 1 / CLASSES) < 4 * np.sqrt(2 / 9 / 1200)


def test_restarts_are_chosen_by_their_own_loss_and_nan_cannot_win():
    config = gmi.Config(steps=0, restarts=8)
    found = attack(jax.random.key(0), knowing(broken), config)
    failed = ~np.isfinite(found.losses)
    assert 0 < failed.sum() < failed.size and np.any(np.isnan(found.trace))
    np.testing.assert_array_equal(found.loss, np.min(found.losses, 1))
    best = np.argmin(found.losses, 1)
    np.testing.assert_array_equal(found.x, found.candidates[LABELS, best])


def test_the_critic_pulls_toward_what_it_likes():
    knowledge = knowing(blind)
    liked = dataclasses.replace(
        knowledge, prior=dataclasses.replace(knowledge.prior, critic=jnp.float32(1000))
    )
    config = gmi.Config(steps=100, restarts=1)
    plain, pulled = (
        attack(jax.random.key(0), world, config) for world in (knowledge, liked)
    )
    assert pulled.x.mean() > plain.x.mean() + 0.01


@pytest.mark.parametrize(
    "see",
    [
        functools.partial(glimpses.masked, mask=glimpses.center_mask(8, 8)),
        functools.partial(glimpses.masked, mask=glimpses.t_mask(8, 8)),
        functools.partial(glimpses.blurred, factor=2),
    ],
)
def test_a_glimpse_pulls_to_what_is_seen(see):
    z = jax.random.uniform(jax.random.key(5), (CLASSES, LATENT), minval=-0.9)
    private = generate(BASIS, z)
    glimpse = see(private)
    config = gmi.Config(steps=400, restarts=1, glimpse_weight=300_000.0)
    found = attack(jax.random.key(0), knowing(blind, glimpse=glimpse), config)
    without = attack(jax.random.key(0), knowing(blind), config)
    np.testing.assert_allclose(glimpse.see(found.x), glimpse.image, atol=0.05)
    # The generator inpaints what is hidden.
    assert np.mean((found.x - private) ** 2) < 0.1 * np.mean((without.x - private) ** 2)


class TestRefusals:
    def refused(self, message, knowledge, **options):
        with pytest.raises(ValueError, match=message):
            gmi.attack(jax.random.key(0), knowledge, gmi.Config(steps=1, **options))

    def test_no_prior(self):
        self.refused("GMI needs a prior", WhiteBox(target_of(bumps), LABELS))

    def test_no_restarts(self):
        self.refused("restarts is 0", knowing(bumps), restarts=0)

    def test_no_anchor(self):
        self.refused(
            "logit loss needs public images",
            knowing(bumps),
            identity_loss=losses.logit,
        )

    def test_no_features(self):
        self.refused(
            "with features",
            knowing(blind, public=jnp.zeros((2, *SHAPE))),
            identity_loss=losses.logit,
        )

    def test_a_glimpse_of_others(self):
        glimpse = glimpses.blurred(jnp.zeros((2, *SHAPE)), 2)
        self.refused(
            r"glimpse has shape \(2, 4, 4, 1\)", knowing(bumps, glimpse=glimpse)
        )


class TestIdentityLosses:
    prediction = Prediction(jnp.array([[1.0, 3.0, 2.0]]), jnp.array([[1.0, -1.0]]))

    def test_values(self):
        label = jnp.array([2])
        entropy = losses.cross_entropy(self.prediction, label, None)
        logits = np.array([1.0, 3.0, 2.0])
        np.testing.assert_allclose(entropy, np.log(np.exp(logits).sum()) - 2, rtol=1e-6)
        assert losses.max_margin(self.prediction, label, None) == 1.0
        assert losses.max_margin(self.prediction, jnp.array([1]), None) == -1.0
        anchor = jnp.array([0.0, 2.0])
        assert losses.logit(self.prediction, label, anchor) == 5.0 - 2.0

    @pytest.mark.parametrize("loss", LOSSES)
    def test_cites_its_paper(self, loss):
        assert "References:" in loss.__doc__ and "arXiv" in loss.__doc__
