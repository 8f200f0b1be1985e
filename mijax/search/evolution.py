"""Search by evaluations alone: ask/tell strategies over many independent problems."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mijax.search.descent import Found


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
