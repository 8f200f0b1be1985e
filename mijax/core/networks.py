"""Networks: models as pure functions that know what of them is trained."""

import abc
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.errors
import jax
import jax.numpy as jnp
from flax import linen, nnx, traverse_util
from jax import Array

_TRAINED = (
    "clients train, such as dropout's, and a client's key is not known: set its "
    "dropout rate to 0, or attack with Recipe(train=False)."
)


class Prediction(NamedTuple):
    """What a classifier says of a batch.

    Attributes:
      logits: unnormalized log-probabilities, `[B, K]`.
      features: the penultimate layer, which `logits` are affine in, `[B, F]`; None
        where the model does not tell.
    """

    logits: Array
    features: Array | None = None


class Network(abc.ABC):
    """A model as a pure function that also knows which of its parameters are trained.

    `Target.from_function` takes one, or any plain function. Instances must be hashable,
    and equal where they compute the same.
    """

    @abc.abstractmethod
    def __call__(self, params: Any, x: Array) -> Any:
        """Returns logits `[B, K]` or a `Prediction`, as the model is deployed."""

    def split(self, params: Any) -> tuple[Any, Any]:
        """Splits parameters into those that are trained, and the rest."""
        return params, None

    def join(self, trained: Any, rest: Any) -> Any:
        """Undoes `split`."""
        del rest
        return trained

    def running(self, params: Any) -> Any:
        """Returns the running statistics of batch normalization, or None."""
        del params
        return None

    def observe(self, params: Any, x: Array, train: bool) -> tuple[Any, Any]:
        """Predicts, and tells each normalized layer's statistics of this batch.

        Args:
          params: all parameters.
          x: `[B, *shape]`.
          train: whether the layers normalize by the batch, or as they are deployed.

        Returns:
          What `__call__` returns, and a tree as `running`'s: means and variances.
        """
        if train:
            raise ValueError(
                "This model has no training mode: make its Target with from_linen, "
                "from_nnx or a mijax.core.Network, or train with running statistics."
            )
        return self(params, x), None


@dataclasses.dataclass(frozen=True)
class Function(Network):
    """A plain function, all of whose parameters are trained."""

    function: Callable[[Any, Array], Any]

    def __call__(self, params: Any, x: Array) -> Any:
        """Returns what the model says of `x`, `[B, *shape]`."""
        return self.function(params, x)


def training_flags(module: linen.Module) -> dict[str, Any]:
    """Returns the arguments that put a Linen module in training mode.

    Its `__call__` takes `train` or `training`, or the negated `deterministic`.

    Raises:
      ValueError: if it takes none of them.
    """
    flags = mode_flags(module, train=True)
    if flags:
        return flags
    raise ValueError(
        f"{type(module).__name__} has no training mode: let its __call__ take `train`, "
        "`training` or `deterministic`, or use its running statistics (train=False)."
    )


def mode_flags(
    module: linen.Module, train: bool = False, method: str = "__call__"
) -> dict[str, Any]:
    """Returns the arguments of training mode, or else those as it is deployed.

    There are none where the method takes none of the flags of `training_flags`.
    """
    parameters = inspect.signature(getattr(type(module), method)).parameters
    flags = {"train": train, "training": train, "deterministic": not train}
    return {name: flags[name] for name in flags if name in parameters}


@dataclasses.dataclass(frozen=True)
class Linen(Network):
    """Calls a Linen module; equal modules are one static function to `jit`."""

    module: linen.Module
    method: str = "__call__"

    def __call__(self, params: Any, x: Array, *labels: Array) -> Any:
        """Returns what the model says of `x`, `[B, *shape]`, of `labels` if given."""
        flags = mode_flags(self.module, method=self.method)
        try:
            return self.module.apply(params, x, *labels, **flags, method=self.method)
        except (
            flax.errors.InvalidRngError,
            flax.errors.ModifyScopeVariableError,
        ) as error:
            raise ValueError(
                f"{type(self.module).__name__} draws random numbers or changes its "
                "statistics where it only predicts: let its __call__ take `train`, "
                "`training` or `deterministic`, and obey it."
            ) from error

    def split(self, params: Any) -> tuple[Any, Any]:
        """Parts what is trained from the rest."""
        rest = {name: tree for name, tree in params.items() if name != "params"}
        return params["params"], rest

    def join(self, trained: Any, rest: Any) -> Any:
        """Undoes `split`."""
        return {"params": trained, **rest}

    def running(self, params: Any) -> Any:
        """Returns batch normalization's running statistics, or None."""
        return params.get("batch_stats")

    def observe(self, params: Any, x: Array, train: bool) -> tuple[Any, Any]:
        """Predicts, and tells this batch's statistics."""
        seen: dict[tuple[str, ...], Array] = {}

        def watch(call: Any, arguments: Any, options: Any, context: Any) -> Any:
            layer = context.module
            if isinstance(layer, linen.BatchNorm) and context.method_name == "__call__":
                inputs = arguments[0] if arguments else options["x"]
                axes = tuple(range(inputs.ndim - 1))
                seen[(*layer.path, "mean")] = jnp.mean(inputs, axes)
                seen[(*layer.path, "var")] = jnp.var(inputs, axes)
            return call(*arguments, **options)

        with linen.intercept_methods(watch):
            if train:
                output, _ = self._in_training(params, x)
            else:
                output = self(params, x)
        return output, traverse_util.unflatten_dict(seen) if seen else None

    def _in_training(self, params: Any, x: Array) -> tuple[Any, Any]:
        flags = training_flags(self.module)
        try:
            return self.module.apply(params, x, **flags, mutable=["batch_stats"])  # type: ignore[return-value]
        except flax.errors.InvalidRngError as error:
            raise ValueError(
                f"{type(self.module).__name__} draws random numbers where {_TRAINED}"
            ) from error


@dataclasses.dataclass(frozen=True)
class Nnx(Network):
    """Calls an NNX module that was split into its graph and its state."""

    graph: nnx.GraphDef

    def __call__(self, params: Any, x: Array) -> Any:
        """Returns what the model says of `x`, `[B, *shape]`."""
        return self._run(nnx.merge(self.graph, params, copy=True), x)

    def split(self, params: Any) -> tuple[Any, Any]:
        """Parts what is trained from the rest."""
        trained, rest = nnx.split_state(params, nnx.Param, ...)
        return trained, rest

    def join(self, trained: Any, rest: Any) -> Any:
        """Undoes `split`."""
        return nnx.merge_state(trained, rest)

    def running(self, params: Any) -> Any:
        """Returns batch normalization's running statistics, or None."""
        statistics, _ = nnx.split_state(params, nnx.BatchStat, ...)
        return statistics if jax.tree.leaves(statistics) else None

    def observe(self, params: Any, x: Array, train: bool) -> tuple[Any, Any]:
        """Predicts, and tells this batch's statistics."""
        module = nnx.merge(self.graph, params, copy=True)
        module.train() if train else module.eval()
        for _, layer in nnx.iter_modules(module):
            if isinstance(layer, nnx.BatchNorm):
                layer.use_running_average = False
                layer.momentum = 0.0  # So that what is kept is this batch's.
        output = self._run(module, x)
        statistics = self.running(nnx.state(module))
        return output if train else self(params, x), statistics

    @staticmethod
    def _run(module: Any, x: Array) -> Any:
        drawn = jax.tree.leaves(nnx.state(module, nnx.RngCount))
        output = module(x)
        after = jax.tree.leaves(nnx.state(module, nnx.RngCount))
        if any(a is not b for a, b in zip(drawn, after, strict=True)):
            raise ValueError(
                f"{type(module).__name__} draws random numbers where {_TRAINED}"
            )
        return output


@dataclasses.dataclass(frozen=True)
class AffineFirst:
    """A model whose first layer is affine, for `Target.from_function`.

    Many records that differ in a few columns then share that layer's work: see
    `Target.complete`. Equal ones are one static function to `jit`.

    Attributes:
      first: `(params, x [B, *shape]) -> h [B, F]`, affine in `x`.
      rest: `(params, h [B, F]) -> logits [B, K]` or a `Prediction`.
    """

    first: Callable[[Any, Array], Array]
    rest: Callable[[Any, Array], Any]

    @classmethod
    def from_linen(cls, module: linen.Module) -> "AffineFirst":
        """Makes one of a Linen module's methods `first` and `rest`, as `MLP` has."""
        return cls(Linen(module, "first"), Linen(module, "rest"))

    def __call__(self, params: Any, x: Array) -> Any:
        """Returns what the model says of `x`, `[B, *shape]`."""
        return self.rest(params, self.first(params, x))
