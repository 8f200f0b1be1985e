"""Null cases: updates that say nothing of the victim, so that nothing can be found."""

from typing import Any

import jax
import jax.numpy as jnp


def others(update: Any) -> Any:
    """Each adversary gets the update of the client before, and is judged as ever."""
    return jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), update)


def zeros(update: Any) -> Any:
    """Updates of nothing but zeros."""
    return jax.tree.map(jnp.zeros_like, update)


CHANGES = {"none": None, "others": others, "zeros": zeros}
