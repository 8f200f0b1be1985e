"""Quantization: the numbers of an update are shared in few values.

Guarantees only the number of bits. `stochastic` is unbiased, so the average of many
rounds gives the gradient back; `sign` is not, and hides all magnitudes within a leaf.

References:
  Bernstein et al. signSGD: compressed optimisation for non-convex problems. ICML 2018.
  arXiv:1802.04434.
  Alistarh et al. QSGD: communication-efficient SGD via gradient quantization and
  encoding. NeurIPS 2017. arXiv:1610.02132.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense
from mijax.defenses import strength
from mijax.defenses.noise import randomized


def sign() -> Defense:
    """Shares each number's sign, times the mean magnitude of its leaf."""
    return strength.stateless(Partial(_sign))


def stochastic(levels: float | Array, seed: int | Array = 0) -> Defense:
    """Rounds each number up or down to a level, at random, right on average.

    Args:
      levels: steps from zero to the largest magnitude of a leaf. (QSGD scales by a
        leaf's Euclidean length; its largest magnitude is as easily sent and the
        variance smaller.)
      seed: see `noise.randomized`.

    Raises:
      ValueError: if `levels` is below 1 or not finite.
    """
    levels = strength.at_least_one("levels", levels)
    return randomized(Partial(_round_all, levels), seed)


def _sign(updates: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.sign(leaf) * jnp.mean(jnp.abs(leaf)), updates)


def _round_all(levels: Array, key: Array, updates: Any) -> Any:
    def quantize(leaf: Array, uniform: Array) -> Array:
        step = jnp.max(jnp.abs(leaf)) / levels.astype(leaf.dtype)
        scaled = leaf / jnp.where(step > 0, step, 1)
        return jnp.floor(scaled + uniform) * step

    uniform = optax.tree.random_like(key, updates, jax.random.uniform)
    return jax.tree.map(quantize, updates, uniform)
