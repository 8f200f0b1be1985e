"""Noise on what is shared: Gaussian or Laplace, each number by itself.

Guarantees nothing alone: without a bound on what one example adds, no noise hides it
for certain, and an adversary who averages many rounds averages the noise away. Behind
`clipping`, Gaussian noise is the mechanism of differential privacy: see `dp_sgd`.

References:
  Zhu, Liu, Han. Deep leakage from gradients. NeurIPS 2019. arXiv:1906.08935.
  Wei et al. A framework for evaluating gradient leakage attacks in federated learning.
  ESORICS 2020. arXiv:2004.10397.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense, key_of
from mijax.defenses import strength

Change = Callable[[Array, Any], Any]


def gaussian(deviation: float | Array, seed: int | Array = 0) -> Defense:
    """Adds Gaussian noise to the update.

    Args:
      deviation: standard deviation of each number's noise.
      seed: see `randomized`.

    Raises:
      ValueError: if `deviation` is negative or not finite.
    """
    deviation = strength.non_negative("The noise's deviation", deviation)
    return randomized(Partial(_gaussian, deviation), seed)


def laplace(scale: float | Array, seed: int | Array = 0) -> Defense:
    """Adds Laplace noise to the update.

    Args:
      scale: of each number's noise; its standard deviation is sqrt(2) times that.
      seed: see `randomized`.

    Raises:
      ValueError: if `scale` is negative or not finite.
    """
    scale = strength.non_negative("The noise's scale", scale)
    return randomized(Partial(_laplace, scale), seed)


def _gaussian(deviation: Array, key: Array, updates: Any) -> Any:
    return _add(deviation, optax.tree.random_like(key, updates), updates)


def _laplace(scale: Array, key: Array, updates: Any) -> Any:
    drawn = optax.tree.random_like(key, updates, jax.random.laplace)
    return _add(scale, drawn, updates)


def _add(scale: Array, drawn: Any, updates: Any) -> Any:
    return jax.tree.map(
        lambda leaf, noise: leaf + (scale * noise).astype(leaf.dtype), updates, drawn
    )


class State(NamedTuple):
    """What the next update's randomness follows from."""

    key: Array


def randomized(change: Change, seed: int | Array) -> Defense:
    """Makes a defense of `(key, updates) -> updates`, random anew for each update.

    `change` is a pytree: a `jax.tree_util.Partial` of a function and its numbers.

    Its randomness follows from `seed`, an integer or a random key, from the number of
    updates before, and from optax's extra argument `key`, which distinguishes clients
    and rounds where one transformation serves them all. Give defenses that are chained
    different seeds, or they draw the same numbers.
    """
    return Defense(
        update=optax.GradientTransformationExtraArgs(
            Partial(_init, key_of(seed)), Partial(_update, change)
        )
    )


def _init(key: Array, params: Any) -> State:
    del params
    return State(key)


def _update(
    change: Change,
    updates: Any,
    state: Any,
    params: Any = None,
    *,
    key: Array | None = None,
    **extra: Any,
) -> tuple[Any, Any]:
    del params, extra
    after, now = jax.random.split(state.key)
    if key is not None:
        for word in jax.random.key_data(key).ravel():
            now = jax.random.fold_in(now, word)
    return change(now, updates), State(after)
