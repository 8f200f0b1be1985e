"""Online learning: queries of a model before and after updates."""

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array

from mijax.core import Target, pytree, static
from mijax.knowledge import validation
from mijax.knowledge.black_box import Oracle, afforded


@pytree
class UpdatedModel:
    """Queries of one model and of V updates of it, each with a set of its own.

    Make one with `of`. Differentiating through it raises.

    Attributes:
      oracle: answers queries.
      probes: the probing set, which all models are asked about, `[P, *shape]`.
      public: images of the distribution of the training data, `[M, *shape]`.
      labels: their classes, `[M]`.
      victims: V.
      spent: the number of examples asked about so far.
      budget: how many may be asked about; None for no limit.
    """

    oracle: Oracle
    probes: Array
    public: Array
    labels: Array
    victims: int = static()
    spent: Array | int = 0
    budget: int | None = static(default=None)

    @classmethod
    def of(
        cls,
        before: Target,
        after: Any,
        probes: Array,
        public: Array,
        labels: Array,
        *,
        release: Callable[[Array], Array] | None = None,
        budget: int | None = None,
    ) -> Self:
        """Hides a model and its updates behind their answers.

        Args:
          before: the model.
          after: its parameters after each victim's update, leaves `[V, ...]`.
          probes: `[P, *shape]`.
          public: `[M, *shape]`.
          labels: `[M]`.
          release: what a defense does to the confidences, such as `Defense.output`.
          budget: how many examples may be asked about; each model counts.
        """
        hidden = before, after, release
        oracle = Oracle(_Posteriors(), hidden, before.shape, before.num_classes)  # type: ignore[arg-type]
        victims = len(jax.tree.leaves(after)[0])
        return cls(oracle, probes, public, labels, victims, 0, budget)

    def check_shapes(self) -> None:
        """Raises ValueError if probes, images or labels are not of the model."""
        for name, images in (("probing", self.probes), ("public", self.public)):
            if images.shape[1:] != self.oracle.shape:
                raise ValueError(
                    f"The {name} images are {images.shape[1:]} but the model takes "
                    f"{self.oracle.shape}: resize or convert them first."
                )
        validation.check_labels(self.labels, self.oracle.num_classes)
        if self.labels.shape != self.public.shape[:1]:
            raise ValueError(
                f"There are {self.labels.shape} labels of {len(self.public)} public "
                "images: give one an image."
            )

    def check_values(self) -> None:
        """Raises ValueError if images or labels cannot be right."""
        self.check_shapes()
        validation.check_finite("The probing images", self.probes)
        validation.check_finite("The public images", self.public)

    def query(self) -> tuple[Array, Array, Self]:
        """Asks all models about the probing set, `P (V + 1)` queries.

        Returns:
          Confidences before, `[P, K]`, and after, `[V, P, K]`; and the knowledge with
          the queries counted.

        Raises:
          RuntimeError: when run, if the budget does not allow it.
        """
        asked = self.probes.shape[0] * (self.victims + 1)
        spent = self.spent + jnp.int32(asked)
        answer = self.oracle._answers(afforded(self.budget, spent, self.probes))
        return answer[0], answer[1:], dataclasses.replace(self, spent=spent)


@dataclasses.dataclass(frozen=True)
class _Posteriors:
    """The confidences of a model and of its updates, as a defense releases them."""

    def __call__(self, hidden: Any, x: Array) -> Array:
        before, after, release = hidden

        def posteriors(params: Any) -> Array:
            target = dataclasses.replace(before, params=params)
            scores = jax.nn.softmax(target.predict(x).logits)
            return scores if release is None else release(scores)

        first = posteriors(before.params)[None]
        return jnp.concatenate([first, jax.vmap(posteriors)(after)])
