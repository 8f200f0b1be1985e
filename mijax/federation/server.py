"""What the server does with what its clients share: a round."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mijax.core import Defense, Target
from mijax.federation.client import Recipe, Update, share


def aggregate(
    recipe: Recipe,
    target: Target,
    change: Any,
    server_rate: float | Array | None = None,
    weights: Array | None = None,
) -> Target:
    """Returns the server's next model.

    Args:
      recipe: how clients train.
      target: the model that they trained.
      change: what they shared, leaves `[V, ...]`.
      server_rate: what the mean is multiplied by; by default the recipe's learning rate
        for gradients (FedSGD) and 1 for changes of weights (FedAvg).
      weights: of the clients in the mean, `[V]`, such as their numbers of examples;
        None for equal ones.
    """
    if recipe.local_steps == 0:
        rate = -(recipe.learning_rate if server_rate is None else server_rate)
    else:
        rate = 1.0 if server_rate is None else server_rate
    mean = jax.tree.map(lambda leaf: jnp.average(leaf, 0, weights), change)
    return target.with_trained(
        jax.tree.map(lambda w, m: w + rate * m, target.trained, mean)
    )


def round_of(
    key: Array,
    recipe: Recipe,
    target: Target,
    x: Array,
    labels: Array,
    defense: Defense = Defense(),
    server_rate: float | Array | None = None,
) -> tuple[Target, Update]:
    """Runs a round: the clients share, the server takes the mean.

    Arguments are those of `share` and `aggregate`; the key is consumed.

    Returns:
      The next model, and what was shared, leaves `[V, ...]`.
    """
    shared = share(key, recipe, target, x, labels, defense)
    return aggregate(recipe, target, shared.change, server_rate), shared
