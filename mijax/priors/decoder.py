"""Decoders: trained from pairs of what a model released and the image it was of.

They are the adversary's own training: of auxiliary images, from answers to queries.
Codes are standardized by the moments of the pairs, coordinate by coordinate; maps
channel by channel, so that a convolution undoes one at every place alike.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array

from mijax.core import Reconstruction, choose, hyper_parameters, pytree, static
from mijax.models.decoders import DenseDecoder
from mijax.training import Training, TrainState


@hyper_parameters
class Config:
    """Hyper-parameters of an attack by a decoder.

    Attributes:
      network: a decoder of images of this shape, `(H, W, C) -> module`.
      steps: of training.
      batch_size: pairs a step; all of them where there are fewer.
      learning_rate: of AMSGrad.
    """

    network: Callable[[tuple[int, ...]], nn.Module] = static(default=DenseDecoder)
    steps: int = static(default=2000)
    batch_size: int = static(default=32)
    learning_rate: float | Array = 1e-3


@pytree
class Decoder:
    """Maps codes to images.

    Attributes:
      variables: of the module.
      mean: of codes, `[1, ...]`, of maps `[1, 1, 1, F]`, or one number.
      deviation: that they are divided by.
      module: `(codes [B, ...], train) -> images [B, H, W, C]`.
    """

    variables: Any
    mean: Array
    deviation: Array
    module: nn.Module = static()

    def __call__(self, codes: Array) -> Array:
        """Returns images `[B, H, W, C]` of codes `[B, ...]`."""
        codes = (codes - self.mean) / self.deviation
        return self.module.apply(self.variables, codes)  # type: ignore[return-value]


def training(
    module: nn.Module, codes: Array, learning_rate: float | Array
) -> Training[TrainState, Decoder]:
    """Returns the training of a decoder, whose data are `(codes, images)` as pairs.

    It minimizes the mean squared error by AMSGrad, as He et al. 2019 do.

    Args:
      module: as `Decoder.module`; it may keep batch statistics.
      codes: of all pairs, `[M, ...]`, for their moments.
      learning_rate: of AMSGrad.
    """
    axes = (0, 1, 2) if codes.ndim == 4 else 0
    mean = jnp.mean(codes, axes, keepdims=True)
    variance = jnp.var(codes, axes, keepdims=True)
    # A coordinate that hardly varies among the pairs must not explode elsewhere.
    deviation = jnp.sqrt(variance + 0.01 * jnp.mean(variance) + 1e-12)
    optimizer = optax.amsgrad(learning_rate)

    def init(key: Array) -> TrainState:
        variables = module.init(key, codes[:1])
        return TrainState(variables, optimizer.init(variables["params"]))

    def step(key: Array, state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        del key
        codes, images = batch
        codes = (codes - mean) / deviation
        fixed = {k: v for k, v in state.variables.items() if k != "params"}

        def loss(params: Any) -> tuple[Array, Any]:
            found, changed = module.apply(
                {"params": params, **fixed}, codes, train=True, mutable=list(fixed)
            )
            return jnp.mean((found - images) ** 2), changed

        params = state.variables["params"]
        (value, changed), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, params)
        variables = {"params": optax.apply_updates(params, updates), **changed}
        return TrainState(variables, opt_state), {"loss": value}

    def finish(state: TrainState) -> Decoder:
        return Decoder(state.variables, mean, deviation, module)

    return Training(init, step, finish)


def invert(
    key: Array,
    config: Config,
    codes: Array,
    images: Array,
    observed: Array,
    queries: Array | int,
) -> Reconstruction:
    """Trains a decoder on pairs, and decodes what was observed of the victims.

    Args:
      key: of the training; it is consumed.
      config: hyper-parameters.
      codes: of the adversary's own images, `[M, ...]`.
      images: these images, `[M, H, W, C]`.
      observed: codes of the victims, `[V, ...]`.
      queries: that were asked.

    Returns:
      Images `[V, H, W, C]`. Their loss is the last one of the training, the same for
      each victim: a decoder does not know how well it does.

    Raises:
      ValueError: if there is no step.
    """
    if config.steps < 1:
        raise ValueError(f"steps is {config.steps}: a decoder is trained in 1 or more.")
    network = config.network(images.shape[1:])
    decoder, metrics = training(network, codes, config.learning_rate).fit(
        key,
        (codes, images),
        batch_size=min(config.batch_size, len(images)),
        steps=config.steps,
    )
    trace = metrics["loss"][None, None]
    trace = jnp.broadcast_to(trace, (len(observed), *trace.shape[1:]))
    return choose(decoder(observed)[:, None], trace[..., -1], trace, queries)
