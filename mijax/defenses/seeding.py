"""Noise that follows from what it is added to: asking again averages nothing away."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from mijax.core import independent


def each(key: Array, x: Array, draw: Callable[[Array], Array]) -> Array:
    """Draws for each example, the same for the same numbers, `[B, ...]`.

    Args:
      key: the defense's own, which no adversary knows.
      x: `[B, ...]`; nothing is differentiated through them.
      draw: `key -> [...]`.
    """
    rows = lax.stop_gradient(x).reshape(x.shape[0], -1).astype(jnp.float32)
    bits = lax.bitcast_convert_type(rows, jnp.uint32)
    # A random odd multiplier a place: examples that differ share noise by chance alone.
    mix_key, draw_key = jax.random.split(independent(key))
    odd = jax.random.bits(mix_key, (rows.shape[1],)) | 1
    digests = jnp.sum(bits * odd[None], 1, dtype=jnp.uint32)
    return jax.vmap(lambda digest: draw(jax.random.fold_in(draw_key, digest)))(digests)
