"""Limited-memory BFGS over many independent problems, as PyTorch runs it."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mijax.search.descent import SearchResult, ValueAndGradient


class _State(NamedTuple):
    """The state of `lbfgs`: P problems of D dimensions, M pairs remembered."""

    x: Array  # [P, D]
    gradient: Array  # [P, D]
    loss: Array  # [P]
    previous_gradient: Array  # [P, D]
    previous_step: Array  # [P, D]
    started: Array  # [P]
    active: Array  # [P]
    steps_history: Array  # [M, P, D]
    gradient_changes: Array  # [M, P, D]
    inverse_curvatures: Array  # 1 / (step . change), 0 without a pair, [M, P]
    scale: Array  # of the first guess of the inverse Hessian, [P]
    pairs: Array  # how many were written, the same for all problems
    best: Array  # [P, D]
    best_loss: Array  # [P]
    aux: Any


def lbfgs(
    value_and_gradient: ValueAndGradient,
    x: Any,
    *,
    steps: int,
    inner: int = 20,
    history: int = 100,
    learning_rate: float | Array = 1.0,
    tolerance_gradient: float | Array = 1e-7,
    tolerance_change: float | Array = 1e-9,
    aux: Any = None,
) -> SearchResult:
    """Minimizes by limited-memory BFGS as `torch.optim.LBFGS` does without line search.

    That is what attacks on gradients were published with. Each of the `steps` is one
    `optimizer.step(closure)`: up to `inner` iterations, cut short where gradient, step
    or change of the loss fall below their tolerance. Problems are independent: those
    that are done, or whose loss is no longer finite, wait for the others.

    Departure: the ring of pairs has one index for all problems, so that a pair that is
    skipped for its curvature still takes a place in the history.

    Args:
      value_and_gradient: `(x, aux) -> (losses [*N], gradients, aux)`, as in `descend`,
        of a deterministic objective.
      x: the initial iterate, leaves `[*N, ...]`.
      steps: how many times up to `inner` iterations.
      inner: PyTorch's `max_iter`.
      history: pairs of steps and gradients that are remembered.
      learning_rate: the length of a step; the first is that times `min(1, 1 / |g|_1)`.
      tolerance_gradient: a problem with no larger component is done.
      tolerance_change: of steps, losses, and the slope along a step.
      aux: the initial auxiliary state.

    Returns:
      `SearchResult`, whose `trace` `[*N, steps + 1]` holds the loss before each of the
      `steps`, and the last.

    Raises:
      ValueError: if `steps` is negative, or `inner` or `history` not positive.

    References:
      Liu, Nocedal. On the limited memory BFGS method for large scale optimization.
      1989. doi:10.1007/BF01589116.
    """
    if steps < 0:
        raise ValueError(f"steps is {steps}: it must be 0 or more.")
    if min(inner, history) < 1:
        raise ValueError(
            f"inner is {inner} and history {history}: both must be 1 or more."
        )
    shape = jax.eval_shape(value_and_gradient, x, aux)[0].shape
    flat, restore = _flat(x, len(shape))

    def evaluate(x: Array, aux: Any) -> tuple[Array, Array, Any]:
        losses, gradients, aux = value_and_gradient(restore(x), aux)
        return losses.reshape(-1), _flat(gradients, len(shape))[0], aux

    def iterate(state: _State) -> _State:
        change = state.gradient - state.previous_gradient
        curvature = jnp.sum(change * state.previous_step, 1)
        useful = state.active & state.started & (curvature > 1e-10)
        slot = state.pairs % history
        written = state._replace(
            steps_history=state.steps_history.at[slot].set(
                jnp.where(useful[:, None], state.previous_step, 0)
            ),
            gradient_changes=state.gradient_changes.at[slot].set(
                jnp.where(useful[:, None], change, 0)
            ),
            inverse_curvatures=state.inverse_curvatures.at[slot].set(
                jnp.where(useful, 1 / curvature, 0)
            ),
            scale=jnp.where(useful, curvature / jnp.sum(change**2, 1), state.scale),
            pairs=state.pairs + 1,
        )
        direction = _newton_direction(written, history)
        first = jnp.minimum(1.0, 1.0 / jnp.sum(jnp.abs(state.gradient), 1))
        length = learning_rate * jnp.where(state.started, 1.0, first)
        slopes = jnp.sum(direction * state.gradient, 1)
        moving = state.active & (slopes <= -tolerance_change)
        step = length[:, None] * direction
        x = jnp.where(moving[:, None], state.x + step, state.x)
        loss, gradient, aux = evaluate(x, state.aux)
        loss = jnp.where(moving, loss, state.loss)
        gradient = jnp.where(moving[:, None], gradient, state.gradient)
        better = jnp.isfinite(loss) & (loss < state.best_loss)
        done = (
            (jnp.max(jnp.abs(gradient), 1) <= tolerance_gradient)
            | (jnp.max(jnp.abs(step), 1) <= tolerance_change)
            | (jnp.abs(loss - state.loss) < tolerance_change)
            | ~jnp.isfinite(loss)
        )
        return written._replace(
            x=x,
            gradient=gradient,
            loss=loss,
            previous_gradient=jnp.where(
                state.active[:, None], state.gradient, state.previous_gradient
            ),
            previous_step=jnp.where(state.active[:, None], step, state.previous_step),
            started=state.started | state.active,
            active=moving & ~done,
            best=jnp.where(better[:, None], x, state.best),
            best_loss=jnp.where(better, loss, state.best_loss),
            aux=aux,
        )

    def body(state: _State, _: Any) -> tuple[_State, Array]:
        wants = jnp.max(jnp.abs(state.gradient), 1) > tolerance_gradient
        state = state._replace(active=wants & jnp.isfinite(state.loss))
        after, _ = lax.while_loop(
            lambda loop: (loop[1] < inner) & jnp.any(loop[0].active),
            lambda loop: (iterate(loop[0]), loop[1] + 1),
            (state, 0),
        )
        return after, state.loss

    loss, gradient, aux = evaluate(flat, aux)
    problems = flat.shape[0]
    none = jnp.zeros((problems,), bool)
    remembered = jnp.zeros((history, *flat.shape), flat.dtype)
    state = _State(
        flat,
        gradient,
        loss,
        previous_gradient=jnp.zeros_like(flat),
        previous_step=jnp.zeros_like(flat),
        started=none,
        active=none,
        steps_history=remembered,
        gradient_changes=remembered,
        inverse_curvatures=jnp.zeros((history, problems), flat.dtype),
        scale=jnp.ones((problems,), flat.dtype),
        pairs=jnp.zeros((), jnp.int32),
        best=flat,
        best_loss=jnp.where(jnp.isfinite(loss), loss, jnp.inf),
        aux=aux,
    )
    state, trace = lax.scan(body, state, length=steps)
    trace = jnp.concatenate([trace, state.loss[None]]).T
    return SearchResult(
        restore(state.best),
        state.best_loss.reshape(shape),
        restore(state.x),
        trace.reshape(*shape, steps + 1),
        state.aux,
    )


def _newton_direction(state: _State, history: int) -> Array:
    """The two loops of L-BFGS over all problems, newest pairs first, `[P, D]`."""
    filled = jnp.minimum(state.pairs, history)

    def older(i: Array, loop: tuple[Array, Array]) -> tuple[Array, Array]:
        direction, shares = loop
        slot = (state.pairs - 1 - i) % history
        share = state.inverse_curvatures[slot] * jnp.sum(
            state.steps_history[slot] * direction, 1
        )
        direction = direction - share[:, None] * state.gradient_changes[slot]
        return direction, shares.at[slot].set(share)

    def newer(i: Array, loop: tuple[Array, Array]) -> tuple[Array, Array]:
        direction, shares = loop
        slot = (state.pairs - filled + i) % history
        share = state.inverse_curvatures[slot] * jnp.sum(
            state.gradient_changes[slot] * direction, 1
        )
        direction = (
            direction + (shares[slot] - share)[:, None] * state.steps_history[slot]
        )
        return direction, shares

    loop = -state.gradient, jnp.zeros_like(state.inverse_curvatures)
    direction, shares = lax.fori_loop(0, filled, older, loop)
    loop = state.scale[:, None] * direction, shares
    return lax.fori_loop(0, filled, newer, loop)[0]


def _flat(x: Any, axes: int) -> tuple[Array, Callable[[Array], Any]]:
    """Flattens leaves `[*N, ...]` to `[P, D]`, and says how to undo that."""
    leaves, tree = jax.tree.flatten(x)
    sizes = [math.prod(leaf.shape[axes:]) for leaf in leaves]
    problems = math.prod(leaves[0].shape[:axes])
    flat = [
        leaf.reshape(problems, size) for leaf, size in zip(leaves, sizes, strict=True)
    ]

    def restore(flat: Array) -> Any:
        ends = list(itertools.accumulate(sizes))[:-1]
        parts = jnp.split(flat, ends, 1)
        shaped = [
            part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)
        ]
        return jax.tree.unflatten(tree, shaped)

    return jnp.concatenate(flat, 1), restore
