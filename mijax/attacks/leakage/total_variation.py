"""Total variation: how rough images are, to prefer those that are not."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from mijax.core import concrete


def total_variation(x: Array) -> Array:
    """Mean absolute difference of neighbors, down plus across, of `[..., H, W, C]`.

    Images one pixel wide or high have no neighbors that way, and 0 for it. A weight w
    of the authors' code, whose pixels are standardized (deviation of about 1/4), is
    4 w here: their paper's 1e-6 to 1e-1 are 4e-6 to 0.4.

    Raises:
      ValueError: if these are no images.

    References:
      Rudin, Osher, Fatemi. Nonlinear total variation based noise removal algorithms.
      1992. doi:10.1016/0167-2789(92)90242-F.
    """
    if x.ndim < 3:
        raise ValueError(
            f"x is {x.shape}: only images [..., H, W, C] have neighbors that vary."
        )
    differences = (jnp.abs(jnp.diff(x, axis=axis)) for axis in (-3, -2))
    means = (jnp.mean(d, (-3, -2, -1)) for d in differences if d.size)
    return sum(means, jnp.zeros(x.shape[:-3], x.dtype))


def refuse_weights(given: Any) -> None:
    """Raises ValueError if there is no weight, or one that is known is negative."""
    weights = given if isinstance(given, tuple | list) else (given,)
    known = [weight for weight in map(concrete, weights) if weight is not None]
    if not weights or any(np.any(weight < 0) for weight in known):
        raise ValueError(f"tv_weight is {given}: give a weight of 0 or more.")


def refuse_flat(shape: tuple[int, ...]) -> None:
    """Refuses a target whose examples have no neighbors down and across.

    Raises:
      ValueError: if the shape of one is not `[H, W, C]`.
    """
    if len(shape) != 3:
        raise ValueError(
            f"The target takes examples of shape {shape}, but total variation is of "
            "images (H, W, C): let the target take those, or use dlg, which needs none."
        )
