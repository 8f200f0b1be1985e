"""MID for deep networks: a bottleneck that tells little of the input.

Wang, Zhang, Jia (2021). The network draws z ~ N(mean, deviation^2) of each input and
predicts from z; training adds `weight * KL(N(mean, deviation^2) | N(0, 1))`, a bound on
the information of input and prediction.

Guarantees nothing of a single input: the bound is of the average, in nats, and only
while z is drawn; a model that is deployed with the means alone has none.

Its network is `mijax.models.variational.VariationalMLP`, or any whose features are
means and logarithms of deviations side by side.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense, Objective, Prediction
from mijax.defenses import strength


def mid(weight: float | Array) -> Defense:
    """Adds the divergence of the bottleneck from a standard normal to the loss.

    Raises:
      ValueError: if `weight` is negative; when used, if the network has no bottleneck.

    References:
      Wang, Zhang, Jia. Improving robustness to model inversion attacks via mutual
      information regularization. AAAI 2021. arXiv:2009.05241.
    """
    weight = strength.non_negative("MID's weight", weight)
    return Defense(objective=Partial(_regularized, weight))


def divergence(features: Array) -> Array:
    """Returns KL(N(mean, deviation^2) | N(0, 1)) in nats, `[B]`.

    Args:
      features: means and logarithms of deviations side by side, `[B, 2 F]`.
    """
    mean, log_deviation = jnp.split(features, 2, -1)
    spread = jnp.exp(2 * log_deviation)
    return 0.5 * jnp.sum(mean**2 + spread - 1 - 2 * log_deviation, -1)


def _regularized(weight: Array, objective: Objective) -> Any:
    return Partial(_loss, weight, objective)


def _loss(
    weight: Array, objective: Objective, prediction: Prediction, labels: Array
) -> Array:
    features = prediction.features
    if features is None or features.shape[-1] % 2:
        raise ValueError(
            "MID needs a network whose features are means and logarithms of "
            "deviations, such as mijax.models.variational.VariationalMLP."
        )
    return objective(prediction, labels) + weight * divergence(features)
