"""Prior-aware adversary: which of n candidates took part in DP-SGD.

Hayes, Mahloujifar, Balle (2023). The adversary sees every noisy update, subtracts what
the records that it knows added, and compares what is left, r_t, with the clipped
gradient g_t(z) that each candidate z would have added. Its success is what
`mijax.defenses.dp_sgd.reconstruction_bound` bounds.

Departure: the paper sums the inner products <g_t(z), r_t>. Here the candidates' whole
likelihood is computed,

    sum_t log(1 - q + q exp((<g_t(z), r_t> - |g_t(z)|^2 / 2) / s^2)),

with q the sampling probability and s the noise's deviation: the posterior is exact, so
no adversary of this knowledge does better. For q = 1 and gradients of equal length both
choose the same candidate.

References:
  Hayes, Mahloujifar, Balle. Bounding training data reconstruction in DP-SGD. NeurIPS
  2023. arXiv:2302.07225.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mijax import core
from mijax.core import pytree
from mijax.knowledge.private_history import PrivateHistory


@pytree
class Config:
    """The method has no hyper-parameters: all numbers are knowledge."""


def attack(
    key: Array, knowledge: PrivateHistory, config: Config = Config()
) -> core.Inference:
    """Recovers which candidate is the record that the adversary does not know.

    Args:
      key: the key is consumed; the method itself is deterministic.
      knowledge: all updates, and the candidates.
      config: none.

    Returns:
      The posterior of the candidates, `[V, n]`.

    Raises:
      ValueError: if updates do not fit weights, or the noise is not positive.
    """
    del key, config
    knowledge.check_shapes()
    variance = jnp.asarray(knowledge.deviation, jnp.float32) ** 2
    taken = jnp.log(jnp.asarray(knowledge.sampling, jnp.float32))
    left = jnp.log1p(-jnp.asarray(knowledge.sampling, jnp.float32))

    def one(params: Any, residual: Any, candidate: Any) -> Array:
        gradient = knowledge.gradient(params, candidate)
        evidence = _dot(gradient, residual) - 0.5 * _dot(gradient, gradient)
        return jnp.logaddexp(left, taken + evidence / variance)

    def update(total: Array, now: Any) -> tuple[Array, None]:
        params, residual = now
        return total + jax.vmap(lambda z: one(params, residual, z))(
            knowledge.candidates
        ), None

    number = jax.tree.leaves(knowledge.candidates)[0].shape[0]

    def victim(history: Any) -> Array:
        return jax.lax.scan(update, jnp.zeros(number), history)[0]

    log_joint = jax.lax.map(victim, (knowledge.params, knowledge.residual))
    return core.infer(log_joint, jnp.full((1, number), -jnp.log(number)))


def _dot(a: Any, b: Any) -> Array:
    products = jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)
    return jnp.sum(jnp.stack(jax.tree.leaves(products)))
