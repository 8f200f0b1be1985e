"""Defenses: what changes at each place where a model meets its data.

A defense is a `Defense`; `chain` composes them, as `optax.chain` does, and `chain()`
is no defense. Each file here holds one; its docstring says what it guarantees.
"""

from collections.abc import Callable
from typing import Any

import optax
from jax import Array
from jax.tree_util import Partial

from mijax.core import Prediction, pytree, static

Objective = Callable[[Prediction, Array], Array]


@pytree
class Defense:
    """One function for each place; None leaves that place alone.

    All but `update` are pytrees (a `jax.tree_util.Partial` of a function and its
    numbers), so that a sweep over a defense's strength is one compiled program.

    Attributes:
      objective: `(objective) -> objective`, where an objective is
        `(prediction, labels [B]) -> losses [B]`.
      example_gradient: `gradients [B, ...] -> gradients [B, ...]`, trees.
      update: an `optax.GradientTransformation` of what is shared.
      feature: `features [B, ...] -> features`, what crosses a split.
      output: `confidences [B, K] -> confidences [B, K]`, as released. A randomized
        one must answer the same confidences with the same noise.
    """

    objective: Callable[[Objective], Objective] | None = None
    example_gradient: Callable[[Any], Any] | None = None
    update: optax.GradientTransformation | None = static(default=None)
    feature: Callable[[Array], Array] | None = None
    output: Callable[[Array], Array] | None = None


def _after(first: Callable[[Any], Any], then: Callable[[Any], Any], x: Any) -> Any:
    return then(first(x))


def _both(first: Any, then: Any) -> Any:
    if first is None or then is None:
        return then if first is None else first
    return Partial(_after, first, then)


def chain(*defenses: Defense) -> Defense:
    """Composes defenses, the first one applied first; `chain()` is no defense."""
    combined = Defense()
    for defense in defenses:
        if combined.update is None or defense.update is None:
            update = combined.update or defense.update
        else:
            update = optax.chain(combined.update, defense.update)
        combined = Defense(
            objective=_both(combined.objective, defense.objective),
            example_gradient=_both(combined.example_gradient, defense.example_gradient),
            update=update,
            feature=_both(combined.feature, defense.feature),
            output=_both(combined.output, defense.output),
        )
    return combined
