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

from mijax.core import concrete
from mijax.defenses import Defense
from mijax.defenses.noise import randomized


def sign() -> Defense:
    """Shares each number's sign, times the mean magnitude of its leaf."""

    def quantize(leaf: Array) -> Array:
        return jnp.sign(leaf) * jnp.mean(jnp.abs(leaf))

    return Defense(
        update=optax.stateless(lambda updates, params: jax.tree.map(quantize, updates))
    )


def stochastic(levels: int | Array, seed: int | Array = 0) -> Defense:
    """Rounds each number up or down to a level, at random, right on average.

    Args:
      levels: steps from zero to the largest magnitude of a leaf. (QSGD scales by a
        leaf's Euclidean length; its largest magnitude is as easily sent and the
        variance smaller.)
      seed: see `noise.randomized`.

    Raises:
      ValueError: if `levels` is not positive.
    """
    value = concrete(jnp.asarray(levels))
    if value is not None and not value >= 1:
        raise ValueError(f"levels is {levels}: it must be 1 or more.")

    def quantize(uniform: Array, leaf: Array) -> Array:
        step = jnp.max(jnp.abs(leaf)) / levels
        scaled = leaf / jnp.where(step > 0, step, 1.0)
        return jnp.floor(scaled + uniform) * step

    def round_all(key: Array, updates: Any) -> Any:
        uniform = optax.tree.random_like(key, updates, jax.random.uniform)
        return jax.tree.map(quantize, uniform, updates)

    return randomized(round_all, seed)
