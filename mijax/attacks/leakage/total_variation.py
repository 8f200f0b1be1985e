"""Total variation: how rough images are, to prefer those that are not."""

import jax.numpy as jnp
from jax import Array


def total_variation(x: Array) -> Array:
    """Mean absolute difference of neighbors, down plus across, of `[..., H, W, C]`.

    References:
      Rudin, Osher, Fatemi. Nonlinear total variation based noise removal algorithms.
      1992. doi:10.1016/0167-2789(92)90242-F.
    """
    down = jnp.abs(jnp.diff(x, axis=-3))
    across = jnp.abs(jnp.diff(x, axis=-2))
    return jnp.mean(down, (-3, -2, -1)) + jnp.mean(across, (-3, -2, -1))
