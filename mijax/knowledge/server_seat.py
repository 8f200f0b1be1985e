"""What a malicious server sees of a training: each client's updates, by round."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mijax.core import Target, pytree, static
from mijax.federation import Clients, Federation
from mijax.knowledge import validation
from mijax.knowledge.secure_aggregation import securely_summed
from mijax.knowledge.shared_update import SharedUpdate


@pytree
class ServerSeat:
    """A server that obeys, or isolates one client. Make one with `of`.

    It runs a round with `act`, and sees what each client shared. Their data has no name
    here.
    """

    _key: Array
    _world: Federation
    _alone: Federation | None
    _summed: bool = static(default=False)

    @classmethod
    def of(
        cls,
        key: Array,
        world: Federation,
        victim: int,
        *,
        isolated: bool = False,
        summed: bool = False,
    ) -> "ServerSeat":
        """Takes the server's seat.

        Args:
          key: of all randomness of the clients; the key is consumed.
          world: a training in which all clients take part in each round, and exchange
            the whole model.
          victim: the client to attack.
          isolated: whether the victim is sent a model that it alone trains (the active
            attack); the others train theirs without it.
          summed: whether secure aggregation leaves the server the sum of all updates,
            which is then taken for the victim's.

        Raises:
          ValueError: if the victim is no client or the only one, if not all take part,
            if parts of the model are exchanged, or if the sum would be of the victim
            alone.
        """
        number = world.clients.counts.shape[0]
        if number < 2:
            raise ValueError(
                f"The federation has {number} client: an adversary who tells one from "
                "the others needs 2 or more."
            )
        if not 0 <= victim < number:
            raise ValueError(f"victim is {victim}: the clients are 0 to {number - 1}.")
        if world.participants != number:
            raise ValueError(
                f"{world.participants} of {number} clients take part in a round: the "
                "victim must be in each, so let all of them."
            )
        if world.exchange is not None:
            raise ValueError(
                "Clients exchange parts of the model: this server reads whole updates; "
                "leave the federation's exchange out, or defend the update."
            )
        if isolated and summed:
            raise ValueError(
                "An isolated client's sum is its own update, which secure aggregation "
                "never shows: set isolated or summed."
            )
        order = np.append(victim, np.delete(np.arange(number), victim))
        if not isolated:
            return cls(key, _only(world, order), None, summed)
        return cls(key, _only(world, order[1:]), _only(world, order[:1]))

    def check_values(self) -> None:
        """Raises ValueError if parameters are NaN or infinite."""
        validation.check_finite("The target's parameters", self.target.params)

    @property
    def target(self) -> Target:
        """The model that the clients train; where the victim is isolated, its own."""
        return (self._alone or self._world).target

    def act(self) -> tuple["ServerSeat", SharedUpdate]:
        """Runs a round.

        Returns:
          The seat after it, and one `SharedUpdate` a client, the victim's first: their
          leaves, `[V, ...]`, those of `update` `[V, 1, ...]`. Map over the first axis.
          Where updates are summed, there is one, of all V * B examples.
        """
        world, seen = _round(self._key, self._world)
        if self._summed:
            seen = _sum(seen)
        if self._alone is None:
            return dataclasses.replace(self, _world=world), seen
        own_key = jax.random.fold_in(self._key, np.iinfo(np.int32).max)  # of no round
        alone, first = _round(own_key, self._alone)
        joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, seen)
        return dataclasses.replace(self, _world=world, _alone=alone), joined


def _round(key: Array, world: Federation) -> tuple[Federation, SharedUpdate]:
    after, seen = world.advance(key)
    number = world.participants

    def each(leaf: Any) -> Array:
        return jnp.broadcast_to(jnp.asarray(leaf), (number, *jnp.shape(leaf)))

    order = jnp.argsort(seen.who)
    update = jax.tree.map(lambda leaf: leaf[order][:, None], seen.change)
    shared = SharedUpdate(
        jax.tree.map(each, world.target),
        update,
        world.batch_size,
        jax.tree.map(each, world.recipe),
    )
    return after, shared


def _sum(seen: SharedUpdate) -> SharedUpdate:
    """Of one update a client, what secure aggregation leaves, as of one client."""
    flat = dataclasses.replace(
        seen, update=jax.tree.map(lambda x: x[:, 0], seen.update)
    )
    whole = securely_summed(flat)
    return dataclasses.replace(
        whole,
        target=jax.tree.map(lambda x: x[:1], seen.target),
        update=jax.tree.map(lambda x: x[None], whole.update),
        recipe=jax.tree.map(lambda x: x[:1], seen.recipe),
    )


def _only(world: Federation, chosen: np.ndarray) -> Federation:
    """The federation of some of its clients, in this order."""
    own = world.clients
    clients = Clients(
        own.x[chosen],
        own.labels[chosen],
        own.counts[chosen],
        None if own.rows is None else own.rows[:, chosen],
    )
    return dataclasses.replace(world, clients=clients, participants=len(chosen))
