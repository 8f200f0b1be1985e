"""Pruning: only the largest numbers of an update are shared.

Guarantees nothing but the number of values shared: those that are left are exact.

Departure: deep gradient compression adds what was held back to the next round's
update. Here it is dropped, as in the attacks' evaluations, so an adversary of one
round sees the same.

References:
  Lin et al. Deep gradient compression: reducing the communication bandwidth for
  distributed training. ICLR 2018. arXiv:1712.01887.
  Zhu, Liu, Han. Deep leakage from gradients. NeurIPS 2019. arXiv:1906.08935.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from mijax.core import concrete
from mijax.defenses import Defense


def prune(rate: float | Array) -> Defense:
    """Sets the smallest `rate` of all numbers of the update to zero.

    Of D numbers exactly `D - floor(rate * D)` are kept, the first of equal ones.

    Raises:
      ValueError: if `rate` is not in [0, 1].
    """
    _check(rate)

    def keep(updates: Any) -> Any:
        flat, unravel = ravel_pytree(updates)
        return unravel(_largest(flat, rate))

    return _stateless(keep)


def prune_layers(rate: float | Array) -> Defense:
    """Sets the smallest `rate` of each leaf of the update to zero.

    Raises:
      ValueError: if `rate` is not in [0, 1].
    """
    _check(rate)

    def keep(updates: Any) -> Any:
        return jax.tree.map(
            lambda leaf: _largest(leaf.ravel(), rate).reshape(leaf.shape), updates
        )

    return _stateless(keep)


def threshold(magnitude: float | Array) -> Defense:
    """Sets every number of the update that is smaller than `magnitude` to zero."""

    def keep(updates: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jnp.where(jnp.abs(leaf) >= magnitude, leaf, 0.0), updates
        )

    return _stateless(keep)


def _largest(x: Array, rate: float | Array) -> Array:
    exact = isinstance(rate, float | int)  # An array's product is rounded to float32.
    dropped = int(rate * x.size) if exact else jnp.floor(rate * x.size)
    largest_first = jnp.argsort(-jnp.abs(x), stable=True)
    kept = jnp.arange(x.size) < x.size - dropped
    return jnp.where(jnp.zeros(x.size, bool).at[largest_first].set(kept), x, 0)


def _stateless(keep: Any) -> Defense:
    return Defense(update=optax.stateless(lambda updates, params: keep(updates)))


def _check(rate: float | Array) -> None:
    value = concrete(jnp.asarray(rate))
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"The pruning rate is {rate}: it must lie in [0, 1].")
