"""Search, written once: gradient descent, L-BFGS, and ask/tell evolution.

Each searches many independent problems at a time: an objective returns one loss a
problem, `[*N]`, and every leaf of what is searched starts with those axes.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

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


class Strategy(NamedTuple):
    """An ask/tell search for one problem.

    Attributes:
      init: `x [D] -> state`.
      ask: `(key, state) -> population [P, D]`.
      tell: `(state, population [P, D], losses [P]) -> state`; a failed evaluation
        arrives as infinity.
    """

    init: Callable[[Array], Any]
    ask: Callable[[Array, Any], Array]
    tell: Callable[[Any, Array, Array], Any]


def elite_gaussian(
    population: int, elite: int, spread: float | Array, floor: float | Array = 1e-3
) -> Strategy:
    """The cross-entropy method: a diagonal Gaussian, refitted to the best `elite`.

    Departure: the deviation is taken about the mean before, as evolution strategies
    do, so that it grows along a slope instead of collapsing there.

    Args:
      population: points a generation.
      elite: how many of them the next Gaussian is fitted to.
      spread: the first standard deviation.
      floor: the least standard deviation.

    References:
      Rubinstein. The cross-entropy method for combinatorial and continuous
      optimization. 1999. doi:10.1023/A:1010091220143.
    """
    if not 1 < elite <= population:
        raise ValueError(f"elite is {elite}: it must be 2 to population={population}.")

    def init(x: Array) -> tuple[Array, Array]:
        return x, jnp.full_like(x, spread)

    def ask(key: Array, state: tuple[Array, Array]) -> Array:
        mean, deviation = state
        noise = jax.random.normal(key, (population, *mean.shape))
        return mean[None] + deviation[None] * noise

    def tell(
        state: tuple[Array, Array], points: Array, losses: Array
    ) -> tuple[Array, Array]:
        chosen = jnp.argsort(losses)[:elite]
        alive = jnp.isfinite(losses[chosen])[:, None]
        mean = jnp.mean(points[chosen], 0, where=alive)
        moved = (points[chosen] - state[0][None]) ** 2
        deviation = jnp.maximum(jnp.sqrt(jnp.mean(moved, 0, where=alive)), floor)
        some = jnp.any(alive)  # Where all failed, the search stays where it was.
        return jnp.where(some, mean, state[0]), jnp.where(some, deviation, state[1])

    return Strategy(init, ask, tell)


def evolve(
    key: Array,
    objective: Callable[[Array, Any], tuple[Array, Any]],
    x: Array,
    strategy: Strategy,
    *,
    generations: int,
    carried: Any = None,
) -> Found:
    """Searches by evaluations alone; failed evaluations cannot win.

    Args:
      key: one key, or one a problem, `[N]`; the key is consumed.
      objective: `(x [N * P, D], carried) -> (losses [N * P], carried)`.
      x: where to start, `[N, D]`.
      strategy: how to search one problem.
      generations: how many times to ask and tell.
      carried: what the objective carries, such as knowledge that counts its queries.

    Returns:
      `Found` with `best` `[N, D]`; `trace` `[generations, N]` holds each
      generation's best loss, and `last` the best of the last generation.

    Raises:
      ValueError: if `generations` is not positive.
    """
    if generations < 1:
        raise ValueError(f"generations is {generations}: it must be 1 or more.")
    problems, dimensions = x.shape

    def body(state: Any, key: Array) -> tuple[Any, Array]:
        search, best, least, _, carried = state
        points = jax.vmap(strategy.ask)(key, search)
        losses, carried = objective(points.reshape(-1, dimensions), carried)
        losses = losses.reshape(problems, -1)
        losses = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
        search = jax.vmap(strategy.tell)(search, points, losses)
        winner = jnp.argmin(losses, 1)
        last = points[jnp.arange(problems), winner]
        lowest = jnp.min(losses, 1)
        better = lowest < least
        best = jnp.where(better[:, None], last, best)
        return (search, best, jnp.where(better, lowest, least), last, carried), lowest

    least = jnp.full((problems,), jnp.inf, x.dtype)
    state = (jax.vmap(strategy.init)(x), x, least, x, carried)
    if key.ndim == 0:
        keys = jax.vmap(lambda key: jax.random.split(key, problems))(
            jax.random.split(key, generations)
        )
    else:
        split = jax.vmap(lambda key: jax.random.split(key, generations), out_axes=1)
        keys = split(key)
    (_, best, least, last, carried), trace = lax.scan(body, state, keys)
    return Found(best, least, last, trace, carried)
