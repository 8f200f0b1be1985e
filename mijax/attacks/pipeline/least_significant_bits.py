"""Least significant bits: hide a payload in the low bits of the released weights.

Song, Ristenpart, Shmatikov (2017). The training code trains as it should, then
overwrites the `bits_per_weight` lowest bits of each float32 weight with the payload
(`embed`). Whoever reads the released weights reads the payload (`attack`). Capacity is
`bits_per_weight` per weight; the paper finds 18 to 20 to cost no accuracy.

`mijax.core.Coding` compresses and encrypts the payload, and adds error correction.

References:
  Song, Ristenpart, Shmatikov. Machine learning models that remember too much. CCS 2017.
  doi:10.1145/3133956.3134077.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mijax.attacks.pipeline.weights import carriers, replaced, require_capacity
from mijax.core import hyper_parameters, static
from mijax.core.payload import Payload
from mijax.knowledge.training_pipeline import TrainingPipeline

_MANTISSA = 23  # bits of a float32's fraction


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      bits_per_weight: low bits of each weight that are overwritten, 1 to 23.
    """

    bits_per_weight: int = static(default=20)

    def __post_init__(self) -> None:
        """Raises a ValueError if sign or exponent would be overwritten."""
        if not 1 <= self.bits_per_weight <= _MANTISSA:
            raise ValueError(
                f"bits_per_weight is {self.bits_per_weight}: it must be 1 to "
                f"{_MANTISSA}, the bits of a float32's fraction."
            )


def embed(params: Any, bits: Array, config: Config = Config()) -> Any:
    """Returns the weights with `bits` `[N]` of 0 and 1 in their lowest bits.

    Raises:
      ValueError: if there are more bits than the weights carry.
    """
    weights = carriers(params)
    size = config.bits_per_weight
    require_capacity(bits.shape[0], weights.shape[0] * size, "bits")
    used = -(-bits.shape[0] // size)
    padded = jnp.pad(bits.astype(jnp.uint32), (0, used * size - bits.shape[0]))
    low = jnp.sum(
        padded.reshape(used, size) << jnp.arange(size, dtype=jnp.uint32)[None], 1
    )
    raw = jax.lax.bitcast_convert_type(weights[:used], jnp.uint32)
    raw = (raw >> size << size) | low.astype(jnp.uint32)
    written = jax.lax.bitcast_convert_type(raw, jnp.float32)
    return replaced(params, weights.at[:used].set(written))


def attack(
    key: Array, knowledge: TrainingPipeline, config: Config = Config()
) -> Payload:
    """Recovers bits of the training data from the low bits of released weights.

    Args:
      key: the key is consumed, though the method is deterministic.
      knowledge: the released model, whose weights are read.
      config: as given to `embed`.

    Returns:
      Bits `[N]`; every margin is 1, as bits are read exactly.

    Raises:
      ValueError: if the model carries fewer than `knowledge.length` bits.
    """
    del key
    weights = carriers(knowledge.target.trained)
    size, length = config.bits_per_weight, knowledge.length
    require_capacity(length, weights.shape[0] * size, "bits")
    raw = jax.lax.bitcast_convert_type(weights[: -(-length // size)], jnp.uint32)
    bits = (raw[:, None] >> jnp.arange(size, dtype=jnp.uint32)[None]) & 1
    values = bits.reshape(-1)[:length].astype(jnp.float32)
    return Payload(values, jnp.ones_like(values), jnp.zeros((), jnp.int32))
