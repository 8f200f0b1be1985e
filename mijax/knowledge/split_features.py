"""Split networks: the features that cross from one party's half to the other's."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jax import Array

from mijax.core import pytree, static
from mijax.knowledge import validation
from mijax.knowledge.black_box import Oracle, afforded


@pytree
class Half:
    """One half of a split network.

    Attributes:
      params: of its layers alone.
      function: `(params, x [B, ...]) -> [B, ...]`.
    """

    params: Any
    function: Callable[[Any, Array], Array] = static()

    def __call__(self, x: Array) -> Array:
        """Returns what the half makes of `x`, `[B, ...]`."""
        return self.function(self.params, x)


@pytree
class SplitFeatures:
    """What crossed the split for each victim: the base of three threat models.

    Attributes:
      features: of the victims' inputs, as they were sent, `[V, ...]`.
      shape: of one input, (H, W, C).
    """

    features: Array
    shape: tuple[int, ...] = static()

    def check_values(self) -> None:
        """Raises ValueError if features or public images cannot be right."""
        validation.check_finite("The features", self.features)
        public = getattr(self, "public", None)
        validation.check_finite("The public images", public)

    @property
    def victims(self) -> int:
        """V."""
        return self.features.shape[0]

    def _check_features(self, made: tuple[int, ...]) -> None:
        if self.features.ndim < 2 or self.features.shape[1:] != made:
            raise ValueError(
                f"The features are {self.features.shape} but the first half makes "
                f"{('V', *made)}: give those of this layer."
            )


@pytree
class SplitWhiteBox(SplitFeatures):
    """The features and the first half itself, which may be differentiated.

    Attributes:
      first: the first half.
    """

    VICTIMS: ClassVar = ("features",)

    first: Half

    def check_shapes(self) -> None:
        """Raises ValueError if the first half does not make such features."""
        x = jax.ShapeDtypeStruct((1, *self.shape), jnp.float32)
        made = jax.eval_shape(self.first.function, self.first.params, x)
        self._check_features(made.shape[1:])

    def check_values(self) -> None:
        """Raises ValueError if features or parameters cannot be right."""
        super().check_values()
        validation.check_finite("The first half's parameters", self.first.params)


@pytree
class SplitQueries(SplitFeatures):
    """The features, and a query of the first half: make one with `of`.

    Attributes:
      oracle: answers queries, and cannot be differentiated.
      public: images to ask about, `[M, *shape]`.
      spent: the number of examples asked about so far.
      budget: how many may be asked about; None for no limit.
    """

    oracle: Oracle
    public: Array
    spent: Array | int = 0
    budget: int | None = static(default=None)

    @classmethod
    def of(
        cls,
        features: Array,
        shape: tuple[int, ...],
        first: Half,
        public: Array,
        *,
        release: Callable[[Array], Array] | None = None,
        budget: int | None = None,
    ) -> Self:
        """Hides a first half behind what it sends; `release` is `Defense.feature`."""
        oracle = Oracle(_Sends(), (first, release), shape, 0)  # type: ignore[arg-type]
        return cls(features, tuple(shape), oracle, public, 0, budget)

    def query(self, x: Array) -> tuple[Array, Self]:
        """Asks about inputs `[B, *shape]`.

        Returns:
          The features, and the knowledge with the queries counted.

        Raises:
          ValueError: if the inputs are of another shape.
          RuntimeError: when run, if the budget does not allow it.
        """
        spent = self.spent + jnp.int32(x.shape[0])
        answer = self.oracle._answers(afforded(self.budget, spent, x))
        self._check_features(answer.shape[1:])
        return answer, dataclasses.replace(self, spent=spent)


@pytree
class SplitQueryFree(SplitFeatures):
    """The features, the second half, and public images with their labels.

    Attributes:
      rest: the second half, `features [B, ...] -> logits [B, K]`.
      public: images such as those that the network was trained on, `[M, *shape]`.
      labels: their classes, `[M]`.
    """

    rest: Half
    public: Array
    labels: Array

    def check_shapes(self) -> None:
        """Raises ValueError if the halves' shapes or the labels do not fit."""
        features = jax.ShapeDtypeStruct((1, *self.features.shape[1:]), jnp.float32)
        try:
            logits = jax.eval_shape(self.rest.function, self.rest.params, features)
        except Exception as error:
            raise ValueError(
                f"The second half does not take features {self.features.shape}: give "
                f"those of its layer ({type(error).__name__})."
            ) from error
        validation.check_labels(self.labels, logits.shape[-1])
        if self.labels.shape != self.public.shape[:1]:
            raise ValueError(
                f"There are {self.labels.shape} labels of {len(self.public)} public "
                "images: give one an image."
            )


@dataclasses.dataclass(frozen=True)
class _Sends:
    """What a first half sends, as a defense lets it out."""

    def __call__(self, hidden: Any, x: Array) -> Array:
        first, release = hidden
        features = first(x)
        return features if release is None else release(features)
