"""Capacity abuse: memorize synthetic examples whose labels spell a payload.

Song, Ristenpart, Shmatikov (2017). The training code appends synthetic examples to the
training set (`synthetic`): inputs that anyone who knows `seed` can make again, each
labeled by the next `floor(log2 K)` bits of the payload. Whoever may ask the released
model for labels asks about the same inputs and reads the payload (`attack`).

Departure: the paper's inputs for images are nearly empty, with two pixels set; ours are
uniform noise, which any shape of input has.

References:
  Song, Ristenpart, Shmatikov. Machine learning models that remember too much. CCS 2017.
  doi:10.1145/3133956.3134077.
"""

import jax
import jax.numpy as jnp
from jax import Array

from mijax.core import hyper_parameters, static
from mijax.core.payload import Payload
from mijax.knowledge import Labels


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      length: how many bits the training code hid, N.
      seed: of the synthetic inputs, shared by training code and adversary.
    """

    length: int = static(default=8)
    seed: int = static(default=0)

    def __post_init__(self) -> None:
        """Raises a ValueError if there is no payload."""
        if self.length < 1:
            raise ValueError(f"length is {self.length}: it must be 1 or more bits.")


def bits_per_label(num_classes: int) -> int:
    """Returns how many bits a label carries.

    Raises:
      ValueError: if there is a single class.
    """
    if num_classes < 2:
        raise ValueError(
            f"The model has {num_classes} class: labels carry bits from 2 classes on."
        )
    return num_classes.bit_length() - 1


def synthetic(
    shape: tuple[int, ...], num_classes: int, bits: Array, config: Config = Config()
) -> tuple[Array, Array]:
    """Returns what the training code appends: x `[M, *shape]` and labels `[M]`.

    Args:
      shape: of one input.
      num_classes: K.
      bits: the payload, `[N]` of 0 and 1; M is N divided by the bits per label,
        rounded up.
      config: hyper-parameters.
    """
    size = bits_per_label(num_classes)
    number = -(-bits.shape[0] // size)
    padded = jnp.pad(bits.astype(jnp.int32), (0, number * size - bits.shape[0]))
    labels = jnp.sum(padded.reshape(number, size) << jnp.arange(size)[None], 1)
    return _inputs(shape, number, config), labels.astype(jnp.int32)


def attack(key: Array, knowledge: Labels, config: Config = Config()) -> Payload:
    """Recovers bits of the training data from labels of synthetic inputs.

    Args:
      key: the key is consumed, though the method is deterministic.
      knowledge: the released model behind its label query; its `labels` are not read.
      config: as given to `synthetic`.

    Returns:
      Bits `[N]`; every margin is 1, as a label comes without a confidence. `queries`
      is the number of inputs asked about.

    Raises:
      ValueError: if the model has a single class, or the query budget is exceeded.
    """
    del key
    size = bits_per_label(knowledge.num_classes)
    x = _inputs(knowledge.shape, -(-config.length // size), config)
    labels, asked = knowledge.query(x)
    # A label at or past 2^size spells nothing: its low bits are read all the same.
    values = (labels[:, None] >> jnp.arange(size)[None]) & 1
    values = values.reshape(-1)[: config.length].astype(jnp.float32)
    queries = jnp.asarray(asked.spent - knowledge.spent, jnp.int32)
    return Payload(values, jnp.ones_like(values), queries)


def _inputs(shape: tuple[int, ...], number: int, config: Config) -> Array:
    return jax.random.uniform(jax.random.key(config.seed), (number, *shape))
