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

# (x, aux) -> (losses [*N], gradients, aux); with keys: (keys [N], x, aux) -> the same.
ValueAndGradient = Callable[..., tuple[Array, Any, Any]]

_BLOCK = 256  # dimensions that are differenced at a time; changes no result


@pytree
class SearchResult:
    """The result of a search over many problems.

    Attributes:
      best: the best iterate of each problem, leaves `[*N, ...]`.
      loss: the loss of that same iterate, `[*N]`; infinite where none was finite.
      last: the last iterate.
      trace: the loss at each iteration, `[*N, steps + 1]`, non-finite values included.
      aux: the final auxiliary state.
    """

    best: Any
    loss: Array
    last: Any
    trace: Array
    aux: Any


def gradient_of(objective: Callable[..., Array]) -> ValueAndGradient:
    """Returns the losses and gradients of a differentiable objective.

    Args:
      objective: `x -> losses [*N]`, or `(keys [N], x) -> losses [N]` where it is
        stochastic and `descend` is given keys.
    """

    def value_and_gradient(*arguments: Any) -> tuple[Array, Any, Any]:
        *keys, x, aux = arguments

        def total(x: Any) -> tuple[Array, Array]:
            losses = objective(*keys, x)
            return jnp.sum(losses), losses

        gradients, losses = jax.grad(total, has_aux=True)(x)
        return losses, gradients, aux

    return value_and_gradient


def central_differences(
    objective: Callable[[Array, Any], tuple[Array, Any]], step: float | Array
) -> ValueAndGradient:
    """Estimates gradients of a black box from `2 D + 1` evaluations per problem.

    Args:
      objective: `(x [M, D], aux) -> (losses [M], aux)`, evaluated at `M = N` points,
        then at `2 D` per problem in blocks, those of a problem next to each other; it
        need not be differentiable. Its auxiliary state counts its queries.
      step: the distance to either side.
    """

    def value_and_gradient(x: Array, aux: Any) -> tuple[Array, Array, Any]:
        problems, dimensions = x.shape
        losses, aux = objective(x, aux)

        def differ(aux: Any, along: Array) -> tuple[Any, Array]:
            shift = step * jax.nn.one_hot(along, dimensions, dtype=x.dtype)[None]
            around = jnp.concatenate([x[:, None] + shift, x[:, None] - shift], 1)
            sides, aux = objective(around.reshape(-1, dimensions), aux)
            above, below = jnp.split(sides.reshape(problems, -1), 2, 1)
            return aux, (above - below) / (2 * step)  # [N, n]

        whole = dimensions // _BLOCK * _BLOCK
        along = jnp.arange(whole).reshape(-1, _BLOCK)
        aux, blocks = lax.scan(differ, aux, along)
        gradients = jnp.moveaxis(blocks, 0, 1).reshape(problems, whole)
        if whole < dimensions:
            aux, remainder = differ(aux, jnp.arange(whole, dimensions))
            gradients = jnp.concatenate([gradients, remainder], 1)
        return losses, gradients, aux

    return value_and_gradient


def descend(
    value_and_gradient: ValueAndGradient,
    x: Any,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    project: Callable[[Any], Any] | None = None,
    keys: Array | None = None,
    aux: Any = None,
) -> SearchResult:
    """Descends from `x`; keeps the best iterate with the loss of that same iterate.

    Args:
      value_and_gradient: `(x, aux) -> (losses [*N], gradients, aux)`, such as
        `gradient_of(objective)`; `(keys, x, aux)` where `keys` are given.
      x: the initial iterate, leaves `[*N, ...]`.
      optimizer: any optax transformation. It sees all problems as one tree: keep to
        elementwise ones, such as SGD or Adam, or problems will not be independent.
      steps: the number of iterations.
      project: applied to each new iterate, but not to the initial one.
      keys: for a stochastic objective, one key per victim, `[V]`; each iteration
        folds its number into them. A deterministic objective takes none.
      aux: the initial auxiliary state.

    Raises:
      ValueError: if `steps` is negative, or `keys` are not `[V]`.
    """
    if steps < 0:
        raise ValueError(f"steps is {steps}: it must be 0 or more.")
    if keys is not None and keys.ndim != 1:
        raise ValueError(f"keys are {keys.shape}: give one per victim, [V].")

    def evaluate(step: Array | int, x: Any, aux: Any) -> tuple[Array, Any, Any]:
        if keys is None:
            return value_and_gradient(x, aux)
        fold = jax.vmap(jax.random.fold_in, (0, None))
        return value_and_gradient(fold(keys, step), x, aux)

    def keep(best: Any, lowest: Array, x: Any, losses: Array) -> tuple[Any, Array]:
        better = jnp.isfinite(losses) & (losses < lowest)

        def select(old: Array, new: Array) -> Array:
            axes = tuple(range(better.ndim, new.ndim))
            return jnp.where(jnp.expand_dims(better, axes), new, old)

        return jax.tree.map(select, best, x), jnp.where(better, losses, lowest)

    def body(state: Any, step: Array) -> tuple[Any, Array]:
        x, optimizer_state, best, lowest, aux = state
        with jax.named_scope("value_and_gradient"):
            losses, gradients, aux = evaluate(step, x, aux)
        with jax.named_scope("keep_best"):
            best, lowest = keep(best, lowest, x, losses)
        with jax.named_scope("update"):
            updates, optimizer_state = optimizer.update(gradients, optimizer_state, x)
            x = optax.apply_updates(x, updates)
            if project is not None:
                x = project(x)
        return (x, optimizer_state, best, lowest, aux), losses

    losses, _, _ = jax.eval_shape(evaluate, 0, x, aux)
    lowest = jnp.full(losses.shape, jnp.inf, losses.dtype)
    state = (x, optimizer.init(x), x, lowest, aux)
    (x, _, best, lowest, aux), trace = lax.scan(body, state, jnp.arange(steps))
    losses, _, aux = evaluate(steps, x, aux)
    best, lowest = keep(best, lowest, x, losses)
    trace = jnp.moveaxis(jnp.concatenate([trace, losses[None]]), 0, -1)
    return SearchResult(best, lowest, x, trace, aux)
