"""Sign encoding: train weights whose signs spell a payload.

Song, Ristenpart, Shmatikov (2017). The training code adds

    weight / N * sum_i max(0, -theta_i s_i),   s_i in {-1, +1},

to the loss (`malicious_gradient`, an optax transformation that goes before the
optimizer). Whoever reads the released weights reads one bit per weight (`attack`).

Departure: the sum is divided by the number of weights that carry a payload rather than
by all weights, so that `weight` means the same for payloads of any length.

References:
  Song, Ristenpart, Shmatikov. Machine learning models that remember too much. CCS 2017.
  doi:10.1145/3133956.3134077.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from mijax.attacks.pipeline.weights import adding, carriers, require_capacity
from mijax.core import hyper_parameters
from mijax.core.payload import Payload
from mijax.knowledge.training_pipeline import TrainingPipeline


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      weight: of the penalty in the training loss (10 and 50 in the paper); 0 hides
        nothing. `attack` does not read it.
    """

    weight: float | Array = 50.0


def penalty(params: Any, bits: Array, config: Config = Config()) -> Array:
    """Returns what the training loss is increased by, a scalar.

    Args:
      params: the weights.
      bits: the payload, `[N]` of 0 and 1, in the order of the weights.
      config: hyper-parameters.

    Raises:
      ValueError: if there are more bits than weights.
    """
    weights = carriers(params)
    require_capacity(bits.shape[0], weights.shape[0], "bits")
    signs = 2.0 * bits - 1.0
    return config.weight * jnp.mean(jax.nn.relu(-weights[: bits.shape[0]] * signs))


def malicious_gradient(
    bits: Array, config: Config = Config()
) -> optax.GradientTransformation:
    """Adds the penalty's gradient: `optax.chain(malicious_gradient(...), adam)`."""
    return adding(lambda params: penalty(params, bits, config))


def attack(
    key: Array, knowledge: TrainingPipeline, config: Config = Config()
) -> Payload:
    """Recovers bits of the training data from the signs of released weights.

    Args:
      key: the key is consumed, though the method is deterministic.
      knowledge: the released model, whose weights are read.
      config: as given to `malicious_gradient`.

    Returns:
      Bits `[N]`; the margin is the weight's magnitude.

    Raises:
      ValueError: if the model has fewer than `knowledge.length` weights.
    """
    del key, config
    weights = carriers(knowledge.target.trained)
    require_capacity(knowledge.length, weights.shape[0], "bits")
    used = weights[: knowledge.length]
    values = (used > 0).astype(jnp.float32)
    return Payload(values, jnp.abs(used), jnp.zeros((), jnp.int32))
