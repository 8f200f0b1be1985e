"""Pruning: only the largest numbers of an update are shared.

Guarantees nothing but the number of values shared: those that are left are exact.

Departure: deep gradient compression adds what was held back to the next round's
update. Here it is dropped, as in the attacks' evaluations, so an adversary of one
round sees the same.

References:
  Lin et al. Deep gradient compression: reducing the communication bandwidth for
  distributed training. ICLR 2018. arXiv:1712.01887.
  Zhu, Liu, Han. Deep leakage from gradients. NeurIPS 2019. arXiv:1906.08935.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from mijax.core import Defense
from mijax.defenses import strength


def prune(rate: float | Array) -> Defense:
    """Sets the smallest `rate` of all numbers of the update to zero.

    Of D numbers exactly `D - floor(rate * D)` are kept, the first of equal ones; beyond
    four million numbers, up to one more or fewer, as float32 counts.

    Raises:
      ValueError: if `rate` is not in [0, 1].
    """
    return strength.stateless(Partial(_prune, _checked(rate)))


def prune_layers(rate: float | Array) -> Defense:
    """Sets the smallest `rate` of each leaf of the update to zero.

    Raises:
      ValueError: if `rate` is not in [0, 1].
    """
    return strength.stateless(Partial(_prune_layers, _checked(rate)))


def threshold(magnitude: float | Array) -> Defense:
    """Sets every number of the update that is smaller than `magnitude` to zero.

    Raises:
      ValueError: if `magnitude` is negative or not finite.
    """
    magnitude = strength.non_negative("The threshold", magnitude)
    return strength.stateless(Partial(_threshold, magnitude))


def _prune(rate: Array, updates: Any) -> Any:
    flat, unravel = ravel_pytree(updates)
    return unravel(_largest(flat, rate))


def _prune_layers(rate: Array, updates: Any) -> Any:
    return jax.tree.map(
        lambda leaf: _largest(leaf.ravel(), rate).reshape(leaf.shape), updates
    )


def _threshold(magnitude: Array, updates: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jnp.where(jnp.abs(leaf) >= magnitude, leaf, 0), updates
    )


def _largest(x: Array, rate: Array) -> Array:
    """Keeps the largest numbers `[D]`; sorts nothing, which is slow on CPU.

    Magnitudes are ordered as their bits are, so that the smallest of those that are
    kept is found bit by bit, by counting.
    """
    wide = jnp.abs(x).astype(jnp.promote_types(x.dtype, jnp.float32))
    size = 8 * wide.dtype.itemsize
    bits = jax.lax.bitcast_convert_type(wide, jnp.dtype(f"uint{size}"))
    number = x.size - strength.number_of(rate, x.size)

    def with_bit(index: Array, least: Array) -> Array:
        higher = least | jnp.left_shift(jnp.ones((), bits.dtype), size - 2 - index)
        return jnp.where(jnp.sum(bits >= higher) >= number, higher, least)

    zero = jnp.zeros((), bits.dtype)
    least = jax.lax.fori_loop(0, size - 1, with_bit, zero)  # The sign's bit is 0.
    above, equal = bits > least, bits == least
    first = jnp.cumsum(equal) <= number - jnp.sum(above)
    return jnp.where(above | (equal & first), x, 0)


def _checked(rate: float | Array) -> Array:
    return strength.share("The pruning rate", rate)
