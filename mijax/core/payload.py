"""What a model was made to carry: the payload that an adversary reads back."""

import zlib

import jax.numpy as jnp
from jax import Array

from mijax.core.pytrees import pytree


@pytree
class Payload:
    """A payload that was recovered from a released model.

    Attributes:
      values: the recovered values, `[N]`: bits 0 and 1, or numbers in the payload's
        range.
      margin: how clearly each value could be read, `[N]`, 0 or more; its unit is the
        method's own.
      queries: inputs that a black box was asked about; 0 for a white box.
    """

    values: Array
    margin: Array
    queries: Array


def compressed(content: bytes) -> bytes:
    """Compresses a payload (zlib); `restored` needs no length, and checks a sum.

    Encrypt after it, not before: what is encrypted does not compress.
    """
    return zlib.compress(content, 9)


def restored(content: bytes) -> bytes:
    """Undoes `compressed`; what follows the payload is ignored.

    Raises:
      ValueError: if a bit is wrong: a compressed payload needs every one of them.
    """
    reader = zlib.decompressobj()
    try:
        found = reader.decompress(content)
    except zlib.error as error:
        raise ValueError(
            f"The payload of {len(content):,} bytes is damaged ({error}): compressed "
            "content needs every bit to be right."
        ) from error
    if not reader.eof:
        raise ValueError(
            f"The payload of {len(content):,} bytes is cut off: read more of it."
        )
    return found


def to_bits(content: bytes) -> Array:
    """Returns the bits of `content`, most significant first, `[8 len]` of 0 and 1."""
    numbers = jnp.frombuffer(content, jnp.uint8)
    return (
        numbers[:, None] >> jnp.arange(7, -1, -1, dtype=jnp.uint8)[None] & 1
    ).reshape(-1)


def to_bytes(bits: Array) -> bytes:
    """Returns the bytes of bits `[8 B]` of 0 and 1, most significant first.

    Raises:
      ValueError: if the number of bits is not a multiple of 8.
    """
    if bits.shape[0] % 8:
        raise ValueError(f"There are {bits.shape[0]} bits: give a multiple of 8.")
    weights = 2 ** jnp.arange(7, -1, -1)[None]
    return bytes(jnp.sum(bits.reshape(-1, 8) * weights, 1).astype(jnp.uint8).tolist())
