"""What MI-Face does to an image between steps: denoise it, sharpen it.

References:
  Fredrikson, Jha, Ristenpart. CCS 2015. doi:10.1145/2810103.2813677.
  Buades, Coll, Morel. A non-local algorithm for image denoising. CVPR 2005.
"""

import jax.numpy as jnp
from jax import Array


def _box(x: Array, size: int) -> Array:
    """Means of `size` x `size` windows, edges repeated."""
    _check(x)
    reach = size // 2
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    height, width = x.shape[1:3]
    windows = [
        padded[:, i : i + height, j : j + width]
        for i in range(size)
        for j in range(size)
    ]
    return sum(windows, jnp.zeros_like(x)) / size**2


def _check(x: Array) -> None:
    if x.ndim != 4:
        raise ValueError(
            f"x is {x.shape}: only images [B, H, W, C] can be denoised or sharpened."
        )


def denoise(x: Array, strength: float | Array = 0.05) -> Array:
    """Non-local means: each pixel, by pixels whose 3x3 surroundings look alike.

    Searches a 7x7 window.

    Args:
      x: images `[B, H, W, C]` in [0, 1].
      strength: how unlike, root mean square, surroundings may be.

    Raises:
      ValueError: if x are no images.
    """
    _check(x)
    reach = 3
    height, width = x.shape[1:3]
    pads = ((0, 0), (reach, reach), (reach, reach), (0, 0))
    padded = jnp.pad(x, pads, mode="edge")
    total = jnp.zeros_like(x)
    weights = jnp.zeros_like(x)
    for i in range(2 * reach + 1):
        for j in range(2 * reach + 1):
            other = padded[:, i : i + height, j : j + width]
            weight = jnp.exp(-_box((x - other) ** 2, 3) / (strength**2 + 1e-12))
            total, weights = total + weight * other, weights + weight
    return jnp.clip(total / weights, 0.0, 1.0)  # Rounding may leave by an ulp.


def sharpen(x: Array, amount: float | Array = 0.5) -> Array:
    """Unsharp masking of images `[B, H, W, C]`, kept in [0, 1]."""
    return jnp.clip(x + amount * (x - _box(x, 3)), 0.0, 1.0)


def denoise_and_sharpen(x: Array) -> Array:
    """The paper's processing; its parameters are not published, these are ours."""
    return sharpen(denoise(x))
