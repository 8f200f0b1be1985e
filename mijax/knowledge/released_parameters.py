"""Released models, read weight by weight, and shadow models of their kind."""

import numpy as np
from jax import Array

from mijax.core import concrete, pytree
from mijax.knowledge import validation

Layers = tuple[tuple[Array, Array], ...]


@pytree
class ReleasedParameters:
    """The weights of V fully connected networks, and of M shadow models.

    A network is its layers from the input on, each a kernel `[in, out]` and a bias
    `[out]`. The adversary trained the shadow models itself, with and without the
    property.

    Attributes:
      released: kernels `[V, in, out]` and biases `[V, out]`.
      shadows: `[M, in, out]` and `[M, out]`.
      properties: which property each shadow model's training set had, `[M]` int32: 0
        or 1.
    """

    released: Layers
    shadows: Layers
    properties: Array

    def checked(self) -> "ReleasedParameters":
        """Returns itself, if its shapes fit one another.

        Raises:
          ValueError: if they do not, or if one of the properties has no shadow model.
        """
        number = len(self.shadows[0][0])
        for layer, (ours, theirs) in enumerate(
            zip(self.released, self.shadows, strict=False)
        ):
            for a, b, what in zip(ours, theirs, ("kernel", "bias"), strict=True):
                if a.shape[1:] != b.shape[1:] or len(b) != number:
                    raise ValueError(
                        f"The {what} of layer {layer} is {a.shape} in the released "
                        f"models and {b.shape} in the {number} shadow models: train "
                        "shadow models of the same architecture."
                    )
        if len(self.released) != len(self.shadows):
            raise ValueError(
                f"The released models have {len(self.released)} layers, the shadow "
                f"models {len(self.shadows)}: they must be of one architecture."
            )
        if self.properties.shape != (number,):
            raise ValueError(
                f"properties are {self.properties.shape}: they must be {(number,)}, "
                "one for each shadow model."
            )
        values = concrete(self.properties)
        if values is not None and set(np.unique(values)) != {0, 1}:
            raise ValueError(
                f"properties hold {np.unique(values).tolist()}: they must be 0 and 1, "
                "and there must be shadow models of both."
            )
        return self

    def check_values(self) -> None:
        """Raises ValueError if weights are NaN or infinite."""
        validation.check_finite("The released weights", self.released)
        validation.check_finite("The shadow models' weights", self.shadows)
