"""WGAN-GP: how the generators that attacks search are trained (Gulrajani et al. 2017).

A departure from the papers: the generator that is kept is an exponential average of
the one that is trained, and images are mirrored at random where mirroring makes sense.

References:
  Gulrajani et al. Improved training of Wasserstein GANs. arXiv:1704.00028.
  Zhang et al. The secret revealer. CVPR 2020. arXiv:1911.07135.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mijax.core import Prior, hyper_parameters, static
from mijax.models.dcgan import Critic, Generator
from mijax.priors import adversarial
from mijax.priors.adversarial import Game, State
from mijax.training import Step, Training


@hyper_parameters
class Config(adversarial.Config):
    """Hyper-parameters; the defaults are Zhang et al.'s."""

    critic_steps: int = static(default=5)
    penalty_examples: int = static(default=64)  # of each batch, for the penalty
    mirror: bool = static(default=True)
    penalty: float = 10.0


def training(
    generator: Generator, critic: Critic, config: Config = Config()
) -> Training[State, Prior]:
    """Returns the training of a prior, whose data are public images `[N, H, W, C]`.

    A batch holds `critic_steps * batch_size` images. The prior's latents are standard
    normal, and its generator is the average.

    Raises:
      ValueError: if `penalty_examples` is not within a batch.
    """
    if not 1 <= config.penalty_examples <= config.batch_size:
        raise ValueError(
            f"penalty_examples is {config.penalty_examples}: it must be 1 to "
            f"batch_size={config.batch_size}."
        )

    def critic_loss(
        key: Array, score: Any, real: Array, fake: tuple[Array]
    ) -> tuple[Array, dict[str, Array]]:
        mix_key, mirror_key = jax.random.split(key)
        if config.mirror:
            flip = jax.random.bernoulli(mirror_key, shape=(len(real), 1, 1, 1))
            real = jnp.where(flip, real[:, :, ::-1], real)
        (drawn,) = fake
        n = config.penalty_examples
        mix = jax.random.uniform(mix_key, (n, 1, 1, 1))
        between = mix * real[:n] + (1 - mix) * drawn[:n]  # [n, H, W, C]
        slopes = jax.grad(lambda x: jnp.sum(score(x)))(between)
        norms = jnp.sqrt(jnp.sum(slopes**2, axis=(1, 2, 3)) + 1e-12)
        both = score(jnp.concatenate([real, drawn]))
        distance = jnp.mean(both[: len(real)]) - jnp.mean(both[len(real) :])
        loss = config.penalty * jnp.mean((norms - 1) ** 2) - distance
        return loss, {"wasserstein": distance}

    def generator_loss(
        key: Array, score: Any, real: Array, fake: tuple[Array]
    ) -> tuple[Array, dict[str, Array]]:
        del key, real
        return -jnp.mean(score(*fake)), {}

    def finish(state: State) -> Prior:
        return Prior.from_linen(
            generator, state.averaged, critic, state.critic, config.latent_size
        )

    draw = adversarial.standard_normal(config.latent_size)
    game = Game(critic_loss, generator_loss, draw)
    return adversarial.training(generator, critic, game, config, finish)


def init(
    key: Array, generator: Generator, critic: Critic, config: Config = Config()
) -> State:
    """Returns the state before the first step. The key is consumed."""
    return training(generator, critic, config).init(key)


def step(
    generator: Generator, critic: Critic, config: Config = Config()
) -> Step[State]:
    """Returns the step for `fit`: `critic_steps` of the critic, one of the generator.

    Its batch is one array of images `[critic_steps * batch_size, H, W, C]`.

    Raises:
      ValueError: if `penalty_examples` is not within a batch.
    """
    return training(generator, critic, config).step
