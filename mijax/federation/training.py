"""Whole federated trainings as one program, whose memory does not grow with rounds."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from mijax.core import Defense, Target, pytree, static
from mijax.federation import selective
from mijax.federation.client import Recipe, client_update, refuse_other_classes
from mijax.federation.selective import Selective
from mijax.federation.server import aggregate


@pytree
class Clients:
    """The data of V clients, each padded to the N examples of the largest.

    Attributes:
      x: `[V, N, *shape]`.
      labels: `[V, N]`.
      counts: how many examples each client has, the first ones, `[V]`.
      rows: which of its examples a client takes in round t, `[T, V, B]`, t modulo T;
        None where it draws them, with replacement.
    """

    x: Array
    labels: Array
    counts: Array
    rows: Array | None = None

    @classmethod
    def of(cls, parts: Sequence[tuple[Any, Any]]) -> "Clients":
        """Pads the `(x, labels)` of each client to one size.

        Raises:
          ValueError: if there is no client, or one has no example.
        """
        counts = np.array([len(labels) for _, labels in parts])
        if not counts.size or not counts.all():
            raise ValueError(
                f"The clients have {counts.tolist()} examples: give one client or "
                "more, each with an example or more."
            )

        def padded(rows: Any) -> np.ndarray:
            rows = np.asarray(rows)
            missing = int(counts.max()) - len(rows)
            return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))

        x = np.stack([padded(x) for x, _ in parts])
        labels = np.stack([padded(labels) for _, labels in parts])
        return cls(jnp.asarray(x), jnp.asarray(labels), jnp.asarray(counts))


class Round(NamedTuple):
    """What the server sees of a round.

    Attributes:
      who: the clients that took part, `[M]`.
      change: what each shared, leaves `[M, ...]`; last that of the participant who
        misbehaves, if there is one.
    """

    who: Array
    change: Any


@pytree
class Federation:
    """A federated training at the start of a round. Make one with `of`.

    Attributes:
      target: the server's model.
      clients: V of them.
      recipe: how clients train.
      defense: as in `client_update`.
      exchange: how much of the model is exchanged; None for all of it.
      server_rate: as in `aggregate`; 0 for a model that stays as it is.
      round: the number of rounds before.
      local: the clients' own copies of the l parameters, `[V, l]`; None where they
        download all.
      uploads: how often each parameter was uploaded, `[l]`; None with `local`.
      batch_size: examples that a client takes in a round.
      participants: M, the clients in a round.
    """

    target: Target
    clients: Clients
    recipe: Recipe
    defense: Defense
    exchange: Selective | None
    server_rate: float | Array | None
    round: Array | int
    local: Array | None
    uploads: Array | None
    batch_size: int = static()
    participants: int = static()

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        target: Target,
        clients: Clients,
        *,
        batch_size: int,
        participants: int | None = None,
        defense: Defense = Defense(),
        exchange: Selective | None = None,
        server_rate: float | Array | None = None,
    ) -> "Federation":
        """Begins a training.

        Args:
          recipe: how clients train.
          target: the model to begin with.
          clients: V of them.
          batch_size: examples that a client takes in a round.
          participants: clients in a round, drawn at random; None for all.
          defense: as in `client_update`.
          exchange: how much of the model is exchanged; None for all of it.
          server_rate: as in `aggregate`.

        Raises:
          ValueError: if a number is out of its range, if labels are no classes of the
            target, or if gradients are to be exchanged selectively.
        """
        number = clients.counts.shape[0]
        seats = number if participants is None else participants
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: it must be 1 or more.")
        if not 1 <= seats <= number:
            raise ValueError(
                f"participants is {seats}: it must be 1 to {number}, the clients."
            )
        if clients.rows is not None and clients.rows.shape[1:] != (number, batch_size):
            raise ValueError(
                f"The clients' rows are {clients.rows.shape}: they must be "
                f"{('T', number, batch_size)}, a batch for each client and round."
            )
        refuse_other_classes(clients.labels, target)
        if exchange is not None and not recipe.local_steps:
            raise ValueError(
                "A selective exchange is of changes of the weights, but the recipe "
                "shares gradients: set its local_steps to 1 or more."
            )
        local = uploads = None
        if exchange is not None and exchange.download < 1:
            flat, _ = ravel_pytree(target.trained)
            local = jnp.broadcast_to(flat, (number, flat.size))
            uploads = jnp.zeros(flat.shape)
        return cls(
            target,
            clients,
            recipe,
            defense,
            exchange,
            server_rate,
            jnp.int32(0),
            local,
            uploads,
            batch_size,
            seats,
        )

    @property
    def state(self) -> dict[str, Any]:
        """What a round changes, such as for a checkpoint; `at` takes it back."""
        changing = "target", "round", "local", "uploads"
        return {name: getattr(self, name) for name in changing}

    def at(self, state: dict[str, Any]) -> "Federation":
        """Returns the same training at another `state`."""
        return dataclasses.replace(self, **state)

    def advance(
        self, key: Array, own: Any = None, examples: float | Array | None = None
    ) -> tuple["Federation", Round]:
        """Runs one round.

        A random set of clients takes part. Each shares as in `share`; the server's mean
        weighs them by how many examples they have. Running statistics stay as they are.

        Args:
          key: of all rounds; round t depends on the key and on t alone, so that a
            training in pieces draws what a whole one draws.
          own: what one more participant shares, who does as it likes; a tree as
            `Target.trained`.
          examples: how many it claims to have; by default the others' mean.
        """
        keys = jax.random.split(jax.random.fold_in(key, self.round), 3)
        number, seats = self.clients.counts.shape[0], self.participants
        who = jax.random.choice(keys[0], number, (seats,), replace=False)
        counts = self.clients.counts[who]
        if self.clients.rows is None:
            rows = jax.vmap(
                lambda key, count: jax.random.randint(key, (self.batch_size,), 0, count)
            )(jax.random.split(keys[1], seats), counts)  # [M, B]
        else:
            rows = self.clients.rows[self.round % self.clients.rows.shape[0], who]
        x = self.clients.x[who[:, None], rows]
        labels = self.clients.labels[who[:, None], rows]
        client_keys = jax.random.split(keys[2], seats)
        change, local, uploads = self._trained(client_keys, who, x, labels)
        weights = counts.astype(jnp.float32)
        if own is not None:
            claimed = jnp.mean(weights) if examples is None else examples
            weights = jnp.append(weights, claimed)
            change = jax.tree.map(lambda a, b: jnp.append(a, b[None], 0), change, own)
        target = aggregate(self.recipe, self.target, change, self.server_rate, weights)
        after = dataclasses.replace(
            self, target=target, round=self.round + 1, local=local, uploads=uploads
        )
        return after, Round(who, change)

    def _trained(
        self, keys: Array, who: Array, x: Array, labels: Array
    ) -> tuple[Any, Array | None, Array | None]:
        """What M clients share, and the copies and counts of uploads after that."""

        def train(target: Target, key: Array, x: Array, labels: Array) -> Any:
            return client_update(
                self.recipe, target, x, labels, self.defense, key
            ).change

        exchange = self.exchange
        if exchange is None:
            change = jax.vmap(train, (None, 0, 0, 0))(self.target, keys, x, labels)
            return change, self.local, self.uploads
        server, unravel = ravel_pytree(self.target.trained)

        def one(
            key: Array, local: Array, x: Array, labels: Array
        ) -> tuple[Array, Array, Array]:
            download_key, upload_key = jax.random.split(jax.random.fold_in(key, 1))
            if self.uploads is not None:
                local = selective.download(
                    download_key, exchange, server, local, self.uploads
                )
            target = self.target.with_trained(unravel(local))
            change, _ = ravel_pytree(train(target, key, x, labels))
            return *selective.upload(upload_key, exchange, change), local + change

        axes = 0, None if self.local is None else 0, 0, 0
        copies = server if self.local is None else self.local[who]
        change, chosen, copies = jax.vmap(one, axes)(keys, copies, x, labels)
        if self.local is None or self.uploads is None:
            return jax.vmap(unravel)(change), None, None
        uploads = self.uploads + jnp.sum(chosen, 0)
        return jax.vmap(unravel)(change), self.local.at[who].set(copies), uploads


Misbehavior = Callable[[Array, Array, Target], Any]


def who_took_part(target: Target, round_: Round) -> Array:
    """What `simulate` records by default: `[M]`."""
    del target
    return round_.who


def simulate(
    key: Array,
    federation: Federation,
    *,
    rounds: int,
    misbehave: Misbehavior | None = None,
    record: Callable[[Target, Round], Any] = who_took_part,
) -> tuple[Federation, Any]:
    """Trains for many rounds as one program.

    Args:
      key: of all rounds; see `Federation.advance`. A training is resumed with the same
        key and the federation that was returned.
      federation: at the start of a round.
      rounds: how many.
      misbehave: what one more participant shares, who does as it likes:
        `(key, t, target) -> change`, a tree as `Target.trained`.
      record: what is kept of each round: `(target after it, round) -> tree`.

    Returns:
      The federation after the last round, and what was recorded, leaves
      `[rounds, ...]`.

    Raises:
      ValueError: if there is no round.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: it must be 1 or more.")
    own_key = jax.random.fold_in(key, np.iinfo(np.int32).max)  # of no round

    def body(state: Any, _: None) -> tuple[Any, Any]:
        now = federation.at(state)
        own = None
        if misbehave is not None:
            own_now = jax.random.fold_in(own_key, now.round)
            own = misbehave(own_now, jnp.asarray(now.round), now.target)
        after, seen = now.advance(key, own)
        return after.state, record(after.target, seen)

    state, records = lax.scan(body, federation.state, None, rounds)
    return federation.at(state), records
