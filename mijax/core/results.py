"""What an attack returns, and how it chooses by nothing but its own loss."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mijax.core.pytrees import pytree


@pytree
class Reconstruction:
    """What an attack recovered.

    Attributes:
      x: the chosen reconstruction of each victim, `[V, H, W, C]`.
      loss: the attack's own objective there, `[V]`; restarts are chosen by it.
      candidates: all restarts, `[V, R, H, W, C]`.
      losses: their objectives, `[V, R]`.
      trace: the objective at each iteration, `[V, R, steps + 1]`.
      queries: how many examples a black box was asked about; 0 for a white box.
      labels: the classes recovered beside the images, where an attack does so; `[V, B]`
        for a shared update of B examples, whose `x` is then `[V, B, H, W, C]` and
        `candidates` `[V, R, B, H, W, C]`.
    """

    x: Array
    loss: Array
    candidates: Array
    losses: Array
    trace: Array
    queries: Array
    labels: Array | None = None


def choose(
    candidates: Array,
    losses: Array,
    trace: Array,
    queries: Array | int = 0,
    labels: Array | None = None,
    best: Array | None = None,
) -> Reconstruction:
    """Chooses each victim's restart by the attack's own loss; NaN cannot win.

    `labels` are those of all restarts, `[V, R, B]`; `best`, `[V]`, are the restarts
    that an attack's own rule chose otherwise.
    """
    if best is None:
        finite = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
        best = jnp.argmin(finite, axis=1)
    rows = jnp.arange(losses.shape[0])
    return Reconstruction(
        x=candidates[rows, best],
        loss=losses[rows, best],
        candidates=candidates,
        losses=losses,
        trace=trace,
        queries=jnp.asarray(queries, jnp.int32),
        labels=None if labels is None else labels[rows, best],
    )


@pytree
class Inference:
    """What an attack inferred of each victim's sensitive field.

    Attributes:
      guess: the value, as an index into the candidates, `[V]` int32; -1 where the
        adversary declares none.
      log_posterior: of the values, `[V, S]`, in nats; their probabilities sum to 1.
        An impossible value has the least finite number.
      queries: how many records a black box was asked about; 0 for a white box.
    """

    guess: Array
    log_posterior: Array
    queries: Array


def infer(
    log_joint: Array,
    log_prior: Array,
    queries: Array | int = 0,
    key: Array | None = None,
) -> Inference:
    """Guesses the likeliest value; evidence that excludes all of them is no evidence.

    Args:
      log_joint: of each value and what was observed, `[V, S]`, up to a constant for
        each victim. Where no value is possible, the posterior is the prior.
      log_prior: `[V, S]` or `[1, S]`.
      queries: how many were asked.
      key: breaks ties at random; without one the first of them wins.
    """
    # Values lead, so that sums over few of them vectorize over victims. Without the
    # barrier XLA puts them last again, which takes twice as long on CPU.
    joint = jax.lax.optimization_barrier(log_joint.T)
    best = jnp.max(joint, 0, keepdims=True)
    prior = log_prior.T - jnp.max(log_prior.T, 0, keepdims=True)
    joint = jnp.where(jnp.isfinite(best), joint - best, prior)  # The likeliest has 0.
    total = jnp.log(jnp.sum(jnp.exp(joint), 0, keepdims=True))
    if key is None:  # As argmax, which is a slow loop on CPU.
        size = joint.shape[0]
        left = np.arange(size, 0, -1, dtype=joint.dtype)[:, None]
        guess = size - jnp.max(jnp.where(joint == 0, left, 0), 0).astype(jnp.int32)
    else:
        rank = jax.random.uniform(key, joint.shape, minval=0.5)
        guess = jnp.argmax((joint == 0) * rank, 0).astype(jnp.int32)
    return Inference(
        guess=guess,
        log_posterior=jnp.maximum(joint - total, jnp.finfo(joint.dtype).min).T,
        queries=jnp.asarray(queries, jnp.int32),
    )
