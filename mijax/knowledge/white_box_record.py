"""Records with a field missing, complete records of others, and a network's weights."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from mijax.core import Target, concrete, pytree, static
from mijax.knowledge import validation
from mijax.knowledge.partial_record import Candidates


@pytree
class WhiteBoxRecord:
    """What an adversary has who reads neurons.

    Attributes:
      target: the network.
      record: the victims' records as the network takes them, `[V, D]`; what stands in
        the candidates' columns is ignored.
      candidates: what may stand there; one field.
      complete: records of other people, `[N, D]`.
      value: the sensitive value of each, `[N]` int32.
      neurons: `(params, x [B, D]) -> activations [B, M]`; None for the penultimate
        layer, where the network tells it, and the logits.
    """

    target: Target
    record: Array
    candidates: Candidates
    complete: Array
    value: Array
    neurons: Callable[[Any, Array], Array] | None = static(default=None)

    def check_values(self) -> None:
        """Raises ValueError if records, values or weights cannot be right."""
        self.candidates.check_values()
        validation.check_finite("The records", self.record)
        validation.check_finite("The complete records", self.complete)
        validation.check_finite("The network's weights", self.target.params)
        width = self.target.shape
        for name, x in (("records", self.record), ("complete records", self.complete)):
            if x.ndim != 2 or x.shape[1:] != width or not x.shape[0]:
                raise ValueError(
                    f"The {name} are {x.shape} but the network takes [N, *{width}]: "
                    "encode them as for its training."
                )
        size = self.candidates.encodings.shape[0]
        if self.candidates.value is not None:
            raise ValueError("The candidates are of several fields: give one field's.")
        if self.value.shape != self.complete.shape[:1]:
            raise ValueError(
                f"value is {self.value.shape}: give one a complete record, "
                f"{self.complete.shape[:1]}."
            )
        value = concrete(self.value)
        if value is not None and not (0 <= value.min() <= value.max() < size):
            raise ValueError(
                f"value holds {value.min()} to {value.max()}: the candidates are 0 to "
                f"{size - 1}."
            )

    def activations(self, x: Array) -> Array:
        """The network's neurons, `[B, M]`."""
        if self.neurons is not None:
            return self.neurons(self.target.params, x)
        said = self.target.predict(x)
        if said.features is None:
            return said.logits
        features = said.features.reshape(x.shape[0], -1)
        return jnp.concatenate([features, said.logits], 1)
