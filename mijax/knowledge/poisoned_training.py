"""A regression whose training data the adversary may add to."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import Array

from mijax.core import Target, concrete, pytree, static
from mijax.knowledge import validation
from mijax.knowledge.partial_record import Candidates


@pytree
class PoisonedTraining:
    """Rows to draw on, how many may be added to the training, and what comes of it.

    Attributes:
      x: records of the adversary's own, of the same population as those of the
        training, `[N, D]`.
      y: their outcomes, `[N]`.
      candidates: what may stand in the victims' sensitive field.
      penalty: of the trainer's ridge regression, per row: `models.linear.ridge`'s.
      learn: `(x [P, D], y [P]) -> (target, outputs [V])`: the world, which trains with
        the poison added and returns the model and its output of each victim. The
        victims' records stay in its closure.
      rows: P, how many rows may be added.
      size: how many rows the training has without them; None for as many as `x`.
    """

    x: Array
    y: Array
    candidates: Candidates
    penalty: float | Array
    learn: Callable[[Array, Array], tuple[Target, Any]] = static()
    rows: int = static()
    size: float | Array | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if no row may be added."""
        if self.rows < 1:
            raise ValueError(f"rows is {self.rows}: poison takes at least one.")

    def check_values(self) -> None:
        """Raises ValueError if records or outcomes cannot be right."""
        self.candidates.check_values()
        validation.check_finite("The adversary's records", self.x)
        validation.check_finite("The adversary's outcomes", self.y)
        outcomes = concrete(self.y)
        if outcomes is not None and np.ptp(outcomes) == 0:
            raise ValueError(
                f"All outcomes are {outcomes.flat[0]}: there is nothing to regress."
            )
