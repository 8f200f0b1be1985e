"""Correlated values: train weights that are correlated with a payload of numbers.

Song, Ristenpart, Shmatikov (2017). The training code subtracts

    weight * |corr(theta, s)|

from the loss (`malicious_gradient`), where s are the payload's numbers, such as gray
pixels. Whoever reads the released weights maps them linearly to the payload's range
(`attack`).

Departures:
- the paper maps each image's least and greatest weight to 0 and 255, which an outlier
  spoils. Here weights are standardized and given the mean and deviation that pixels of
  the same kind have, which the author of the training code knows;
- the paper's absolute value leaves the payload's sign open and it tries both. The
  training code can as well choose the sign: here the correlation itself is maximized.

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
      weight: of the correlation in the training loss (0.1 and 1 in the paper); 0 hides
        nothing. `attack` does not read it.
      mean: of the payload's numbers, known of others of their kind.
      deviation: their standard deviation.
    """

    weight: float | Array = 1.0
    mean: float | Array = 0.5
    deviation: float | Array = 0.25


def correlation(params: Any, values: Array) -> Array:
    """Pearson's correlation of the weights that carry `values` `[N]`, a scalar.

    Raises:
      ValueError: if there are more values than weights.
    """
    weights = carriers(params)
    require_capacity(values.shape[0], weights.shape[0], "values")
    return jnp.sum(
        _unit(weights[: values.shape[0]]) * _unit(jnp.asarray(values, jnp.float32))
    )


def malicious_gradient(
    values: Array, config: Config = Config()
) -> optax.GradientTransformation:
    """Adds the gradient of the correlation, to go before the optimizer in a chain."""
    return adding(lambda params: -config.weight * correlation(params, values))


def attack(
    key: Array, knowledge: TrainingPipeline, config: Config = Config()
) -> Payload:
    """Recovers numbers of the training data from weights correlated with them.

    Args:
      key: the key is consumed, though the method is deterministic.
      knowledge: the released model, whose weights are read.
      config: with the mean and deviation of such numbers.

    Returns:
      Numbers `[N]`; the margin is 0, as nothing tells how good each one is.

    Raises:
      ValueError: if the model has fewer than `knowledge.length` weights.
    """
    del key
    weights = carriers(knowledge.target.trained)
    require_capacity(knowledge.length, weights.shape[0], "values")
    used = _unit(weights[: knowledge.length]) * jnp.sqrt(float(knowledge.length))
    values = config.mean + config.deviation * used
    return Payload(values, jnp.zeros_like(values), jnp.zeros((), jnp.int32))


def _unit(x: Array) -> Array:
    """Centers a vector and scales it to unit length."""
    centered = x - jnp.mean(x)
    return centered * jax.lax.rsqrt(jnp.sum(centered**2) + 1e-20)
