"""Decoders: trained from pairs of what a model released and the image it was of.

They are the adversary's own training: of auxiliary images, from answers to queries.
Codes are standardized by the moments of the pairs, coordinate by coordinate.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array

from mijax.core import Reconstruction, choose, pytree, static
from mijax.training import Training, TrainState


@pytree
class Decoder:
    """Maps codes to images.

    Attributes:
      variables: of the module.
      mean: of codes, `[1, ...]`, or one number.
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
    mean = jnp.mean(codes, 0, keepdims=True)
    variance = jnp.var(codes, 0, keepdims=True)
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


def fit(
    key: Array,
    module: nn.Module,
    codes: Array,
    images: Array,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float | Array,
) -> tuple[Decoder, Array]:
    """Trains a decoder of pairs `(codes [M, ...], images [M, H, W, C])` in one program.

    Returns:
      The decoder, and its loss at each step, `[steps]`. The key is consumed.

    Raises:
      ValueError: if there is no step.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: a decoder is trained in 1 or more.")
    batch_size = min(batch_size, len(images))
    trained, metrics = training(module, codes, learning_rate).fit(
        key, (codes, images), batch_size=batch_size, steps=steps
    )
    return trained, metrics["loss"]


def decoded(
    decoder: Decoder, codes: Array, trace: Array, queries: Array | int
) -> Reconstruction:
    """Returns a decoder's images of victims' codes `[V, ...]` as a result.

    The loss is the last one of its training, `trace` `[steps]`, the same for each
    victim: a decoder does not know how well it does.
    """
    images = decoder(codes)
    trace = jnp.broadcast_to(trace[None, None], (len(codes), 1, len(trace)))
    return choose(images[:, None], trace[..., -1], trace, queries)
