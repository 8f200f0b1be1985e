"""All updates of DP-SGD, and an adversary who knows all records but one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mijax.core import concrete, pytree, static
from mijax.knowledge import validation


@pytree
class PrivateHistory:
    """All updates of V trainings with DP-SGD, and what the missing record may be.

    DP-SGD's guarantee is against an adversary who sees every update and knows every
    other record. Such an adversary subtracts their gradients, so that noise is left,
    and in the updates that the missing record took part in, its clipped gradient.

    Attributes:
      params: the weights before each update, a tree of `[V, T, ...]`.
      residual: each update's noisy sum less what the known records added, a tree of
        `[V, T, ...]`.
      candidates: records, one of which took part, a tree of `[n, ...]`; all are equally
        likely.
      gradient: `(params, record) -> clipped gradient`, a tree as `params`: the training
        code's.
      deviation: of the noise on each number of the sum.
      sampling: the probability with which the record takes part in an update.
    """

    params: Any
    residual: Any
    candidates: Any
    gradient: Callable[[Any, Any], Any] = static()
    deviation: float | Array = 1.0
    sampling: float | Array = 1.0

    def check_shapes(self) -> None:
        """Raises ValueError if updates do not fit, or a number is out of its range."""
        params, residual = (
            jax.tree.map(jnp.shape, tree) for tree in (self.params, self.residual)
        )
        if params != residual:
            raise ValueError(
                f"The updates are {residual} and the weights {params}: give one update "
                "for each weight."
            )
        deviation = concrete(jnp.asarray(self.deviation, float))
        if deviation is not None and not (deviation > 0).all():
            raise ValueError(
                f"deviation is {self.deviation}: it must be positive. Without noise "
                "the record is known for certain."
            )
        sampling = concrete(jnp.asarray(self.sampling, float))
        if sampling is not None and not ((sampling > 0) & (sampling <= 1)).all():
            raise ValueError(f"sampling is {self.sampling}: it must be in (0, 1].")

    def check_values(self) -> None:
        """Raises ValueError if weights, updates or records cannot be right."""
        self.check_shapes()
        validation.check_finite("The weights", self.params)
        validation.check_finite("The updates", self.residual)
        validation.check_finite("The candidates", self.candidates)
