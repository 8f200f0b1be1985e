"""Records scaled into the unit ball by what is public of their ranges.

Differentially private regressions need records of norm at most 1 and outcomes within
[-1, 1]. Where the ranges are read off the private data, their guarantees do not hold.
"""

import jax.numpy as jnp
from jax import Array

from mijax.core import pytree
from mijax.models.linear import Affine


@pytree
class PublicRange:
    """What everyone knows of each column and of the outcome.

    Attributes:
      low: `[D]`, the least value of each column.
      high: `[D]`, the greatest.
      least: of the outcome.
      greatest: of the outcome.
    """

    low: Array
    high: Array
    least: float | Array
    greatest: float | Array

    def records(self, x: Array) -> Array:
        """Returns rows `[N, D + 1]` of norm at most 1, the last column a constant."""
        span = self.high - self.low
        unit = (x - self.low[None]) / jnp.where(span > 0, span, 1.0)[None]
        unit = jnp.clip(unit, 0.0, 1.0)
        ones = jnp.ones((x.shape[0], 1))
        return jnp.concatenate([unit, ones], 1) / jnp.sqrt(x.shape[1] + 1.0)

    def outcomes(self, y: Array) -> Array:
        """Returns outcomes within [-1, 1]."""
        unit = 2 * (y - self.least) / (self.greatest - self.least) - 1
        return jnp.clip(unit, -1.0, 1.0)

    def linear(self, weights: Array) -> Affine:
        """Returns the model of plain records that `weights [D + 1]` are of scaled."""
        span = self.high - self.low
        size = jnp.sqrt(span.shape[0] + 1.0)
        half = (self.greatest - self.least) / 2
        slope = half * weights[:-1] / jnp.where(span > 0, span, 1.0) / size
        bias = half * (weights[-1] / size + 1) + self.least - slope @ self.low
        return Affine(slope[:, None], bias[None])
