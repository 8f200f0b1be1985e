"""How far one update is from another: `(update, update) -> scalar`, trees alike.

`between` measures it for every victim and restart, through the very function that the
victims ran.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mijax.federation import Update, client_update
from mijax.knowledge import SharedUpdate

Distance = Callable[[Any, Any], Array]

_TINY = 1e-30


def _products(a: Any, b: Any) -> Array:
    return jnp.sum(jnp.stack(jax.tree.leaves(jax.tree.map(_product, a, b))))


def _product(a: Array, b: Array) -> Array:
    return jnp.sum(_wide(a) * _wide(b))


def _wide(leaf: Array) -> Array:
    """Half precision as float32: its sums would lose what distances are made of."""
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def squared(update: Any, observed: Any) -> Array:
    """The squared Euclidean distance, DLG's."""
    difference = jax.tree.map(lambda a, b: _wide(a) - _wide(b), update, observed)
    return _products(difference, difference)


def cosine(update: Any, observed: Any) -> Array:
    """One minus the cosine of the angle between all parameters, Geiping's."""
    return 1 - _products(update, observed) / (length(update) * length(observed))


def length(update: Any) -> Array:
    """The Euclidean length of all parameters; above 0."""
    return jnp.sqrt(jnp.maximum(_products(update, update), _TINY))


def as_shared(update: Any, observed: Any) -> Any:
    """Returns an update without the leaves that the observed one withholds."""
    return jax.tree.map(
        lambda o, u: None if o is None else u,
        observed,
        update,
        is_leaf=lambda leaf: leaf is None,
    )


def between(
    knowledge: SharedUpdate, x: Array, labels: Array, distance: Distance
) -> tuple[Array, Update]:
    """Returns how far the updates of guessed batches are from the observed ones.

    Args:
      knowledge: of V victims.
      x: guesses `[V, R, B, *shape]`.
      labels: classes `[V, R, B]`, or distributions over them `[V, R, B, K]`.
      distance: one of this module.

    Returns:
      Distances `[V, R]`, and the updates of the guesses, leaves `[V, R, ...]`.
    """

    def one(x: Array, labels: Array, observed: Any) -> tuple[Array, Update]:
        update = client_update(knowledge.recipe, knowledge.target, x, labels)
        return distance(as_shared(update.change, observed), observed), update

    of_restarts = jax.vmap(one, (0, 0, None))
    return jax.vmap(of_restarts)(x, labels, knowledge.update)
