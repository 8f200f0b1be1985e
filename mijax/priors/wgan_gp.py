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
import optax
from jax import Array, lax

from mijax.core import Prior, hyper_parameters, pytree, static
from mijax.models.dcgan import Critic, Generator
from mijax.training import Step, Training


@hyper_parameters
class Config:
    """Hyper-parameters; the defaults are Zhang et al.'s."""

    latent_size: int = static(default=100)
    critic_steps: int = static(default=5)
    batch_size: int = static(default=64)
    penalty_examples: int = static(default=64)  # of each batch, for the penalty
    mirror: bool = static(default=True)
    learning_rate: float = 2e-4
    critic_learning_rate: float = 2e-4
    momentum: float = 0.5
    second_momentum: float = 0.999
    penalty: float = 10.0
    average: float = 0.999  # decay of the average of the generator


@pytree
class State:
    """What training carries."""

    generator: Any  # params and batch_stats
    critic: Any
    generator_optimizer: Any
    critic_optimizer: Any
    averaged: Any  # the generator's exponential average: what is kept


def _optimizer(config: Config, learning_rate: float) -> optax.GradientTransformation:
    return optax.adam(learning_rate, config.momentum, config.second_momentum)


def training(
    generator: Generator, critic: Critic, config: Config = Config()
) -> Training[State, Prior]:
    """Returns the training of a prior, whose data are public images `[N, H, W, C]`.

    A batch holds `critic_steps * batch_size` images. The prior's latents are standard
    normal, and its generator is the average.

    Raises:
      ValueError: if `penalty_examples` is not within a batch.
    """

    def finish(state: State) -> Prior:
        return Prior.from_linen(
            generator, state.averaged, critic, state.critic, config.latent_size
        )

    return Training(
        lambda key: init(key, generator, critic, config),
        step(generator, critic, config),
        finish,
    )


def init(
    key: Array, generator: Generator, critic: Critic, config: Config = Config()
) -> State:
    """Returns the state before the first step. The key is consumed."""
    generator_key, critic_key = jax.random.split(key)
    z = jnp.zeros((1, config.latent_size))
    size, channels = generator.image_size, generator.channels
    variables = generator.init(generator_key, z)
    critic_variables = critic.init(critic_key, jnp.zeros((1, size, size, channels)))
    return State(
        generator=variables,
        critic=critic_variables,
        generator_optimizer=_optimizer(config, config.learning_rate).init(
            variables["params"]
        ),
        critic_optimizer=_optimizer(config, config.critic_learning_rate).init(
            critic_variables
        ),
        averaged=jax.tree.map(jnp.copy, variables),  # buffers are donated
    )


def step(
    generator: Generator, critic: Critic, config: Config = Config()
) -> Step[State]:
    """Returns the step for `fit`: `critic_steps` of the critic, one of the generator.

    Its batch is one array of images `[critic_steps * batch_size, H, W, C]`.

    Raises:
      ValueError: if `penalty_examples` is not within a batch.
    """
    if not 1 <= config.penalty_examples <= config.batch_size:
        raise ValueError(
            f"penalty_examples is {config.penalty_examples}: it must be 1 to "
            f"batch_size={config.batch_size}."
        )

    def generate(variables: Any, z: Array) -> tuple[Array, Any]:
        return generator.apply(variables, z, train=True, mutable=["batch_stats"])  # type: ignore[return-value]

    def score(variables: Any, x: Array) -> Array:
        return critic.apply(variables, x)  # type: ignore[return-value]

    def critic_loss(
        variables: Any, real: Array, fake: Array, mix: Array
    ) -> tuple[Array, Array]:
        n = config.penalty_examples
        between = mix * real[:n] + (1 - mix) * fake[:n]  # [n, H, W, C]
        slopes = jax.grad(lambda x: jnp.sum(score(variables, x)))(between)
        norms = jnp.sqrt(jnp.sum(slopes**2, axis=(1, 2, 3)) + 1e-12)
        both = score(variables, jnp.concatenate([real, fake]))
        distance = jnp.mean(both[: len(real)]) - jnp.mean(both[len(real) :])
        return config.penalty * jnp.mean((norms - 1) ** 2) - distance, distance

    def critic_step(
        carry: tuple[Any, Any], inputs: tuple[Array, Array], variables: Any
    ) -> tuple[tuple[Any, Any], Array]:
        critic_variables, optimizer = carry
        key, real = inputs
        z_key, mix_key, mirror_key = jax.random.split(key, 3)
        if config.mirror:
            flip = jax.random.bernoulli(mirror_key, shape=(len(real), 1, 1, 1))
            real = jnp.where(flip, real[:, :, ::-1], real)
        z = jax.random.normal(z_key, (len(real), config.latent_size))
        fake, _ = generate(variables, z)
        mix = jax.random.uniform(mix_key, (config.penalty_examples, 1, 1, 1))
        gradients, distance = jax.grad(critic_loss, has_aux=True)(
            critic_variables, real, fake, mix
        )
        updates, optimizer = _optimizer(config, config.critic_learning_rate).update(
            gradients, optimizer
        )
        return (optax.apply_updates(critic_variables, updates), optimizer), distance

    def generator_loss(params: Any, stats: Any, critic_variables: Any, z: Array):
        images, changed = generate({"params": params, "batch_stats": stats}, z)
        return -jnp.mean(score(critic_variables, images)), changed["batch_stats"]

    def gan_step(
        key: Array, state: State, images: Array
    ) -> tuple[State, dict[str, Array]]:
        keys = jax.random.split(key, config.critic_steps + 1)
        shape = config.critic_steps, config.batch_size, *images.shape[1:]
        (critic_variables, critic_optimizer), distances = lax.scan(
            lambda carry, inputs: critic_step(carry, inputs, state.generator),
            (state.critic, state.critic_optimizer),
            (keys[1:], images.reshape(shape)),
        )
        z = jax.random.normal(keys[0], (config.batch_size, config.latent_size))
        params, stats = state.generator["params"], state.generator["batch_stats"]
        gradients, stats = jax.grad(generator_loss, has_aux=True)(
            params, stats, critic_variables, z
        )
        updates, generator_optimizer = _optimizer(config, config.learning_rate).update(
            gradients, state.generator_optimizer
        )
        trained = {"params": optax.apply_updates(params, updates), "batch_stats": stats}
        averaged = optax.incremental_update(trained, state.averaged, 1 - config.average)
        state = State(
            trained, critic_variables, generator_optimizer, critic_optimizer, averaged
        )
        return state, {"wasserstein": jnp.mean(distances)}

    return gan_step
