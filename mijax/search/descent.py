"""Gradient descent of many independent problems with any optax optimizer.

A search runs many problems at a time: an objective returns one loss a
problem, `[*N]`, and every leaf of what is searched starts with those axes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from mijax.core import pytree

Objective = Callable[[Array, Any], Array]
Slope = Callable[[Array, Any, Any], tuple[Array, Any, Any]]

_BLOCK = 256  # dimensions that are differenced at a time; changes no result


@pytree
class Found:
    """What a search found.

    Attributes:
      best: the best iterate of each problem, leaves `[*N, ...]`.
      loss: the loss of that same iterate, `[*N]`; infinite where none was finite.
      last: the last iterate.
      trace: the loss by iteration, `[steps + 1, *N]`; not finite where it was not.
      carried: what the slope carried at the end.
    """

    best: Any
    loss: Array
    last: Any
    trace: Array
    carried: Any


def gradient_of(objective: Objective) -> Slope:
    """Returns the slope of a differentiable `(key, x) -> losses [*N]`."""

    def slope(key: Array, x: Any, carried: Any) -> tuple[Array, Any, Any]:
        def total(x: Any) -> tuple[Array, Array]:
            losses = objective(key, x)
            return jnp.sum(losses), losses

        gradients, losses = jax.grad(total, has_aux=True)(x)
        return losses, gradients, carried

    return slope


def central_differences(
    objective: Callable[[Array, Any], tuple[Array, Any]], step: float | Array
) -> Slope:
    """Returns the slope of a black box, from `2 D + 1` evaluations a problem.

    Args:
      objective: `(x [M, D], carried) -> (losses [M], carried)`, asked about `M = N`
        points, then about `2 D` a problem in blocks, those of a problem next to each
        other; it need not be differentiable. What it carries counts its queries.
      step: the distance to either side.
    """

    def slope(key: Array, x: Array, carried: Any) -> tuple[Array, Array, Any]:
        del key  # Differences are deterministic.
        problems, dimensions = x.shape
        losses, carried = objective(x, carried)

        def differ(carried: Any, along: Array) -> tuple[Any, Array]:
            shift = step * jax.nn.one_hot(along, dimensions, dtype=x.dtype)[None]
            around = jnp.concatenate([x[:, None] + shift, x[:, None] - shift], 1)
            sides, carried = objective(around.reshape(-1, dimensions), carried)
            above, below = jnp.split(sides.reshape(problems, -1), 2, 1)
            return carried, (above - below) / (2 * step)  # [N, n]

        whole = dimensions // _BLOCK * _BLOCK
        along = jnp.arange(whole).reshape(-1, _BLOCK)
        carried, blocks = lax.scan(differ, carried, along)
        gradients = jnp.moveaxis(blocks, 0, 1).reshape(problems, whole)
        if whole < dimensions:
            carried, rest = differ(carried, jnp.arange(whole, dimensions))
            gradients = jnp.concatenate([gradients, rest], 1)
        return losses, gradients, carried

    return slope


def descend(
    key: Array,
    slope: Slope,
    x: Any,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    project: Callable[[Any], Any] | None = None,
    carried: Any = None,
) -> Found:
    """Descends from `x`; keeps the best iterate with the loss of that same iterate.

    Args:
      key: split over the iterations; the key is consumed.
      slope: `(key, x, carried) -> (losses [*N], gradients, carried)`, such as
        `gradient_of(objective)`.
      x: where to start, leaves `[*N, ...]`.
      optimizer: any optax transformation. It sees all problems as one tree: keep to
        elementwise ones, such as SGD or Adam, or problems will not be independent.
      steps: how many.
      project: applied to each new iterate, and to no other.
      carried: the first value of what the slope carries.

    Raises:
      ValueError: if `steps` is negative.
    """
    if steps < 0:
        raise ValueError(f"steps is {steps}: it must be 0 or more.")

    def keep(best: Any, least: Array, x: Any, losses: Array) -> tuple[Any, Array]:
        better = jnp.isfinite(losses) & (losses < least)

        def select(old: Array, new: Array) -> Array:
            axes = tuple(range(better.ndim, new.ndim))
            return jnp.where(jnp.expand_dims(better, axes), new, old)

        return jax.tree.map(select, best, x), jnp.where(better, losses, least)

    def body(state: Any, key: Array) -> tuple[Any, Array]:
        x, optimizer_state, best, least, carried = state
        with jax.named_scope("slope"):
            losses, gradients, carried = slope(key, x, carried)
        with jax.named_scope("keep_best"):
            best, least = keep(best, least, x, losses)
        with jax.named_scope("update"):
            updates, optimizer_state = optimizer.update(gradients, optimizer_state, x)
            x = optax.apply_updates(x, updates)
            if project is not None:
                x = project(x)
        return (x, optimizer_state, best, least, carried), losses

    keys = jax.random.split(key, steps + 1)
    losses, _, _ = jax.eval_shape(slope, keys[0], x, carried)
    least = jnp.full(losses.shape, jnp.inf, losses.dtype)
    state = (x, optimizer.init(x), x, least, carried)
    (x, _, best, least, carried), trace = lax.scan(body, state, keys[:-1])
    losses, _, carried = slope(keys[-1], x, carried)
    best, least = keep(best, least, x, losses)
    return Found(best, least, x, jnp.concatenate([trace, losses[None]]), carried)
