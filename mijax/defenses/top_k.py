"""Truncation: only the largest confidences are released, the others as 0.

Guarantees nothing: a decoder that was trained on truncated confidences reads much of
an input from the few that are left.
"""

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense, concrete
from mijax.defenses import strength


def top_k(number: float | Array) -> Defense:
    """Releases the `number` largest confidences; of equal ones, the first classes'.

    Where the number is not traced, asking about fewer classes than it raises.

    Raises:
      ValueError: if `number` is not 1 or more.

    References:
      Yang, Zhang, Chang, Liang. Neural network inversion in adversarial setting via
      background knowledge alignment. CCS 2019. doi:10.1145/3319535.3354261.
    """
    number = strength.at_least_one("The number of classes", number)
    return Defense(output=Partial(_largest, number))


def _largest(number: Array, scores: Array) -> Array:
    kept = concrete(number)
    if kept is not None and kept.max() > scores.shape[-1]:
        raise ValueError(
            f"The {kept.max():g} largest confidences are to be released but there are "
            f"{scores.shape[-1]} classes: give a number from 1 to that."
        )
    order = jnp.argsort(-scores, axis=-1, stable=True)
    rank = jnp.argsort(order, axis=-1, stable=True)
    return jnp.where(rank < number, scores, 0.0)
