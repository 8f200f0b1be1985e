"""Explained answers: a query that returns confidences, and what in the image gave them.

An explanation is a map of the image's shape. It is meant for people, and tells an
adversary of the input what the confidences do not.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array

from mijax.core import Target, pytree
from mijax.knowledge import validation
from mijax.knowledge.black_box import BlackBox, Oracle, _Confidences

Explain = Callable[[Target, Array], Array]


def gradient(target: Target, x: Array) -> Array:
    """Returns the slope of the likeliest class's logit in each pixel, `[B, *shape]`."""

    def likeliest(x: Array) -> Array:
        return jnp.sum(jnp.max(target.predict(x).logits, -1))

    return jax.grad(likeliest)(x)


def gradient_times_input(target: Target, x: Array) -> Array:
    """Returns that slope times the pixel: to first order, what the pixel adds."""
    return gradient(target, x) * x


@pytree
class Explained(BlackBox):
    """A query that returns confidences and an explanation of each: make one with `of`.

    Attributes:
      observed: confidences that were released of each victim's private input, `[V, K]`.
      explanations: that were released with them, `[V, *shape]`.
    """

    observed: Array | None = None
    explanations: Array | None = None

    @classmethod
    def of(  # type: ignore[override]
        cls,
        target: Target,
        labels: Array,
        explain: Explain = gradient_times_input,
        *,
        release: Callable[[Array], Array] | None = None,
        budget: int | None = None,
        **auxiliary: Any,
    ) -> Self:
        """Hides a target behind its answers and their explanations.

        Args:
          target: the model.
          labels: `[V]`.
          explain: the explanation, `(target, x [B, *shape]) -> [B, *shape]`.
          release: what a defense does to the confidences, such as `Defense.output`; the
            explanation is of the undefended ones.
          budget: how many examples may be asked about.
          **auxiliary: `public`, `observed`, `explanations`.
        """
        hidden = target, release
        oracle = Oracle(_Explains(explain), hidden, target.shape, target.num_classes)
        return cls(oracle, labels, 0, budget, **auxiliary)

    def check_values(self) -> None:
        """Raises ValueError if labels, images or answers cannot be right."""
        super().check_values()
        validation.check_finite("The observed confidences", self.observed)
        validation.check_finite("The observed explanations", self.explanations)

    def query(self, x: Array) -> tuple[Array, Array, Self]:
        """Asks about images `[B, *shape]`.

        Returns:
          Confidences `[B, K]`, explanations `[B, *shape]`, and the knowledge with the
          queries counted.

        Raises:
          ValueError: if the images are of another shape.
          RuntimeError: when run, if the budget does not allow it.
        """
        answer, asked = self._ask(x)
        scores, maps = jnp.split(answer, [self.num_classes], axis=1)
        return scores, maps.reshape(x.shape), asked


@dataclasses.dataclass(frozen=True)
class _Explains(_Confidences):
    """Confidences, and behind them the explanation's pixels."""

    explain: Explain

    def __call__(self, hidden: Any, x: Array) -> Array:
        target, _ = hidden
        maps = self.explain(target, x)
        return jnp.concatenate(
            [super().__call__(hidden, x), maps.reshape(len(x), -1)], 1
        )
