"""Targets: models under attack."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from jax import Array

from mijax.core.networks import (
    AffineFirst,
    Function,
    Linen,
    Network,
    Nnx,
    Prediction,
)
from mijax.core.pytrees import pytree, static

_HELD = 128  # what a model that does not tell may hold of each completion


@pytree
class Target:
    """A model under attack: a pure function, its parameters, and its sizes.

    Make one with `from_function`, `from_linen` or `from_nnx`.

    Attributes:
      params: whatever `function` takes first.
      function: `(params, x [B, *shape]) -> logits [B, K]` or a `Prediction`.
      shape: of one example.
      num_classes: K.
    """

    params: Any
    function: Callable[[Any, Array], Any] = static()
    shape: tuple[int, ...] = static()
    num_classes: int = static()

    @classmethod
    def from_function(
        cls, function: Callable[[Any, Array], Any], params: Any, shape: tuple[int, ...]
    ) -> "Target":
        """Makes a target of any `f(params, x [B, *shape])`.

        Bind `function` once: `jit` compiles again for each new function object.

        Raises:
          ValueError: if the function does not map `[B, *shape]` to `[B, K]`.
        """
        if isinstance(shape, int):
            raise ValueError(
                f"shape is {shape}: give that of one example, such as (28, 28, 1)."
            )
        x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
        try:
            output = jax.eval_shape(function, params, x)
        except Exception as error:
            said = " ".join(str(error).split())
            raise ValueError(
                f"The model does not accept images of shape {shape}: give the shape of "
                "one example, and the parameters as the function takes them "
                f"({type(error).__name__}: {said:.200})."
            ) from error
        logits = output.logits if isinstance(output, Prediction) else output
        logits_shape = getattr(logits, "shape", None)
        if logits_shape is None or len(logits_shape) != 2 or logits_shape[0] != 2:
            raise ValueError(
                f"The model returns {_shaped(output)} for 2 images: it must return "
                "logits [2, num_classes] or a mijax.core.Prediction."
            )
        return cls(params, function, tuple(shape), logits_shape[1])

    @classmethod
    def from_linen(
        cls, module: linen.Module, variables: Any, shape: tuple[int, ...]
    ) -> "Target":
        """Makes a target of a Flax Linen module and its variables."""
        return cls.from_function(Linen(module), variables, shape)

    @classmethod
    def from_nnx(cls, module: nnx.Module, shape: tuple[int, ...]) -> "Target":
        """Makes a target of a copy of a Flax NNX module, in evaluation mode.

        Raises:
          ValueError: as `from_function`, or if it draws random numbers all the same.
        """
        if not isinstance(module, nnx.Module):
            raise ValueError(
                f"The module is {module!r:.80}: give an instance of a flax.nnx.Module."
            )
        module = nnx.clone(module)
        module.eval()
        graph, state = nnx.split(module)
        return cls.from_function(Nnx(graph), state, shape)

    def predict(self, x: Array) -> Prediction:
        """Returns the model's prediction of images `[B, *shape]`.

        Raises:
          ValueError: if the images are of another shape.
        """
        if x.shape[1:] != self.shape:
            raise ValueError(
                f"Images are {x.shape[1:]} but the target takes {self.shape}: resize "
                "or convert them first."
            )
        return _prediction(self.function(self.params, x))

    def complete(self, records: Array, columns: Array, values: Array) -> Array:
        """Returns the logits of each completion of each record, `[K, B, classes]`.

        An affine first layer sees each record once and each completion once, not
        each pair.

        Args:
          records: `[B, D]`; what stands in `columns` is ignored.
          columns: the unknown ones, `[d]`.
          values: what to fill in, `[K, d]`.
        """
        known, filled = split_columns(records, columns, values)
        if isinstance(self.function, AffineFirst):
            first, rest = self.function.first, self.function.rest
            known = first(self.params, known)
            # What is affine changes by its derivative, without the bias.
            blank = jnp.zeros_like(filled)
            _, filled = jax.jvp(partial(first, self.params), (blank,), (filled,))
        else:
            rest = self.function
        h = known[None] + filled[:, None]  # [K, B, F]
        output = rest(self.params, h.reshape(-1, h.shape[-1]))
        return _prediction(output).logits.reshape(*h.shape[:2], -1)

    @property
    def held(self) -> int:
        """How many numbers `complete` holds of each completion, as far as is known."""
        if not isinstance(self.function, AffineFirst):
            return _HELD
        x = jax.ShapeDtypeStruct((1, *self.shape), jnp.float32)
        return jax.eval_shape(self.function.first, self.params, x).shape[-1]

    @property
    def network(self) -> Network:
        """The function, as one that knows which of its parameters are trained."""
        function = self.function
        return function if isinstance(function, Network) else Function(function)

    @property
    def trained(self) -> Any:
        """The parameters that training changes: without running statistics."""
        return self.network.split(self.params)[0]

    def with_trained(self, trained: Any) -> "Target":
        """Returns the target with other values of what training changes."""
        _, rest = self.network.split(self.params)
        return dataclasses.replace(self, params=self.network.join(trained, rest))

    @property
    def running_statistics(self) -> Any:
        """Batch normalization's means and variances, a tree; None without it."""
        return self.network.running(self.params)

    def observe(self, x: Array, train: bool = False) -> tuple[Prediction, Any]:
        """Predicts `[B, *shape]`, and tells each normalized layer's batch statistics.

        Args:
          x: images `[B, *shape]`.
          train: whether layers normalize by the batch, as in training, or by their
            running statistics.

        Returns:
          The prediction, and a tree as `running_statistics`.
        """
        output, statistics = self.network.observe(self.params, x, train)
        return _prediction(output), statistics


def refuse_one_output(num_classes: int) -> None:
    """Refuses a classifier of one class, such as a lone sigmoid's logit.

    Raises:
      ValueError: if it is one.
    """
    if num_classes == 1:
        raise ValueError(
            "The model has one output, whose softmax is 1 whatever the image: of a "
            "lone sigmoid's logit z [B, 1], return jnp.concatenate([0 * z, z], 1)."
        )


def _shaped(output: Any) -> str:
    """What a model returned, in few words: never all of its numbers."""
    said = jax.tree.map(
        lambda leaf: (
            f"{getattr(leaf, 'dtype', type(leaf).__name__)}"
            f"{list(getattr(leaf, 'shape', ()))}"
        ),
        output,
    )
    return f"{said!s:.120}"


def _prediction(output: Any) -> Prediction:
    return output if isinstance(output, Prediction) else Prediction(output)


def split_columns(records: Array, columns: Array, values: Array) -> tuple[Array, Array]:
    """Returns records `[B, D]` and completions `[K, D]` whose sums are complete.

    Each is 0 where the other stands.
    """
    at = columns[:, None] == np.arange(records.shape[1])[None]  # [d, D]
    known = jnp.where(jnp.any(at, 0)[None], 0, records)
    filled = jnp.matmul(values, at.astype(values.dtype), precision="highest")
    return known, filled.astype(records.dtype)
