"""Defenses: what changes at each place where a model meets its data.

A defense is a `Defense`; `chain` composes them, as `optax.chain` does, and `chain()`
is no defense.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import Array
from jax.tree_util import Partial

from mijax.core.networks import Prediction
from mijax.core.pytrees import pytree

Objective = Callable[[Prediction, Array], Array]


@pytree
class Defense:
    """One function for each place; None leaves that place alone.

    All of it is a pytree: a function with numbers is a `jax.tree_util.Partial`, or a
    `pytree` that can be called, and a plain function is structure. So a defense passes
    through `jax.jit` whole, a sweep over its strength is one compiled program, and
    `jax.vmap` takes an axis of its numbers.

    Attributes:
      objective: `(objective) -> objective`, where an objective is
        `(prediction, labels [B]) -> losses [B]`.
      example_gradient: `gradients [B, ...] -> gradients [B, ...]`, trees.
      update: an `optax.GradientTransformation` of what one client shares. As extra
        arguments it receives the `key` of its randomness, and the client's `target`,
        `x` and `labels`, for a defense that depends on the batch at hand.
      feature: `features [B, ...] -> features`, what crosses a split. A randomized one
        must send the same features with the same noise.
      dependence: `(inputs [B, ...], features [B, ...]) -> penalty`, added to the loss
        that a split network is trained on.
      output: `confidences [B, K] -> confidences [B, K]`, as released. A randomized
        one must answer the same confidences with the same noise.
    """

    objective: Callable[[Objective], Objective] | None = None
    example_gradient: Callable[[Any], Any] | None = None
    update: optax.GradientTransformationExtraArgs | None = None
    feature: Callable[[Array], Array] | None = None
    dependence: Callable[[Array, Array], Array] | None = None
    output: Callable[[Array], Array] | None = None

    def __post_init__(self) -> None:
        """Makes plain functions structure of the pytree."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, optax.GradientTransformation):
                init, update = optax.with_extra_args_support(value)
                value = optax.GradientTransformationExtraArgs(
                    _structure(init), _structure(update)
                )
            object.__setattr__(self, field.name, _structure(value))

    @property
    def places(self) -> tuple[str, ...]:
        """The names of the fields that are not None."""
        names = (field.name for field in dataclasses.fields(self))
        return tuple(name for name in names if getattr(self, name) is not None)


def chain(*defenses: Defense) -> Defense:
    """Composes defenses, the first one applied first; `chain()` is no defense."""
    combined = Defense()
    for defense in defenses:
        combined = Defense(
            objective=_both(combined.objective, defense.objective),
            example_gradient=_both(combined.example_gradient, defense.example_gradient),
            update=_both_updates(combined.update, defense.update),
            feature=_both(combined.feature, defense.feature),
            output=_both(combined.output, defense.output),
            dependence=_sum(combined.dependence, defense.dependence),
        )
    return combined


def _structure(value: Any) -> Any:
    is_leaf = jax.tree_util.treedef_is_leaf(jax.tree.structure(value))
    return Partial(value) if callable(value) and is_leaf else value


def _both(first: Any, then: Any) -> Any:
    if first is None or then is None:
        return then if first is None else first
    return Partial(_after, first, then)


def _after(first: Callable[[Any], Any], then: Callable[[Any], Any], x: Any) -> Any:
    return then(first(x))


def _sum(first: Any, then: Any) -> Any:
    if first is None or then is None:
        return then if first is None else first
    return Partial(_added, first, then)


def _added(first: Any, then: Any, x: Any, features: Any) -> Any:
    return first(x, features) + then(x, features)


def _both_updates(first: Any, then: Any) -> Any:
    if first is None or then is None:
        return then if first is None else first
    # `optax.chain` makes closures, which would hide the numbers from JAX.
    return optax.GradientTransformationExtraArgs(
        Partial(_init_both, first.init, then.init),
        Partial(_update_both, first.update, then.update),
    )


def _init_both(first: Any, then: Any, params: Any) -> Any:
    return first(params), then(params)


def _update_both(
    first: Any, then: Any, updates: Any, state: Any, params: Any = None, **extra: Any
) -> tuple[Any, Any]:
    updates, after_first = first(updates, state[0], params, **extra)
    updates, after_then = then(updates, state[1], params, **extra)
    return updates, (after_first, after_then)
