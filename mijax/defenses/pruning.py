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

from mijax.defenses import Defense


def prune(rate: float) -> Defense:
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


def prune_layers(rate: float) -> Defense:
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


def _largest(x: Array, rate: float) -> Array:
    kept = x.size - int(rate * x.size)
    _, places = jax.lax.top_k(jnp.abs(x), kept)
    return jnp.zeros_like(x).at[places].set(x[places])


def _stateless(keep: Any) -> Defense:
    return Defense(update=optax.stateless(lambda updates, params: keep(updates)))


def _check(rate: float) -> None:
    if not 0 <= rate <= 1:
        raise ValueError(f"The pruning rate is {rate}: it must lie in [0, 1].")
