"""A training of which the adversary knows all but one record, and its outcome."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mijax.core import pytree
from mijax.knowledge import validation


@pytree
class AllButOne:
    """Released weights, and those of shadow models.

    The adversary knows the training code, its initial weights and all records but one.
    So it can train the same model with a record of its own in place of the missing one:
    a shadow model.

    Attributes:
      released: the weights of V models, each of which missed another record; a tree of
        `[V, ...]`.
      shadows: the weights of M shadow models, a tree of `[M, ...]`.
      x: the record that each of them was trained with, `[M, *shape]`.
    """

    released: Any
    shadows: Any
    x: Array

    def check_shapes(self) -> None:
        """Raises ValueError if weights are of another architecture than the shadows."""
        released, shadows = (
            {
                jax.tree_util.keystr(path): jnp.shape(leaf)[1:]
                for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
            }
            for tree in (self.released, self.shadows)
        )
        if released != shadows:
            raise ValueError(
                f"The released weights are {released} and the shadow models' "
                f"{shadows}: train shadow models of the released architecture."
            )
        numbers = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(self.shadows)}
        if numbers != {self.x.shape[0]}:
            raise ValueError(
                f"There are {sorted(numbers)} shadow models and {self.x.shape[0]} "
                "records of theirs: give one record a model."
            )

    def check_values(self) -> None:
        """Raises ValueError if weights or records cannot be right."""
        self.check_shapes()
        validation.check_finite("The released weights", self.released)
        validation.check_finite("The shadow models' weights", self.shadows)
        validation.check_finite("The shadow models' records", self.x)
