"""Adversarial training: a generator and its critic, each by a loss of its own.

What the losses are makes it a WGAN-GP, or the inversion-specific networks of KED-MI and
PLG-MI. One step is `critic_steps` of the critic and one of the generator; the generator
that is kept is an exponential average of the one that is trained.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import traverse_util
from jax import Array, lax

from mijax.core import Prior, hyper_parameters, pytree, static
from mijax.training import Training

Loss = Callable[[Array, Callable[..., Any], Any, Any], tuple[Array, dict[str, Array]]]


@hyper_parameters
class Config:
    """Hyper-parameters of both networks' training, by Adam."""

    latent_size: int = static(default=100)
    critic_steps: int = static(default=1)
    batch_size: int = static(default=64)
    learning_rate: float = 2e-4
    critic_learning_rate: float = 2e-4
    momentum: float = 0.5
    second_momentum: float = 0.999
    average: float = 0.999  # decay of the average of the generator


@pytree
class State:
    """What training carries."""

    generator: Any  # params and batch_stats
    critic: Any
    generator_optimizer: Any
    critic_optimizer: Any
    averaged: Any  # the generator's exponential average: what is kept


class Game(NamedTuple):
    """What the two players want.

    Losses are `(key, score, real, fake) -> (loss, metrics)`: `score` is the critic as a
    function of images, and of labels if it is conditional; `real` a batch of the data;
    `fake` the images drawn, and their labels if `draw` gives some, as a tuple.

    Attributes:
      critic_loss: of the critic's variables.
      generator_loss: of the generator's.
      draw: `(key, n) -> (z [n, Z],)`, or `(z, labels [n])` of a conditional generator.
      criticize: `(critic's variables, images, *labels)`; None for the critic itself.
      encode: `(key, real) -> codes [n, Z]`, of an unconditional game: the generator
        decodes them too, and their images follow those of the latents drawn.
    """

    critic_loss: Loss
    generator_loss: Loss
    draw: Callable[[Array, int], tuple[Array, ...]]
    criticize: Callable[..., Any] | None = None
    encode: Callable[[Array, Any], Array] | None = None


def training(
    generator: nn.Module,
    critic: nn.Module,
    game: Game,
    config: Config,
    finish: Callable[[State], Prior],
    start: Prior | None = None,
) -> Training[State, Prior]:
    """Returns the training, whose data are trees of arrays `[N, ...]`.

    A batch holds `critic_steps * batch_size` examples; the generator's loss sees the
    last `batch_size` of them.

    Args:
      generator: `(z, *labels, train)`, with batch normalization.
      critic: `(images, *labels)`, without.
      game: the losses.
      config: hyper-parameters.
      finish: the prior of the state after the last step.
      start: a prior of networks of this design. Variables start as its own are where
        they have the same place and shape; the others are drawn.
    """
    criticize = game.criticize or critic.apply

    def adam(learning_rate: float) -> optax.GradientTransformation:
        return optax.adam(learning_rate, config.momentum, config.second_momentum)

    optimizer = adam(config.learning_rate)
    critic_optimizer = adam(config.critic_learning_rate)

    def generate(variables: Any, z: Array, *labels: Array) -> tuple[Array, Any]:
        return generator.apply(
            variables, z, *labels, train=True, mutable=["batch_stats"]
        )  # type: ignore[return-value]

    def draw(key: Array, real: Any) -> tuple[Array, ...]:
        z, *labels = game.draw(key, config.batch_size)
        if game.encode is not None:
            z = jnp.concatenate([z, game.encode(jax.random.fold_in(key, 1), real)])
        return z, *labels

    def init(key: Array) -> State:
        keys = jax.random.split(key)
        z, *labels = _zeros(lambda key: game.draw(key, 2), key)
        variables = generator.init(keys[0], z, *labels)
        images = _zeros(generator.apply, variables, z, *labels)
        critic_variables = critic.init(keys[1], images, *labels)
        if start is not None:
            variables = _started(variables, start.generator)
            critic_variables = _started(critic_variables, start.critic)
        return State(
            generator=variables,
            critic=critic_variables,
            generator_optimizer=optimizer.init(variables["params"]),
            critic_optimizer=critic_optimizer.init(critic_variables),
            averaged=jax.tree.map(jnp.copy, variables),  # buffers are donated
        )

    def critic_step(
        carry: tuple[Any, Any], inputs: tuple[Array, Any], variables: Any
    ) -> tuple[tuple[Any, Any], dict[str, Array]]:
        critic_variables, opt_state = carry
        key, real = inputs
        draw_key, loss_key = jax.random.split(key)
        z, *labels = draw(draw_key, real)
        fake = generate(variables, z, *labels)[0], *labels

        def loss(critic_variables: Any) -> tuple[Array, dict[str, Array]]:
            score = partial(criticize, critic_variables)
            return game.critic_loss(loss_key, score, real, fake)

        gradients, metrics = jax.grad(loss, has_aux=True)(critic_variables)
        updates, opt_state = critic_optimizer.update(gradients, opt_state)
        return (optax.apply_updates(critic_variables, updates), opt_state), metrics

    def step(key: Array, state: State, batch: Any) -> tuple[State, dict[str, Array]]:
        shape = config.critic_steps, config.batch_size
        batches = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), batch)
        key, *critic_keys = jax.random.split(key, config.critic_steps + 1)
        (critic_variables, critic_state), metrics = lax.scan(
            lambda carry, inputs: critic_step(carry, inputs, state.generator),
            (state.critic, state.critic_optimizer),
            (jnp.stack(critic_keys), batches),
        )
        draw_key, loss_key = jax.random.split(key)
        real = jax.tree.map(lambda x: x[-1], batches)
        z, *labels = draw(draw_key, real)
        score = partial(criticize, critic_variables)
        fixed = {k: v for k, v in state.generator.items() if k != "params"}

        def loss(params: Any) -> tuple[Array, Any]:
            images, changed = generate({"params": params, **fixed}, z, *labels)
            value, said = game.generator_loss(loss_key, score, real, (images, *labels))
            return value, (changed, said)

        params = state.generator["params"]
        gradients, (changed, said) = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, state.generator_optimizer)
        trained = {"params": optax.apply_updates(params, updates), **changed}
        averaged = optax.incremental_update(trained, state.averaged, 1 - config.average)
        state = State(trained, critic_variables, opt_state, critic_state, averaged)
        return state, jax.tree.map(jnp.mean, metrics) | said

    return Training(init, step, finish)


def standard_normal(latent_size: int) -> Callable[[Array, int], tuple[Array]]:
    """Returns the law of an unconditional prior's latents, for `Game.draw`."""
    return lambda key, n: (jax.random.normal(key, (n, latent_size)),)


def _zeros(function: Callable[..., Any], *arguments: Any) -> Any:
    """Zeros like what a function would return."""
    return jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(function, *arguments),
    )


def _started(variables: Any, earlier: Any) -> Any:
    """Variables, but with earlier ones where those have the same place and shape."""
    old: dict[Any, Any] = traverse_util.flatten_dict(earlier)
    flat: dict[Any, Any] = traverse_util.flatten_dict(variables)
    taken = {
        path: old[path] if path in old and old[path].shape == leaf.shape else leaf
        for path, leaf in flat.items()
    }
    return traverse_util.unflatten_dict(taken)


def unit_spectral_norms(variables: Any, iterations: int = 5) -> Any:
    """Divides each matrix or kernel by its largest singular value, as SNGAN does.

    Kernels `[..., O]` count as matrices `[-1, O]`. The power iteration starts anew each
    time, where the authors go on from the step before.

    References:
      Miyato, Kataoka, Koyama, Yoshida. Spectral normalization for generative
      adversarial networks. ICLR 2018. arXiv:1802.05957.
    """

    def normalized(leaf: Array) -> Array:
        if leaf.ndim < 2:
            return leaf
        matrix = leaf.reshape(-1, leaf.shape[-1])
        fixed = lax.stop_gradient(matrix)
        v = jnp.cos(jnp.arange(matrix.shape[1], dtype=leaf.dtype))
        for _ in range(iterations):
            v = fixed.T @ (fixed @ v)
            v = v / (jnp.linalg.norm(v) + 1e-12)
        u = fixed @ v
        norm = (u / (jnp.linalg.norm(u) + 1e-12)) @ (matrix @ v)
        return leaf / (norm + 1e-12)

    return jax.tree.map(normalized, variables)
