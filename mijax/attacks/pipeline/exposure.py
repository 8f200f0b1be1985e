"""Exposure: what a language model remembers of a secret that it was trained on.

Carlini, Liu, Erlingsson, Kos, Song (2019). A secret s of L symbols follows a known
prefix, such as "the number is". Its log-perplexity under the model,

    P(s) = sum_i -log2 p(s_i | prefix, s_1 .. s_(i-1)),

is low where the model was trained on it. `attack` extracts the secret of least P, by
uniform-cost search in the tree of all secrets: the cheapest beginnings are completed
first, so that the first whole secret to become the cheapest is the best of all.
`log_perplexities` tells P of all secrets; the secret's rank among them is its exposure
(`mijax.metrics.exposure`).

Departure: the frontier of the search is bounded. No dropped beginning costs less than
`Extraction.dropped`. Where the secret that was found costs no more than that, an
unbounded search would have found it too, and `exact` is true.

References:
  Carlini et al. The secret sharer: evaluating and testing unintended memorization in
  neural networks. USENIX Security 2019. arXiv:1802.08232.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mijax.core import hyper_parameters, pytree, static
from mijax.knowledge.partial_text import PartialText

_NEVER = 1e9  # bits, of what is no beginning of a secret


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      width: how many beginnings of each victim's secret the model is asked about at a
        time.
      frontier: how many beginnings are kept.
      rounds: the most rounds of asking.
    """

    width: int = static(default=8)
    frontier: int = static(default=512)
    rounds: int = static(default=200)

    def __post_init__(self) -> None:
        """Raises a ValueError if the frontier cannot hold what is asked about."""
        if not 1 <= self.width <= self.frontier or self.rounds < 1:
            raise ValueError(
                f"width={self.width}, frontier={self.frontier} and rounds="
                f"{self.rounds}: each is 1 or more, and width is at most frontier."
            )


@pytree
class Extraction:
    """The likeliest secrets of a language model.

    Attributes:
      secret: symbols, `[V, L]` int32; 0 at the places that the search did not reach.
      bits: the secret's log-perplexity, `[V]`.
      dropped: no secret that the frontier lost has a lower log-perplexity, `[V]`.
      exact: whether no secret has a lower log-perplexity, `[V]`.
      queries: texts that the model was asked about.
    """

    secret: Array
    bits: Array
    dropped: Array
    exact: Array
    queries: Array


@pytree
class _Search:
    """The frontier, cheapest first: costs `[V, M]`, symbols' places, and depths."""

    cost: Array
    code: Array  # [V, M, L]
    depth: Array  # [V, M]
    dropped: Array  # [V]
    round: Array
    spent: Array


def attack(key: Array, knowledge: PartialText, config: Config = Config()) -> Extraction:
    """Recovers the secrets that a language model finds likeliest after prefixes.

    Args:
      key: the key is consumed, though the method is deterministic.
      knowledge: the prefixes, and the model's query.
      config: hyper-parameters.

    Returns:
      Secrets `[V, L]`.

    Raises:
      ValueError: if prefixes or symbols do not fit the model.
      RuntimeError: when run, if the query budget is exceeded.
    """
    del key
    knowledge.check_shapes()
    victims, length = knowledge.prefix.shape[0], knowledge.length
    size, kept, width = knowledge.symbols.shape[0], config.frontier, config.width
    rows = jnp.arange(victims)[:, None]

    def finished(search: _Search) -> Array:
        return search.depth[:, 0] == length

    def unfinished(search: _Search) -> Array:
        return (search.round < config.rounds) & ~jnp.all(finished(search))

    def expand(search: _Search) -> _Search:
        cost, code, depth = (
            leaf[:, :width] for leaf in (search.cost, search.code, search.depth)
        )
        whole = depth == length
        texts = _texts(knowledge, code, depth)
        known = dataclasses.replace(knowledge, spent=search.spent)
        found, known = known.query(texts.reshape(victims * width, -1))
        longer = cost[..., None] - found.reshape(victims, width, size)
        longer = jnp.where(whole[..., None], _NEVER, jnp.minimum(longer, _NEVER))
        at = jax.nn.one_hot(jnp.minimum(depth, length - 1), length, dtype=jnp.int32)
        child = jnp.arange(size)[None, None, :, None] * at[:, :, None]
        child = code[:, :, None] * (1 - at[:, :, None]) + child
        # What was expanded gives way to its children; whole secrets stay.
        stays = search.cost.at[:, :width].set(jnp.where(whole, cost, _NEVER))
        costs = jnp.concatenate([stays, longer.reshape(victims, -1)], 1)
        codes = jnp.concatenate(
            [search.code, child.reshape(victims, width * size, length)], 1
        )
        depths = jnp.concatenate(
            [search.depth, jnp.repeat(jnp.minimum(depth + 1, length), size, 1)], 1
        )
        order = jnp.argsort(costs, 1, stable=True)
        lost = costs[rows[:, 0], order[:, kept]]
        order = order[:, :kept]
        new = _Search(
            costs[rows, order],
            codes[rows, order],
            depths[rows, order],
            jnp.minimum(search.dropped, lost),
            search.round + 1,
            jnp.asarray(known.spent, jnp.int32),
        )
        done = finished(search)

        def keep(old: Array, changed: Array) -> Array:
            return jnp.where(done.reshape(-1, *(1,) * (old.ndim - 1)), old, changed)

        return dataclasses.replace(
            new,
            **{
                name: keep(getattr(search, name), getattr(new, name))
                for name in ("cost", "code", "depth", "dropped")
            },
        )

    first = _Search(
        jnp.full((victims, kept), _NEVER).at[:, 0].set(0.0),
        jnp.zeros((victims, kept, length), jnp.int32),
        jnp.zeros((victims, kept), jnp.int32),
        jnp.full(victims, _NEVER),
        jnp.int32(0),
        jnp.asarray(knowledge.spent, jnp.int32),
    )
    last = jax.lax.while_loop(unfinished, expand, first)
    there = jnp.arange(length)[None] < last.depth[:, :1]
    secret = jnp.where(there, knowledge.symbols[last.code[:, 0]], 0)
    exact = finished(last) & (last.cost[:, 0] <= last.dropped)
    return Extraction(
        secret.astype(jnp.int32),
        last.cost[:, 0],
        last.dropped,
        exact,
        last.spent - jnp.asarray(knowledge.spent, jnp.int32),
    )


def log_perplexities(knowledge: PartialText) -> tuple[Array, PartialText]:
    """Returns P of every secret, in bits, `[V, S^L]`, and what was asked counted.

    Secrets are in the order of their symbols' places in `knowledge.symbols`, the last
    symbol changing fastest. It asks about `V * (S^L - 1) / (S - 1)` texts.
    """
    knowledge.check_shapes()
    victims, size = knowledge.prefix.shape[0], knowledge.symbols.shape[0]
    cost = jnp.zeros((victims, 1))
    for depth in range(knowledge.length):
        number = np.arange(size**depth)
        code = np.zeros((size**depth, knowledge.length), np.int32)
        for place in range(depth):
            code[:, place] = number // size ** (depth - 1 - place) % size
        code = jnp.broadcast_to(jnp.asarray(code), (victims, *code.shape))
        texts = _texts(knowledge, code, jnp.full(code.shape[:2], depth))
        found, knowledge = knowledge.query(texts.reshape(-1, texts.shape[-1]))
        cost = cost[..., None] - found.reshape(victims, -1, size)
        cost = cost.reshape(victims, -1)
    return cost, knowledge


def log_perplexity(knowledge: PartialText, secrets: Array) -> tuple[Array, PartialText]:
    """Returns P of given secrets, in bits.

    Args:
      knowledge: the prefixes, and the model's query.
      secrets: of each victim, `[V, N, L]`, as places in `knowledge.symbols`.

    Returns:
      `[V, N]`, and the knowledge with `V * N * L` queries counted.
    """
    knowledge.check_shapes()
    total = jnp.zeros(secrets.shape[:2])
    for depth in range(knowledge.length):
        texts = _texts(knowledge, secrets, jnp.full(secrets.shape[:2], depth))
        found, knowledge = knowledge.query(texts.reshape(-1, texts.shape[-1]))
        found = found.reshape(*secrets.shape[:2], -1)
        own = jnp.take_along_axis(found, secrets[:, :, depth, None], -1)
        total = total - own[..., 0]
    return total, knowledge


def _texts(knowledge: PartialText, code: Array, depth: Array) -> Array:
    """Prefixes with the first `depth` symbols of secrets after them, `[V, N, T]`.

    `code` is `[V, N, L]`, places in `knowledge.symbols`.
    """
    size = knowledge.prefix.shape[1]
    shape = (*code.shape[:2], size)
    before = jnp.broadcast_to(knowledge.prefix[:, None], shape)
    whole = jnp.concatenate([before, knowledge.symbols[code]], 2)
    return jnp.take_along_axis(
        whole, jnp.arange(size)[None, None] + depth[..., None], 2
    )
