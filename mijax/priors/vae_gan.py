"""VAE-GAN: a generator whose latents reach every public face (Larsen et al. 2016).

The generator decodes codes of real images, and latents drawn at random; it is told how
far the former are from their images, and the critic tells both from real ones. So each
public image has a latent, which a generator trained by a critic alone does not promise.

Departures from the paper:
- The encoder is not trained: codes are drawn from the posterior of probabilistic PCA
  (Tipping and Bishop), whose law over the public images has mean 0 and covariance 1.
- Reconstructions are compared by pixels, not by the critic's features; the first steps
  do nothing else, since a step without a critic costs a quarter.
- The critic has a logistic loss, and a penalty of its slope at real images (Mescheder
  et al.), lazily: on a share of the steps, drawn at random, as much the stronger.
- The generator that is kept is an exponential average of the one that is trained.

References:
  Larsen et al. Autoencoding beyond pixels using a learned similarity metric. ICML
  2016. arXiv:1512.09300.
  Tipping, Bishop. Probabilistic principal component analysis. JRSS B 61, 1999.
  Mescheder, Geiger, Nowozin. Which training methods for GANs do actually converge?
  ICML 2018. arXiv:1801.04406.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from scipy.sparse.linalg import eigsh

from mijax.core import Prior, hyper_parameters, pytree, static
from mijax.models.dcgan import Critic, Generator
from mijax.priors import adversarial
from mijax.priors.adversarial import Game, State
from mijax.training import Training


@hyper_parameters
class Config(adversarial.Config):
    """Hyper-parameters.

    Attributes:
      mirror: whether images are mirrored at random.
      coded: images of each batch that are encoded; all of them in the first steps.
      reconstruction: weight of the mean squared error of pixels.
      penalty: weight of half the critic's squared slope.
      penalty_share: of the steps, that pay it.
      first_steps: that reconstruct alone.
      first_rate: their learning rate.
    """

    latent_size: int = static(default=256)
    mirror: bool = static(default=True)
    coded: int = static(default=32)
    reconstruction: float = 500.0
    penalty: float = 0.05
    penalty_share: float = 1 / 16
    first_steps: int = 4000
    first_rate: float = 1e-3


@pytree
class Encoder:
    """The posterior of probabilistic PCA, `N((x - mean) projection, deviation^2)`.

    Attributes:
      mean: `[1, H, W, C]`.
      projection: `[HWC, Z]`.
      deviation: `[1, Z]`.
    """

    mean: Array
    projection: Array
    deviation: Array

    def __call__(self, key: Array, images: Array) -> Array:
        """Draws codes `[B, Z]` of images `[B, H, W, C]`. The key is consumed."""
        expected = (images - self.mean).reshape(len(images), -1) @ self.projection
        noise = jax.random.normal(key, expected.shape)
        return expected + self.deviation * noise


def encoder(images: np.ndarray, latent_size: int, mirror: bool = True) -> Encoder:
    """Fits the encoder to images `[N, H, W, C]`, and to their mirrored copies.

    Raises:
      ValueError: if there are as many latents as pixels, or as images.
    """
    number, pixels = len(images), images[0].size
    if not 1 <= latent_size < min(number, pixels):
        raise ValueError(
            f"latent_size is {latent_size}: it must be 1 or more, and below the number "
            f"of images, {number}, and of pixels, {pixels}."
        )
    mean = images.mean(0, keepdims=True)
    flat = (images - mean).reshape(number, -1)
    covariance = flat.T @ flat / number
    if mirror:
        order = np.arange(pixels).reshape(mean.shape)[:, :, ::-1].ravel()
        apart = (mean - mean[:, :, ::-1]).ravel() / 2
        covariance = (covariance + covariance[order][:, order]) / 2
        covariance += np.outer(apart, apart)
        mean = (mean + mean[:, :, ::-1]) / 2
    # No symmetric start: from one, mirrored eigenvectors are reached by rounding alone.
    start = np.random.default_rng(0).normal(size=pixels)
    variances, vectors = eigsh(covariance, latent_size, v0=start)
    noise = (np.trace(covariance) - variances.sum()) / (pixels - latent_size)
    return Encoder(
        jnp.asarray(mean, jnp.float32),
        jnp.asarray(vectors * np.sqrt(variances - noise) / variances, jnp.float32),
        jnp.asarray(np.sqrt(noise / variances)[None], jnp.float32),
    )


def training(
    generator: Generator, critic: Critic, encoder: Encoder, config: Config = Config()
) -> Training[State, Prior]:
    """Returns the training of a prior, whose data are public images `[N, H, W, C]`.

    A batch holds `critic_steps * batch_size` images. The prior's latents are standard
    normal, and its generator is the average.

    Raises:
      ValueError: if `penalty_share` is not in (0, 1], or `coded` not within a batch.
    """
    if not 0 < config.penalty_share <= 1:
        raise ValueError(
            f"penalty_share is {config.penalty_share}: it must be above 0, up to 1."
        )
    if not 1 <= config.coded <= config.batch_size:
        raise ValueError(
            f"coded is {config.coded}: it must be 1 to batch_size={config.batch_size}."
        )

    def critic_loss(
        key: Array, score: Any, real: Array, fake: tuple[Array]
    ) -> tuple[Array, dict[str, Array]]:
        def slope() -> Array:
            slopes = jax.grad(lambda x: jnp.sum(score(x)))(real)
            return jnp.mean(jnp.sum(slopes**2, (1, 2, 3))) / config.penalty_share

        paid = jax.random.bernoulli(key, config.penalty_share)
        penalty = lax.cond(paid, slope, lambda: jnp.zeros(()))
        scores = score(jnp.concatenate([real, *fake]))
        of_real, of_fake = scores[: len(real)], scores[len(real) :]
        loss = jnp.mean(jax.nn.softplus(-of_real)) + jnp.mean(jax.nn.softplus(of_fake))
        return loss + config.penalty / 2 * penalty, {"critic": loss}

    def generator_loss(
        key: Array, score: Any, real: Array, fake: tuple[Array]
    ) -> tuple[Array, dict[str, Array]]:
        del key
        (images,) = fake
        error = jnp.mean((images[-config.coded :] - real[: config.coded]) ** 2)
        doubt = jnp.mean(jax.nn.softplus(-score(images)))
        return doubt + config.reconstruction * error, {"error": error}

    def finish(state: State) -> Prior:
        return Prior.from_linen(
            generator, state.averaged, critic, state.critic, config.latent_size
        )

    game = Game(
        critic_loss,
        generator_loss,
        adversarial.standard_normal(config.latent_size),
        encode=lambda key, real: encoder(key, real[: config.coded]),
    )
    play = adversarial.training(generator, critic, game, config, finish)
    first = optax.adam(config.first_rate, config.momentum, config.second_momentum)

    def reconstruct(key: Array, state: State, batch: Array) -> tuple[State, Any]:
        real = batch[: config.batch_size]
        codes = encoder(key, real)
        fixed = {k: v for k, v in state.generator.items() if k != "params"}

        def loss(params: Any) -> tuple[Array, Any]:
            images, changed = generator.apply(
                {"params": params, **fixed}, codes, train=True, mutable=["batch_stats"]
            )
            return jnp.mean((images - real) ** 2), changed

        params = state.generator["params"]
        (error, changed), slope = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = first.update(slope, state.generator_optimizer)
        trained = {"params": optax.apply_updates(params, updates), **changed}
        averaged = optax.incremental_update(trained, state.averaged, 1 - config.average)
        state = dataclasses.replace(
            state, generator=trained, generator_optimizer=opt_state, averaged=averaged
        )
        return state, {"critic": jnp.zeros(()), "error": error}

    def step(key: Array, state: State, batch: Array) -> tuple[State, Any]:
        key, mirror_key = jax.random.split(key)
        if config.mirror:
            flip = jax.random.bernoulli(mirror_key, shape=(len(batch), 1, 1, 1))
            batch = jnp.where(flip, batch[:, :, ::-1], batch)
        done = state.generator_optimizer[0].count
        return lax.cond(
            done < config.first_steps, reconstruct, play.step, key, state, batch
        )

    return Training(play.init, step, finish)
