"""Search by evaluations alone: ask/tell strategies over many independent problems."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mijax.search.descent import SearchResult


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
        # Where every evaluation failed, the search stays where it was.
        survived = jnp.any(alive)
        mean = jnp.where(survived, mean, state[0])
        return mean, jnp.where(survived, deviation, state[1])

    return Strategy(init, ask, tell)


def evolve(
    keys: Array,
    objective: Callable[[Array, Any], tuple[Array, Any]],
    x: Array,
    strategy: Strategy,
    *,
    generations: int,
    aux: Any = None,
) -> SearchResult:
    """Searches by evaluations alone; failed evaluations cannot win.

    Args:
      keys: one per problem, `[N]`; they are consumed.
      objective: `(x [N * P, D], aux) -> (losses [N * P], aux)`.
      x: the initial points, `[N, D]`.
      strategy: how to search one problem.
      generations: how many times to ask and tell.
      aux: the initial auxiliary state, such as knowledge that counts its queries.

    Returns:
      `SearchResult` with `best` `[N, D]`; `trace` `[N, generations]` holds each
      generation's best loss, and `last` the best point of the last generation.

    Raises:
      ValueError: if `generations` is not positive, or `keys` are not `[N]`.
    """
    if generations < 1:
        raise ValueError(f"generations is {generations}: it must be 1 or more.")
    problems, dimensions = x.shape
    if keys.shape != (problems,):
        raise ValueError(f"keys are {keys.shape}: give one per problem, [{problems}].")

    def body(state: Any, keys: Array) -> tuple[Any, Array]:
        search, best, best_loss, _, aux = state
        points = jax.vmap(strategy.ask)(keys, search)
        losses, aux = objective(points.reshape(-1, dimensions), aux)
        losses = losses.reshape(problems, -1)
        losses = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
        search = jax.vmap(strategy.tell)(search, points, losses)
        winner = jnp.argmin(losses, 1)
        last = points[jnp.arange(problems), winner]
        lowest = jnp.min(losses, 1)
        better = lowest < best_loss
        best = jnp.where(better[:, None], last, best)
        best_loss = jnp.where(better, lowest, best_loss)
        return (search, best, best_loss, last, aux), lowest

    search = jax.vmap(strategy.init)(x)

    def evaluate(keys: Array) -> tuple[Array, Any]:
        points = jax.vmap(strategy.ask)(keys, search)
        return objective(points.reshape(-1, dimensions), aux)

    losses, _ = jax.eval_shape(evaluate, keys)
    best_loss = jnp.full((problems,), jnp.inf, losses.dtype)
    state = (search, x, best_loss, x, aux)
    split = jax.vmap(lambda key: jax.random.split(key, generations), out_axes=1)
    (_, best, best_loss, last, aux), trace = lax.scan(body, state, split(keys))
    return SearchResult(best, best_loss, last, trace.T, aux)
