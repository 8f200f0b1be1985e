"""Informed adversary: all records but one are known, and the weights tell the last.

Balle, Cherubin, Hayes (2022). The adversary trains shadow models, each on the known
records and one record z of its own (`shadows`, as one vectorized program), and with
them a network, the reconstructor, that maps a model's weights to its z. Applied to the
released weights, it returns the record that is missing.

Weights differ little from model to model: each is standardized by the mean and the
deviation that it has among the shadow models.

Departures from the paper:
- the reconstructor is a perceptron with layer normalization;
- its loss is the squared error alone by default; the paper adds the absolute error
  (`Config.absolute`);
- a tenth of the shadow models is held out. The squared error there is the only success
  that the adversary can measure, and is returned as `loss`.

References:
  Balle, Cherubin, Hayes. Reconstructing training data with informed adversaries. IEEE
  S&P 2022. arXiv:2201.04845.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from mijax import training
from mijax.core import Reconstruction, hyper_parameters, static
from mijax.knowledge.all_but_one import AllButOne

Losses = Callable[[Any, Any], Array]
_LEAST = 1e-7  # a smaller relative deviation of a weight is rounding alone


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      widths: of the reconstructor's hidden layers.
      steps: of its training.
      batch_size: shadow models a step.
      learning_rate: Adam's, at the start; it falls to 0 as a cosine.
      absolute: weight of the mean absolute error in the loss.
      noise: deviation of the noise on standardized weights in training, against
        overfitting.
    """

    widths: tuple[int, ...] = static(default=(512, 512))
    steps: int = static(default=4000)
    batch_size: int = static(default=64)
    learning_rate: float | Array = 1e-3
    absolute: float | Array = 0.0
    noise: float | Array = 0.1

    def __post_init__(self) -> None:
        """Raises a ValueError if nothing would be trained."""
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(
                f"steps is {self.steps} and batch_size {self.batch_size}: each must be "
                "1 or more."
            )


class Reconstructor(nn.Module):
    """A perceptron from standardized weights `[B, P]` to records `[B, size]`."""

    size: int
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns records in [0, 1]."""
        for width in self.widths:
            x = nn.gelu(nn.LayerNorm()(nn.Dense(width)(x)))
        return nn.sigmoid(nn.Dense(self.size)(x))


def trained_with(
    losses: Losses, optimizer: optax.GradientTransformation, initial: Any, steps: int
) -> Callable[[Any, Any], Any]:
    """Returns training on all known records and one more, full batches.

    Args:
      losses: `(params, records) -> [B]`, of a tree of records `[B, ...]`.
      optimizer: of the parameters.
      initial: the parameters before.
      steps: of training.

    Returns:
      `(known, record) -> params`, where `known` are records `[N, ...]` and `record` is
      one, without that axis. `vmap` over the record does not copy the known ones.
    """

    def learn(known: Any, record: Any) -> Any:
        number = jax.tree.leaves(known)[0].shape[0] + 1
        one = jax.tree.map(lambda leaf: leaf[None], record)

        def loss(params: Any) -> Array:
            return (losses(params, known).sum() + losses(params, one)[0]) / number

        def step(state: Any, _: None) -> tuple[Any, None]:
            params, opt_state = state
            updates, opt_state = optimizer.update(
                jax.grad(loss)(params), opt_state, params
            )
            return (optax.apply_updates(params, updates), opt_state), None

        first = initial, optimizer.init(initial)
        return jax.lax.scan(step, first, length=steps)[0][0]

    return learn


def shadows(
    learn: Callable[[Any, Any], Any], known: Any, records: Any, chunk: int = 256
) -> Any:
    """Trains one model with each record, as one program; a tree of `[M, ...]`.

    Args:
      learn: of `trained_with`, or another training of that form.
      known: the records that all models share.
      records: a tree of `[M, ...]`.
      chunk: models that are trained at a time.
    """
    return jax.lax.map(lambda record: learn(known, record), records, batch_size=chunk)


def attack(
    key: Array, knowledge: AllButOne, config: Config = Config()
) -> Reconstruction:
    """Recovers the one training record that the adversary does not know.

    Args:
      key: the key is consumed.
      knowledge: the released weights, and shadow models.
      config: hyper-parameters.

    Returns:
      Records `[V, *shape]` of one restart each. `loss` is the squared error on held-out
      shadow models, and `trace` the training loss of the reconstructor before each
      step, `[V, 1, steps]`; both are the same for all victims.

    Raises:
      ValueError: if the released weights are of another architecture than the shadow
        models, or there are fewer shadow models than a batch.
    """
    knowledge.check_shapes()
    init_key, fit_key = jax.random.split(key)
    weights, released = _flat(knowledge.shadows), _flat(knowledge.released)
    number, shape = knowledge.x.shape[0], knowledge.x.shape[1:]
    records = knowledge.x.reshape(number, -1)
    held_out = max(1, number // 10)
    mean = jnp.mean(weights[held_out:], 0, keepdims=True)
    deviation = jnp.std(weights[held_out:], 0, keepdims=True)
    still = deviation <= _LEAST * jnp.maximum(jnp.abs(mean), 1e-3)

    def standardized(rows: Array) -> Array:
        return jnp.where(still, 0.0, (rows - mean) / jnp.where(still, 1.0, deviation))

    module = Reconstructor(records.shape[1], config.widths)
    params = module.init(init_key, weights[:1])
    adam = optax.inject_hyperparams(optax.adam)(config.learning_rate)

    def loss(params: Any, x: Array, z: Array) -> Array:
        off = jnp.asarray(module.apply(params, x)) - z
        return jnp.mean(off**2) + config.absolute * jnp.mean(jnp.abs(off))

    def step(key: Array, state: Any, batch: Any) -> tuple[Any, dict[str, Array]]:
        (params, opt_state, t), (x, z) = state, batch
        x = x + config.noise * jax.random.normal(key, x.shape)
        value, gradient = jax.value_and_grad(loss)(params, x, z)
        share = 0.5 * (1 + jnp.cos(jnp.pi * t / config.steps))
        updates, opt_state = adam.update(gradient, opt_state, params)
        updates = jax.tree.map(lambda leaf: share * leaf, updates)
        return (optax.apply_updates(params, updates), opt_state, t + 1), {"loss": value}

    state = params, adam.init(params), jnp.float32(0.0)
    data = standardized(weights[held_out:]), records[held_out:]
    (params, _, _), metrics = training.fit(
        fit_key, state, step, data, batch_size=config.batch_size, steps=config.steps
    )
    checked = jnp.asarray(module.apply(params, standardized(weights[:held_out])))
    error = jnp.mean((checked - records[:held_out]) ** 2)
    x = jnp.asarray(module.apply(params, standardized(released)))
    victims = x.shape[0]
    x = x.reshape(victims, *shape)
    return Reconstruction(
        x=x,
        loss=jnp.full(victims, error),
        candidates=x[:, None],
        losses=jnp.full((victims, 1), error),
        trace=jnp.broadcast_to(metrics["loss"], (victims, 1, config.steps)),
        queries=jnp.int32(0),
    )


def _flat(tree: Any) -> Array:
    leaves = jax.tree.leaves(tree)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], 1)
