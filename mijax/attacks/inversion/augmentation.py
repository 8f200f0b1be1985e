"""Random views (augmentations) of an image, against adversarial pixel patterns.

Each is `(key, image [H, W, C]) -> image [H, W, C]`, differentiable in the image.
"""

import jax
import jax.numpy as jnp
from jax import Array


def resized_crop(
    key: Array,
    image: Array,
    scale: tuple[float, float] = (0.9, 1.0),
    ratio: tuple[float, float] = (1.0, 1.0),
) -> Array:
    """Crops a rectangle at random and stretches it, linearly, to the whole image.

    Args:
      key: it is consumed.
      image: `[H, W, C]`.
      scale: the least and the largest share of the area.
      ratio: the least and the largest width by height; its logarithm is uniform. A
        rectangle that is wider or higher than the image is cut to it.
    """
    rows, columns = crop_weights(key, image.shape[:2], scale, ratio)
    return jnp.einsum("ih,hwc,jw->ijc", rows, image, columns)


def crop_weights(
    key: Array,
    size: tuple[int, ...],
    scale: tuple[float, float],
    ratio: tuple[float, float] = (1.0, 1.0),
) -> tuple[Array, Array]:
    """The weights `[H, H]` of rows and `[W, W]` of columns of a `resized_crop`."""
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, minval=scale[0], maxval=scale[1])
    low, high = jnp.log(jnp.asarray(ratio))
    wider = jnp.exp(jax.random.uniform(ratio_key, minval=low, maxval=high))
    extent = jnp.minimum(jnp.sqrt(area * jnp.stack([1 / wider, wider])), 1.0)
    start = jax.random.uniform(place_key, (2,)) * (1 - extent)
    rows = _resampling(size[0], start[0], extent[0])
    return rows, _resampling(size[1], start[1], extent[1])


def mirror(key: Array, image: Array) -> Array:
    """Mirrors an image left to right, one time in two."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def relit(key: Array, image: Array, reach: float = 0.2) -> Array:
    """Multiplies brightness, and contrast about the mean, by 1 - `reach` to 1 + it.

    What leaves [0, 1] is clipped.
    """
    factors = jax.random.uniform(key, (2,), minval=1 - reach, maxval=1 + reach)
    image = jnp.clip(image * factors[0], 0, 1)
    center = jnp.mean(image)
    return jnp.clip(center + (image - center) * factors[1], 0, 1)


def _resampling(size: int, start: Array, extent: Array) -> Array:
    """Weights `[size, size]` that stretch a part of an axis over all of it."""
    shares = start + extent * (jnp.arange(size) + 0.5) / size
    centers = jnp.clip(shares * size - 0.5, 0, size - 1)
    distances = jnp.abs(centers[:, None] - jnp.arange(size)[None])
    return jnp.maximum(1 - distances, 0)
