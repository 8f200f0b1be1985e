"""Limited-memory BFGS over many independent problems, as PyTorch runs it."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mijax.search.descent import Found, Slope


class _Newton(NamedTuple):
    """The state of `lbfgs`: P problems of D dimensions, M pairs remembered."""

    x: Array  # [P, D]
    gradient: Array  # [P, D]
    loss: Array  # [P]
    before: Array  # the gradient before, [P, D]
    moved: Array  # the last step, [P, D]
    started: Array  # [P]
    active: Array  # [P]
    steps: Array  # [M, P, D]
    bends: Array  # changes of gradients, [M, P, D]
    weights: Array  # 1 / (step . bend), 0 where there is no pair, [M, P]
    scale: Array  # of the first guess of the inverse Hessian, [P]
    pairs: Array  # how many were written, the same for all problems
    best: Array  # [P, D]
    least: Array  # [P]
    carried: Any


def lbfgs(
    key: Array,
    slope: Slope,
    x: Any,
    *,
    steps: int,
    inner: int = 20,
    history: int = 100,
    learning_rate: float | Array = 1.0,
    tolerance_gradient: float | Array = 1e-7,
    tolerance_change: float | Array = 1e-9,
    carried: Any = None,
) -> Found:
    """Minimizes by limited-memory BFGS as `torch.optim.LBFGS` does without line search.

    That is what attacks on gradients were published with. Each of the `steps` is one
    `optimizer.step(closure)`: up to `inner` iterations, cut short where gradient, step
    or change of the loss fall below their tolerance. Problems are independent: those
    that are done, or whose loss is no longer finite, wait for the others.

    Departure: the ring of pairs has one index for all problems, so that a pair that is
    skipped for its curvature still takes a place in the history.

    Args:
      key: passed to `slope` at each evaluation: an objective that draws must draw the
        same; the key is consumed.
      slope: as in `descend`.
      x: where to start, leaves `[*N, ...]`.
      steps: how many times up to `inner` iterations.
      inner: PyTorch's `max_iter`.
      history: pairs of steps and gradients that are remembered.
      learning_rate: the length of a step; the first is that times `min(1, 1 / |g|_1)`.
      tolerance_gradient: a problem with no larger component is done.
      tolerance_change: of steps, losses, and the slope along a step.
      carried: the first value of what the slope carries.

    Returns:
      `Found`, whose `trace` `[steps + 1, *N]` holds the loss before each of the
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
    shape = jax.eval_shape(slope, key, x, carried)[0].shape
    flat, restore = _flat(x, len(shape))

    def evaluate(x: Array, carried: Any) -> tuple[Array, Array, Any]:
        losses, gradients, carried = slope(key, restore(x), carried)
        return losses.reshape(-1), _flat(gradients, len(shape))[0], carried

    def iterate(state: _Newton) -> _Newton:
        bend = state.gradient - state.before
        curvature = jnp.sum(bend * state.moved, 1)
        useful = state.active & state.started & (curvature > 1e-10)
        slot = state.pairs % history
        written = state._replace(
            steps=state.steps.at[slot].set(jnp.where(useful[:, None], state.moved, 0)),
            bends=state.bends.at[slot].set(jnp.where(useful[:, None], bend, 0)),
            weights=state.weights.at[slot].set(jnp.where(useful, 1 / curvature, 0)),
            scale=jnp.where(useful, curvature / jnp.sum(bend**2, 1), state.scale),
            pairs=state.pairs + 1,
        )
        direction = _newton_direction(written, history)
        first = jnp.minimum(1.0, 1.0 / jnp.sum(jnp.abs(state.gradient), 1))
        length = learning_rate * jnp.where(state.started, 1.0, first)
        slopes = jnp.sum(direction * state.gradient, 1)
        moving = state.active & (slopes <= -tolerance_change)
        moved = length[:, None] * direction
        x = jnp.where(moving[:, None], state.x + moved, state.x)
        loss, gradient, carried = evaluate(x, state.carried)
        loss = jnp.where(moving, loss, state.loss)
        gradient = jnp.where(moving[:, None], gradient, state.gradient)
        better = jnp.isfinite(loss) & (loss < state.least)
        done = (
            (jnp.max(jnp.abs(gradient), 1) <= tolerance_gradient)
            | (jnp.max(jnp.abs(moved), 1) <= tolerance_change)
            | (jnp.abs(loss - state.loss) < tolerance_change)
            | ~jnp.isfinite(loss)
        )
        return written._replace(
            x=x,
            gradient=gradient,
            loss=loss,
            before=jnp.where(state.active[:, None], state.gradient, state.before),
            moved=jnp.where(state.active[:, None], moved, state.moved),
            started=state.started | state.active,
            active=moving & ~done,
            best=jnp.where(better[:, None], x, state.best),
            least=jnp.where(better, loss, state.least),
            carried=carried,
        )

    def body(state: _Newton, _: Any) -> tuple[_Newton, Array]:
        wants = jnp.max(jnp.abs(state.gradient), 1) > tolerance_gradient
        state = state._replace(active=wants & jnp.isfinite(state.loss))
        after, _ = lax.while_loop(
            lambda loop: (loop[1] < inner) & jnp.any(loop[0].active),
            lambda loop: (iterate(loop[0]), loop[1] + 1),
            (state, 0),
        )
        return after, state.loss

    loss, gradient, carried = evaluate(flat, carried)
    problems = flat.shape[0]
    none = jnp.zeros((problems,), bool)
    remembered = jnp.zeros((history, *flat.shape), flat.dtype)
    state = _Newton(
        flat,
        gradient,
        loss,
        before=jnp.zeros_like(flat),
        moved=jnp.zeros_like(flat),
        started=none,
        active=none,
        steps=remembered,
        bends=remembered,
        weights=jnp.zeros((history, problems), flat.dtype),
        scale=jnp.ones((problems,), flat.dtype),
        pairs=jnp.zeros((), jnp.int32),
        best=flat,
        least=jnp.where(jnp.isfinite(loss), loss, jnp.inf),
        carried=carried,
    )
    state, trace = lax.scan(body, state, length=steps)
    trace = jnp.concatenate([trace, state.loss[None]])
    return Found(
        restore(state.best),
        state.least.reshape(shape),
        restore(state.x),
        trace.reshape(steps + 1, *shape),
        state.carried,
    )


def _newton_direction(state: _Newton, history: int) -> Array:
    """The two loops of L-BFGS over all problems, newest pairs first, `[P, D]`."""
    filled = jnp.minimum(state.pairs, history)

    def older(i: Array, loop: tuple[Array, Array]) -> tuple[Array, Array]:
        direction, shares = loop
        slot = (state.pairs - 1 - i) % history
        share = state.weights[slot] * jnp.sum(state.steps[slot] * direction, 1)
        direction = direction - share[:, None] * state.bends[slot]
        return direction, shares.at[slot].set(share)

    def newer(i: Array, loop: tuple[Array, Array]) -> tuple[Array, Array]:
        direction, shares = loop
        slot = (state.pairs - filled + i) % history
        share = state.weights[slot] * jnp.sum(state.bends[slot] * direction, 1)
        direction = direction + (shares[slot] - share)[:, None] * state.steps[slot]
        return direction, shares

    loop = -state.gradient, jnp.zeros_like(state.weights)
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
