"""What a model was made to carry: the payload that an adversary reads back.

A `Coding` says how bytes become the bits that are hidden: compressed, then encrypted,
then with parity, so that a few wrong bits do not spoil what comes before.
"""

import dataclasses
import importlib
import types
import zlib

import jax.numpy as jnp
from jax import Array

from mijax.core.pytrees import pytree

_BLOCK = 255  # bytes of a Reed-Solomon block, parity included
_TAG = 16  # bytes that encryption adds
_KEYS = (32, 48, 64)  # bytes of AES-SIV's keys


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


@dataclasses.dataclass(frozen=True)
class Coding:
    """How a payload of bytes is written; the adversary reads it with the same one.

    Encryption is AES-SIV (of `cryptography`): the same bytes and key give the same
    bits, and a damaged payload is refused. Error correction is Reed-Solomon's (of
    `reedsolo`), in blocks of 255 bytes. Both come with `pip install "mijax[payload]"`.

    Attributes:
      compress: whether the bytes are compressed; without it, they are hidden as they
        are.
      key: of the encryption, 32, 48 or 64 bytes; None for none.
      parity: bytes of each block that are spent on error correction, 0 to 254; half as
        many wrong bytes in a block are put right.
    """

    compress: bool = True
    key: bytes | None = dataclasses.field(default=None, repr=False)
    parity: int = 0

    def __post_init__(self) -> None:
        """Raises a ValueError if the key or the parity is of no allowed size."""
        if self.key is not None and len(self.key) not in _KEYS:
            raise ValueError(
                f"The key has {len(self.key)} bytes: AES-SIV takes "
                f"{', '.join(map(str, _KEYS))}."
            )
        if not 0 <= self.parity < _BLOCK:
            raise ValueError(
                f"parity is {self.parity}: a block of {_BLOCK} bytes has 0 to "
                f"{_BLOCK - 1} bytes of it."
            )

    def encode(self, content: bytes, capacity: int | None = None) -> Array:
        """Returns the bits to hide, `[N]` of 0 and 1.

        Args:
          content: what is hidden.
          capacity: the bits that the model carries; None for as many as needed.

        Raises:
          ValueError: if the bits are more than the capacity.
          ModuleNotFoundError: if the packages of the coding are not installed.
        """
        sent = compressed(content) if self.compress else content
        if self.key is not None:
            sent = _siv(self.key).encrypt(sent, None)
        if self.parity:
            sent = bytes(_reed_solomon(self.parity).encode(sent))
        if capacity is not None and 8 * len(sent) > capacity:
            raise ValueError(
                f"The payload of {len(content):,} bytes is {8 * len(sent):,} bits when "
                f"coded and the model carries {capacity:,}, "
                f"{8 * len(sent) - capacity:,} too few: shorten the payload, or "
                "enlarge the model."
            )
        return to_bits(sent)

    def decode(self, bits: Array) -> bytes:
        """Returns what was hidden, of its bits `[N]`, as many as `encode` returned.

        Raises:
          ValueError: if more bits are wrong than the coding puts right.
          ModuleNotFoundError: if the packages of the coding are not installed.
        """
        found = to_bytes(bits)
        if self.parity:
            module = _package("reedsolo")
            try:
                found = bytes(_reed_solomon(self.parity).decode(found)[0])
            except module.ReedSolomonError as error:
                raise ValueError(
                    f"The payload of {len(found):,} bytes has more wrong ones in a "
                    f"block than {self.parity} bytes of parity put right: hide it with "
                    "more parity."
                ) from error
        if self.key is not None:
            invalid = _package("cryptography.exceptions").InvalidTag
            try:
                found = _siv(self.key).decrypt(found, None)
            except invalid as error:
                raise ValueError(
                    f"The payload of {len(found):,} bytes does not decrypt: a bit is "
                    "wrong, or the key is another one."
                ) from error
        return restored(found) if self.compress else found

    def room(self, capacity: int) -> int:
        """Returns how many bytes `capacity` bits hold, where they do not compress."""
        blocks, rest = divmod(capacity // 8, _BLOCK)
        held = blocks * (_BLOCK - self.parity) + max(0, rest - self.parity)
        return max(0, held - (0 if self.key is None else _TAG))


def _package(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The payload's coding needs {name.partition('.')[0]}: "
            'pip install "mijax[payload]"'
        ) from error


def _siv(key: bytes):
    return _package("cryptography.hazmat.primitives.ciphers.aead").AESSIV(key)


def _reed_solomon(parity: int):
    return _package("reedsolo").RSCodec(parity)
