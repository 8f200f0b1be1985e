"""Noise on posteriors (Salem et al. 2020): an update's trace drowns in it.

Guarantees nothing: it hides differences of confidences that are smaller than it. The
same confidences are released with the same noise, so asking again averages nothing
away; the noise before and after an update is another.

Departure: after the noise, confidences are cut at 0 and scaled to sum to 1, so that
they are confidences still.

References:
  Salem, Bhattacharya, Backes, Fritz, Zhang. Updates-Leak: data set inference and
  reconstruction attacks in online learning. USENIX Security 2020. arXiv:1904.01067.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense
from mijax.defenses import seeding, strength


def posterior_noise(key: Array, deviation: float | Array) -> Defense:
    """Adds `N(0, deviation^2)` to each confidence of a posterior.

    Raises:
      ValueError: if `deviation` is negative.
    """
    deviation = strength.non_negative("The posterior noise's deviation", deviation)
    return Defense(output=Partial(_noised, key, deviation))


def _noised(key: Array, deviation: Array, scores: Array) -> Array:
    shape = scores.shape[1:]
    drawn = seeding.each(key, scores, lambda k: jax.random.normal(k, shape))
    noised = jnp.maximum(scores + deviation * drawn, 0.0)
    return noised / jnp.maximum(jnp.sum(noised, -1, keepdims=True), 1e-6)
