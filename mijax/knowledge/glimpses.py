"""What an adversary may see of a private image: blurred, or with the middle hidden.

Each function returns what `core.Glimpse.see` needs; the masks are Zhang et al.'s
(2020): the center mask hides the inner 70 % of each side, the T mask hides the eyes,
the nose and the mouth.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from mijax.core import Glimpse, pytree, static


def _masked(mask: Array, x: Array) -> Array:
    return mask[None] * x


@pytree
class _Blur:
    """Means over blocks; a class because the factor is a size, not a leaf."""

    factor: int = static()

    def __call__(self, x: Array) -> Array:
        batch, height, width, channels = x.shape
        factor = self.factor
        blocks = x.reshape(
            batch, height // factor, factor, width // factor, factor, channels
        )
        return jnp.mean(blocks, axis=(2, 4))


def masked(images: Array, mask: np.ndarray | Array) -> Glimpse:
    """Shows images `[V, H, W, C]` where `mask` `[H, W, 1]` is 1.

    Raises:
      ValueError: if the mask is of another size.
    """
    if mask.ndim != 3 or mask.shape[:2] != images.shape[1:3]:
        raise ValueError(
            f"The mask is {mask.shape} for images {images.shape[1:]}: it must be "
            "[H, W, 1]."
        )
    see = Partial(_masked, jnp.asarray(mask, jnp.float32))
    return Glimpse(see(images), see)


def blurred(images: Array, factor: int = 4) -> Glimpse:
    """Shows the means of `factor` x `factor` blocks of images `[V, H, W, C]`.

    Raises:
      ValueError: if `factor` does not divide the sides.
    """
    if factor < 1 or images.shape[1] % factor or images.shape[2] % factor:
        raise ValueError(
            f"factor is {factor}: it must divide the sides of {images.shape[1:3]}."
        )
    see = _Blur(factor)
    return Glimpse(see(images), see)


def center_mask(height: int, width: int) -> np.ndarray:
    """Hides rows and columns from 15 % to 85 %: `[height, width, 1]`, 1 is seen."""
    mask = np.ones((height, width, 1), np.float32)
    mask[int(0.15 * height) : int(0.85 * height)][
        :, int(0.15 * width) : int(0.85 * width)
    ] = 0
    return mask


def t_mask(height: int, width: int) -> np.ndarray:
    """Hides a band over the eyes and a column down to the mouth."""
    mask = np.ones((height, width, 1), np.float32)
    mask[
        int(0.28 * height) : int(0.52 * height), int(0.12 * width) : int(0.88 * width)
    ] = 0
    mask[
        int(0.28 * height) : int(0.88 * height), int(0.33 * width) : int(0.67 * width)
    ] = 0
    return mask
