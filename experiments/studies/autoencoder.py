"""A stacked denoising autoencoder: its training layer by layer, its code to search in.

References:
  Vincent et al. Stacked denoising autoencoders. JMLR 11, 2010.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from experiments.harness import resumable
from experiments.harness.run import Run
from mijax import training
from mijax.core import Target
from mijax.data import Dataset
from mijax.knowledge import Codec
from mijax.models.mlp import DAE, denoising_loss


def pretrain(
    run: Run, keys: list[jax.Array], module: DAE, faces: Dataset, steps: int
) -> Any:
    """Trains layers to undo noise, one after the other; returns the variables.

    Args:
      run: keeps checkpoints, as `dae_layer_1` and so on.
      keys: for the start and for each layer.
      module: the autoencoder.
      faces: to train on.
      steps: of each layer.
    """
    adam = optax.adam(3e-3)
    start_key, *layer_keys = keys
    state = training.train_state(start_key, module, faces.images.shape[1:], adam)
    for depth, key in enumerate(layer_keys, 1):
        name = f"dae_layer_{depth}"

        def loss(key: jax.Array, params: Any, x: jax.Array, depth: int = depth) -> Any:
            return jnp.mean(denoising_loss(module, {"params": params}, key, x, depth))

        state = resumable.train(
            key,
            training.TrainState(state.variables, adam.init(state.variables["params"])),
            training.minimizing(loss, adam),
            faces.images,
            name=name,
            folder=run.workdir / "checkpoints" / name,
            batch_size=40,
            steps=steps,
            chunk=500,
        )
    return state.variables


def first_layer(target: Target) -> Codec:
    """The space in which Process-DAE searches in an autoencoder, a target of Linen."""
    function: Any = target.function
    ways = (
        functools.partial(function.module.apply, depth=1, method=way)
        for way in (DAE.encode, DAE.decode)
    )
    return Codec(*(Partial(way, target.params) for way in ways))
