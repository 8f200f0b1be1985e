"""VAE-GAN: its encoder and penalty in closed form, and a tiny training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mijax.models.dcgan import Critic, Generator
from mijax.priors import vae_gan

CONFIG = vae_gan.Config(
    latent_size=3,
    batch_size=16,
    coded=8,
    mirror=False,
    penalty_share=1.0,
    learning_rate=1e-3,
    critic_learning_rate=1e-2,
    first_rate=1e-2,
    first_steps=300,
    average=0.9,
)
TINY = Generator(8, width=4), Critic(8, width=4)


def faces(key, number=400):
    """Images of three factors, far apart in size, and little noise."""
    keys = jax.random.split(key)
    basis = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(64, 3)))[0])
    z = jax.random.normal(keys[0], (number, 3)) * jnp.array([[1.5, 0.75, 0.35]])
    flat = 0.5 + z @ basis.T + 0.01 * jax.random.normal(keys[1], (number, 64))
    return np.asarray(flat.reshape(number, 8, 8, 1), np.float32)


class Constant(nn.Module):
    """Draws a black image whatever the latent is."""

    @nn.compact
    def __call__(self, z, train=False):
        self.variable("batch_stats", "unused", jnp.zeros, ())
        level = self.param("level", nn.initializers.zeros, ())
        return level + jnp.zeros((z.shape[0], 8, 8, 1))


class Linear(nn.Module):
    """A critic of constant slope, whose norm is its one parameter."""

    @nn.compact
    def __call__(self, x):
        norm = self.param("norm", nn.initializers.constant(2.0), ())
        return norm * jnp.sum(x, axis=(1, 2, 3)) / 8


@pytest.mark.parametrize("mirror", [False, True])
def test_the_encoder_is_the_posterior_of_probabilistic_pca(mirror):
    images = faces(jax.random.key(1))
    both = np.concatenate([images, images[:, :, ::-1]]) if mirror else images
    encoder = vae_gan.encoder(images, 3, mirror)
    flat = both.reshape(len(both), -1).astype(np.float64)
    variances, vectors = np.linalg.eigh(np.cov(flat.T, bias=True))
    noise = variances[:-3].mean()
    weights = vectors[:, -3:] * np.sqrt(variances[-3:] - noise)
    precision = weights.T @ weights + noise * np.eye(3)
    expected = (flat - flat.mean(0)) @ weights @ np.linalg.inv(precision)
    found = (both - encoder.mean).reshape(len(both), -1) @ encoder.projection
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-3)
    np.testing.assert_allclose(
        encoder.deviation[0] ** 2, noise * np.diag(np.linalg.inv(precision)), rtol=1e-2
    )
    # Over the public images the codes' law has the moments of the prior's own.
    np.testing.assert_allclose(
        np.cov(found.T, bias=True) + np.diag(encoder.deviation[0] ** 2),
        np.eye(3),
        atol=2e-3,
    )
    drawn = encoder(jax.random.key(2), jnp.tile(images[:1], (4000, 1, 1, 1)))
    np.testing.assert_allclose(drawn.std(0), encoder.deviation[0], rtol=0.1)


@pytest.mark.parametrize(("penalty", "sign"), [(0.0, 0), (1.0, -1)])
def test_the_penalty_wants_no_slope(penalty, sign):
    # Real and drawn images are alike, so that the penalty alone moves the critic.
    images = np.zeros((16, 8, 8, 1), np.float32)
    encoder = vae_gan.encoder(faces(jax.random.key(1)), 3)
    config = dataclasses.replace(CONFIG, penalty=penalty, first_steps=0)
    training = vae_gan.training(Constant(), Linear(), encoder, config)  # type: ignore[arg-type]
    state, metrics = jax.jit(training.step)(
        jax.random.key(0), training.init(jax.random.key(1)), images
    )
    moved = float(state.critic["params"]["norm"]) - 2
    np.testing.assert_allclose(moved, sign * 1e-2, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(metrics["critic"], 2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(metrics["error"], 0, atol=1e-9)


def test_latents_reach_images_of_no_training():
    images, others = faces(jax.random.key(1)), faces(jax.random.key(2), 50)
    encoder = vae_gan.encoder(images, 3, mirror=False)
    training = vae_gan.training(*TINY, encoder, CONFIG)
    prior, metrics = jax.jit(
        lambda key: training.fit(key, jnp.asarray(images), batch_size=16, steps=310)
    )(jax.random.key(3))
    assert not np.any(metrics["critic"][:300]) and np.all(metrics["critic"][300:])
    codes = encoder(jax.random.key(4), jnp.asarray(others))
    error = lambda z: float(np.mean((prior.images(z) - others) ** 2))
    variance = others.var(0).mean()
    assert error(codes) < 0.25 * variance
    assert error(jnp.roll(codes, 1, axis=0)) > variance
    assert np.all(np.isfinite(prior.score(others)))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"coded": 17}, "coded is 17"), ({"penalty_share": 0.0}, "penalty_share is 0.0")],
)
def test_bad_input(change, message):
    encoder = vae_gan.encoder(faces(jax.random.key(1)), 3)
    with pytest.raises(ValueError, match=message):
        vae_gan.training(*TINY, encoder, dataclasses.replace(CONFIG, **change))


@pytest.mark.parametrize("size", [0, 64])
def test_fewer_latents_than_pixels(size):
    with pytest.raises(ValueError, match=f"latent_size is {size}"):
        vae_gan.encoder(faces(jax.random.key(1)), size)
