"""Distances between paired images: a reconstruction beside its original.

Letters: `B` examples, `H`, `W`, `C` height, width and channels. Images lie in [0, 1].
All of these may be jitted; an image with a NaN gets the value NaN.
"""

import functools
import math

import jax
import jax.numpy as jnp

UNIFORM_7 = (1 / 7,) * 7
_BELL = tuple(math.exp(-0.5 * (i / 1.5) ** 2) for i in range(-5, 6))
GAUSSIAN_11 = tuple(weight / sum(_BELL) for weight in _BELL)


def mse(x: jax.Array, x_hat: jax.Array) -> jax.Array:
    """Mean squared error over the pixels and channels of each pair.

    Args:
      x: originals `[B, H, W, C]`.
      x_hat: reconstructions `[B, H, W, C]`, in the same order.

    Returns:
      `[B]`, in squared units of the pixel range.

    Raises:
      ValueError: the two shapes differ or are not `[B, H, W, C]`, or the images are
        not floating-point.
    """
    _check(x, x_hat)
    return jnp.mean(jnp.square(x - x_hat), axis=(1, 2, 3))


def psnr(x: jax.Array, x_hat: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio of each pair, for the pixel range [0, 1].

    It is `-10 log10(mse)`, at most 100 dB: past that (an error of 1e-5 a pixel) pairs
    count as identical, so that one exact reconstruction keeps a mean finite.

    Args:
      x: originals `[B, H, W, C]`.
      x_hat: reconstructions `[B, H, W, C]`, in the same order.

    Returns:
      `[B]`, in decibels.

    Raises:
      ValueError: the two shapes differ or are not `[B, H, W, C]`, or the images are
        not floating-point.
    """
    return -10 * jnp.log10(jnp.maximum(mse(x, x_hat), 1e-10))


@functools.partial(jax.jit, static_argnames="window")
def ssim(
    x: jax.Array, x_hat: jax.Array, window: tuple[float, ...] = GAUSSIAN_11
) -> jax.Array:
    """Structural similarity of each pair, averaged over windows and channels.

    The default is the paper's 11 x 11 Gaussian window with a deviation of 1.5 pixels;
    `UNIFORM_7` gives the 7 x 7 mean. Moments are the window's own weighted ones (no
    `n / (n - 1)`), only windows that lie wholly inside the image count, and the
    constants are the paper's `0.01 ** 2` and `0.03 ** 2` for the pixel range [0, 1].

    Args:
      x: originals `[B, H, W, C]`.
      x_hat: reconstructions `[B, H, W, C]`, in the same order.
      window: weights along one axis, which sum to one; the window is their outer
        product.

    Returns:
      `[B]` in [-1, 1]; 1 for identical images.

    Raises:
      ValueError: the shapes differ, the images are not floating-point, or smaller than
        the window.

    References:
      Wang et al. 2004, Image quality assessment: from error visibility to structural
      similarity. doi:10.1109/TIP.2003.819861
    """
    _check(x, x_hat)
    if min(x.shape[1:3]) < len(window):
        raise ValueError(
            f"images of {x.shape[1]} x {x.shape[2]} are smaller than the window of "
            f"{len(window)} pixels: give a shorter `window`"
        )

    moments = jnp.concatenate([x, x_hat, x * x, x_hat * x_hat, x * x_hat], axis=-1)
    for axis in (1, 2):
        length = moments.shape[axis] - len(window) + 1
        slices = [
            weight * jax.lax.slice_in_dim(moments, i, i + length, axis=axis)
            for i, weight in enumerate(window)
        ]
        moments = functools.reduce(jnp.add, slices)
    mean, mean_hat, square, square_hat, product = jnp.split(moments, 5, axis=-1)
    variance = square - mean * mean
    variance_hat = square_hat - mean_hat * mean_hat
    covariance = product - mean * mean_hat
    luminance, contrast = 0.01**2, 0.03**2
    similarity = (2 * mean * mean_hat + luminance) * (2 * covariance + contrast)
    similarity /= mean * mean + mean_hat * mean_hat + luminance
    similarity /= variance + variance_hat + contrast
    return jnp.mean(similarity, axis=(1, 2, 3))


def _check(x: jax.Array, x_hat: jax.Array):
    if x.ndim != 4 or x.shape != x_hat.shape:
        raise ValueError(
            f"x {x.shape} and x_hat {x_hat.shape} must be pairs of images of one shape "
            "[B, H, W, C]"
        )
    for name, images in (("x", x), ("x_hat", x_hat)):
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(
                f"{name} holds {images.dtype}: images are numbers in [0, 1], such as "
                f"{name}.astype(float), divided by 255 if they are bytes"
            )
