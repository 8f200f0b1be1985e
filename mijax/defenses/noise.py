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
import jax.numpy as jnp
import optax
from jax import Array

from mijax.core import concrete
from mijax.defenses import Defense

Change = Callable[[Array, Any], Any]


def gaussian(deviation: float | Array, seed: int | Array = 0) -> Defense:
    """Adds Gaussian noise to the update.

    Args:
      deviation: standard deviation of each number's noise.
      seed: see `randomized`.

    Raises:
      ValueError: if `deviation` is negative.
    """
    return _additive(jax.random.normal, deviation, seed)


def laplace(scale: float | Array, seed: int | Array = 0) -> Defense:
    """Adds Laplace noise to the update.

    Args:
      scale: of each number's noise; its standard deviation is sqrt(2) times that.
      seed: see `randomized`.

    Raises:
      ValueError: if `scale` is negative.
    """
    return _additive(jax.random.laplace, scale, seed)


def _additive(sampler: Any, scale: float | Array, seed: int | Array) -> Defense:
    value = concrete(jnp.asarray(scale))
    if value is not None and not value >= 0:
        raise ValueError(f"The noise's scale is {scale}: it must be 0 or more.")

    def add(key: Array, updates: Any) -> Any:
        drawn = optax.tree.random_like(key, updates, sampler)
        return optax.tree.add_scale(updates, scale, drawn)

    return randomized(add, seed)


class State(NamedTuple):
    """What the next update's randomness follows from."""

    key: Array


def randomized(change: Change, seed: int | Array) -> Defense:
    """Makes a defense of `(key, updates) -> updates`, random anew for each update.

    Its randomness follows from `seed`, an integer or a random key, from the number of
    updates before, and from optax's extra argument `key`, which tells clients and
    rounds apart where one transformation serves them all. Give defenses that are
    chained different seeds, or they draw the same numbers.
    """

    def init(params: Any) -> State:
        del params
        return State(jax.random.key(seed) if not _is_key(seed) else jnp.asarray(seed))

    def update(
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

    return Defense(update=optax.GradientTransformationExtraArgs(init, update))


def _is_key(seed: int | Array) -> bool:
    return isinstance(seed, Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)
