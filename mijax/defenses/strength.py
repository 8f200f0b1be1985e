"""Strengths of defenses: checked by name, and carried to where they act."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense, concrete


def positive(name: str, given: float | Array) -> Array:
    """Returns a strength above 0 as an array, or refuses it by its name."""
    return _checked(name, given, lambda value: value > 0, "above 0 and finite")


def non_negative(name: str, given: float | Array) -> Array:
    """Returns a strength of 0 or more as an array, or refuses it by its name."""
    return _checked(name, given, lambda value: value >= 0, "0 or more, and finite")


def at_least_one(name: str, given: float | Array) -> Array:
    """Returns a number of 1 or more as an array, or refuses it by its name."""
    return _checked(
        name,
        given,
        lambda value: (value >= 1) & (value == np.floor(value)),
        "1 or more, whole and finite",
    )


def share(name: str, given: float | Array) -> Array:
    """Returns a strength within [0, 1] as an array, or refuses it by its name."""
    return _checked(name, given, lambda value: (value >= 0) & (value <= 1), "in [0, 1]")


def _checked(
    name: str,
    given: float | Array,
    holds: Callable[[np.ndarray], Any],
    range_: str,
) -> Array:
    if isinstance(given, Array) and concrete(given) is None:
        return jnp.asarray(given, float)  # Traced.
    try:
        with np.errstate(over="ignore"):  # In the precision that it acts in.
            numbers = np.asarray(given, float).astype(jnp.result_type(float))
    except (TypeError, ValueError, OverflowError):
        numbers = np.asarray(np.nan)
    if not numbers.size or not np.all(holds(numbers) & np.isfinite(numbers)):
        raise ValueError(f"{name} is {given!s:.80}: it must be {range_}.")
    return jnp.asarray(numbers)


def number_of(rate: float | Array, size: int) -> Array:
    """Returns `floor(rate * size)`, but for the rounding of `rate` itself.

    .29 of 100 are 29, although the nearest float to .29 is a little less. Of more than
    four million the answer may be off by one, as float32 is.
    """
    product = jnp.asarray(rate, jnp.float32) * size
    nearest = jnp.round(product)
    rounding = 2 * jnp.finfo(jnp.float32).eps * product
    return jnp.where(
        jnp.abs(product - nearest) <= rounding, nearest, jnp.floor(product)
    )


def stateless(change: Callable[[Any], Any]) -> Defense:
    """Makes a defense of `updates -> updates`, a pytree, that remembers nothing."""
    return Defense(
        update=optax.GradientTransformationExtraArgs(
            Partial(no_state), Partial(_apply, change)
        )
    )


def no_state(params: Any) -> optax.EmptyState:
    """Starts a transformation that remembers nothing."""
    del params
    return optax.EmptyState()


def _apply(
    change: Callable[[Any], Any],
    updates: Any,
    state: Any,
    params: Any = None,
    **extra: Any,
) -> tuple[Any, Any]:
    del params, extra
    return change(updates), state
