"""A seat in a federated training: the adversary is one of those who take part."""

import dataclasses
from typing import Any

import numpy as np
from jax import Array

from mijax.core import Target, concrete, pytree
from mijax.federation import Federation, Recipe
from mijax.knowledge import validation


@pytree
class FederationSeat:
    """What a participant sees, and data of its own. Make one with `of`.

    It sees the model that the server sends, and acts: it shares a change, and sees the
    next model. What the others share, and their data, has no name here.

    Attributes:
      x: its own examples, `[N, *shape]`.
      labels: their classes, `[N]`.
      wanted: the class to recover, which others have; None where no class is sought.
      has_property: whether each of its examples has the property to infer, `[N]` bool;
        None where no property is sought.
    """

    x: Array
    labels: Array
    wanted: Array | int | None
    has_property: Array | None
    _key: Array
    _world: Federation

    @classmethod
    def of(
        cls,
        key: Array,
        world: Federation,
        x: Array,
        labels: Array,
        *,
        wanted: Array | int | None = None,
        has_property: Array | None = None,
    ) -> "FederationSeat":
        """Takes a seat beside the clients of a federation.

        Args:
          key: of all randomness of the other clients; the key is consumed.
          world: the training, whose clients are the others.
          x: own examples, `[N, *shape]`.
          labels: `[N]`.
          wanted: as the attribute.
          has_property: as the attribute.

        Raises:
          ValueError: if the seat has no example, examples do not fit the model, a label
            is no class of it, or all or none of the examples have the property.
        """
        number, shape = x.shape[0], world.target.shape
        if not number:
            raise ValueError("The seat has no example: give it one or more.")
        if x.shape[1:] != shape or labels.shape != (number,):
            raise ValueError(
                f"x is {x.shape} and labels {labels.shape}: they must be "
                f"{(number, *shape)} and {(number,)}."
            )
        validation.check_labels(labels, world.target.num_classes)
        if wanted is not None:
            validation.check_labels(np.asarray(wanted)[None], world.target.num_classes)
        if has_property is not None:
            if has_property.shape != (number,):
                raise ValueError(
                    f"has_property is {has_property.shape}: it must be {(number,)}."
                )
            values = concrete(has_property)
            if values is not None and values.all() == values.any():
                raise ValueError(
                    f"{'All' if values.any() else 'None'} of the {number} examples of "
                    "the seat have the property: give some with it and some without."
                )
        return cls(x, labels, wanted, has_property, key, world)

    def check_values(self) -> None:
        """Raises ValueError if examples or parameters are NaN or infinite."""
        validation.check_finite("The examples", self.x)
        validation.check_finite("The target's parameters", self.target.params)

    @property
    def target(self) -> Target:
        """The model that the server sent."""
        return self._world.target

    @property
    def recipe(self) -> Recipe:
        """How clients train."""
        return self._world.recipe

    @property
    def batch_size(self) -> int:
        """How many examples a client takes in a round."""
        return self._world.batch_size

    def act(self, change: Any = None) -> "FederationSeat":
        """Shares a change, and sees the next model.

        Args:
          change: a tree as `Target.trained`, counted as of as many examples as the
            other clients' mean; None to share nothing.
        """
        after, _ = self._world.advance(self._key, change)
        return dataclasses.replace(self, _world=after)
