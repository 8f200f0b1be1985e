"""Aggregation of an attack's restarts into one image, without looking at the truth.

Restarts agree where the target leads them and differ where it does not, so what is
peculiar to one of them averages out.
"""

import jax.numpy as jnp
from jax import Array

from mijax.core import Reconstruction


def mean(found: Reconstruction, *, mirror: bool = False) -> Array:
    """Returns the mean image of each victim's restarts, `[V, H, W, C]`.

    Restarts whose loss is not finite are left out; where none is finite, the image is
    that of `found.x`.

    Args:
      found: what an attack on images returned.
      mirror: whether a restart is mirrored where that brings it closer to the one that
        the attack chose, as faces may look either way.
    """
    x, chosen = found.candidates, found.x[:, None]  # [V, R, H, W, C], [V, 1, ...]
    axes = tuple(range(2, x.ndim))
    if mirror:
        flipped = x[:, :, :, ::-1]
        distance = jnp.sum((x - chosen) ** 2, axes, keepdims=True)
        distance_flipped = jnp.sum((flipped - chosen) ** 2, axes, keepdims=True)
        x = jnp.where(distance_flipped < distance, flipped, x)
    finite = jnp.expand_dims(jnp.isfinite(found.losses), axes)
    number = jnp.sum(finite, 1)
    total = jnp.sum(jnp.where(finite, x, 0), 1)
    return jnp.where(number > 0, total / jnp.maximum(number, 1), found.x)
