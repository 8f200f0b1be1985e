"""Released weights: rounded, or changed by a defense that is made for updates.

Guarantees nothing: rounding to fewer bits of fraction erases what lies in the bits
below, and leaves what is in magnitudes and signs; a payload in the bits that are kept,
or with error correction, survives.

References:
  Song, Ristenpart, Shmatikov. Machine learning models that remember too much. CCS 2017.
  doi:10.1145/3133956.3134077.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense
from mijax.defenses import strength


def round_fraction(bits: float | Array) -> Defense:
    """Rounds each number to `bits` bits of fraction; a float32 has 23.

    3 makes floats of 12 bits: with a sign and 8 bits of exponent.

    Raises:
      ValueError: if `bits` is negative or not finite.
    """
    bits = strength.non_negative("The number of bits", bits)
    return strength.stateless(Partial(_round, bits))


def released(defense: Defense, params: Any) -> Any:
    """Returns weights as they are after the defense, of which they are the update.

    Raises:
      ValueError: if the defense does not act on updates alone.
    """
    if defense.update is None or defense.places != ("update",):
        raise ValueError(
            f"The defense acts on {', '.join(defense.places) or 'nothing'}: give one "
            "of updates, such as rounding, pruning, quantization or noise."
        )
    return defense.update.update(params, defense.update.init(params), params)[0]


def _round(bits: Array, updates: Any) -> Any:
    def round_one(leaf: Array) -> Array:
        fraction, exponent = jnp.frexp(leaf)
        # The fraction lies in [1/2, 1): its first bit is not stored.
        scale = jnp.exp2(jnp.round(bits) + 1).astype(leaf.dtype)
        return jnp.ldexp(jnp.round(fraction * scale) / scale, exponent)

    return jax.tree.map(round_one, updates)
