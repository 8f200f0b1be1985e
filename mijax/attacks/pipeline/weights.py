"""The weights that carry a payload: matrices and kernels, not biases or scales."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array


def carriers(params: Any) -> Array:
    """Returns all weights of two axes or more in one vector, `[L]`, as float32."""
    kept = [leaf for leaf in jax.tree.leaves(params) if jnp.ndim(leaf) > 1]
    if not kept:
        raise ValueError(
            "The model has no weights of two axes or more: only those carry a payload."
        )
    return jnp.concatenate([jnp.ravel(leaf).astype(jnp.float32) for leaf in kept])


def replaced(params: Any, values: Array) -> Any:
    """Returns `params` with `carriers` replaced by `values`, `[L]`."""
    leaves, structure = jax.tree.flatten(params)
    start, changed = 0, []
    for leaf in leaves:
        if jnp.ndim(leaf) > 1:
            part = values[start : start + leaf.size]
            start += leaf.size
            leaf = part.reshape(leaf.shape).astype(leaf.dtype)
        changed.append(leaf)
    return jax.tree.unflatten(structure, changed)


def require_capacity(needed: int, capacity: int, unit: str) -> None:
    """Raises a ValueError if a payload does not fit.

    Args:
      needed: the payload's length.
      capacity: the most that the model carries.
      unit: of both, such as "bits".
    """
    if needed < 1:
        raise ValueError(f"The payload has {needed} {unit}: give at least one.")
    if needed > capacity:
        raise ValueError(
            f"The payload has {needed:,} {unit} and the model carries {capacity:,}, "
            f"{needed - capacity:,} too few: shorten the payload or enlarge the model."
        )


def adding(objective: Callable[[Any], Array]) -> optax.GradientTransformation:
    """Returns a transformation that adds the gradient of `objective(params)`.

    In a chain before the optimizer it adds `objective` to the training loss.
    """

    def init(params: Any) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(jnp.add, updates, jax.grad(objective)(params)), state

    return optax.GradientTransformation(init, update)
