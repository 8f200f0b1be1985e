"""NoPeek: features that depend little on the input, by distance correlation.

Vepakomma, Singh, Gupta, Raskar (2020). The first half of a split network is trained on

    loss + weight * dCor(inputs, features)

Guarantees nothing: the correlation is estimated from a batch, and a decoder may read
what it does not measure.

Departure from Titcombe et al. (2021), who measure NoPeek: their code has squared
distances; here they are Euclidean, as in the definition by Szekely et al.

References:
  Vepakomma, Singh, Gupta, Raskar. NoPeek: information leakage reduction to share
  activations in distributed deep learning. ICDMW 2020. arXiv:2008.09161.
  Szekely, Rizzo, Bakirov. Measuring and testing dependence by correlation of distances.
  Annals of Statistics 2007. doi:10.1214/009053607000000505.
"""

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense
from mijax.defenses import strength


def distance_correlation(x: Array, y: Array) -> Array:
    """Returns the distance correlation of pairs, in [0, 1]; 0 if one never varies.

    Args:
      x: `[B, ...]`.
      y: `[B, ...]`, of the same examples in the same order.

    Raises:
      ValueError: if there are not as many.
    """
    if x.shape[0] != y.shape[0]:
        raise ValueError(
            f"There are {x.shape[0]} inputs and {y.shape[0]} features: give pairs."
        )
    a, b = _centered(x), _centered(y)
    product = jnp.mean(a * a) * jnp.mean(b * b)
    varies = product > 0
    ratio = jnp.mean(a * b) / jnp.sqrt(jnp.where(varies, product, 1.0))
    positive = varies & (ratio > 0)
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, ratio, 1.0)), 0.0)


def nopeek(weight: float | Array) -> Defense:
    """Adds the distance correlation of inputs and features to the training loss.

    Raises:
      ValueError: if `weight` is negative.
    """
    weight = strength.non_negative("NoPeek's weight", weight)
    return Defense(dependence=Partial(_penalty, weight))


def _penalty(weight: Array, x: Array, features: Array) -> Array:
    return weight * distance_correlation(x, features)


def _centered(x: Array) -> Array:
    """Distances of all pairs `[B, B]`, with means of rows and columns taken off."""
    rows = x.reshape(x.shape[0], -1)
    squares = jnp.sum((rows[:, None] - rows[None]) ** 2, -1)
    apart = squares > 0  # The root has no slope at 0.
    distances = jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1.0)), 0.0)
    down = jnp.mean(distances, 0, keepdims=True)
    across = jnp.mean(distances, 1, keepdims=True)
    return distances - down - across + jnp.mean(distances)
