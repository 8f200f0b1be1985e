"""The vocabulary that everything else is written in: pytrees, targets, results.

Letters: B batch, V victims, R restarts, K classes, F features; images are
`[H, W, C]` in [0, 1]. Of records: D columns, S values of the sensitive field.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx, traverse_util
from jax import Array
from jax.core import Tracer

T = TypeVar("T")


def static(**options: Any) -> Any:
    """Declares a field of a `pytree` that is structure (a function, a size)."""
    return dataclasses.field(metadata={"static": True}, **options)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def pytree(cls: type[T]) -> type[T]:
    """Makes a frozen dataclass whose fields are leaves, but for the `static` ones."""
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


def known(value: Any) -> np.ndarray | None:
    """Returns the numbers of an array, or None inside a trace, where there are none."""
    if not isinstance(value, np.ndarray | np.generic | jax.Array):
        return None
    if isinstance(value, Tracer):
        return None
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return None
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return None  # Other hosts hold the rest.
    return jax.device_get(value)


class Prediction(NamedTuple):
    """What a classifier says of a batch.

    Attributes:
      logits: unnormalized log-probabilities, `[B, K]`.
      features: the penultimate layer, which `logits` are affine in, `[B, F]`; None
        where the model does not tell.
    """

    logits: Array
    features: Array | None = None


class Network:
    """A model as a pure function that also knows which of its parameters are trained.

    `Target.from_function` takes one, or any plain function. Instances must be hashable,
    and equal where they compute the same.
    """

    def __call__(self, params: Any, x: Array) -> Any:
        """Returns logits `[B, K]` or a `Prediction`, as the model is deployed."""
        raise NotImplementedError

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
class _Function(Network):
    """A plain function, all of whose parameters are trained."""

    function: Callable[[Any, Array], Any]

    def __call__(self, params: Any, x: Array) -> Any:
        return self.function(params, x)


@dataclasses.dataclass(frozen=True)
class _Linen(Network):
    """Calls a Linen module; equal modules are one static function to `jit`."""

    module: linen.Module
    method: str = "__call__"

    def __call__(self, params: Any, x: Array) -> Any:
        return self.module.apply(params, x, method=self.method)

    def split(self, params: Any) -> tuple[Any, Any]:
        rest = {name: tree for name, tree in params.items() if name != "params"}
        return params["params"], rest

    def join(self, trained: Any, rest: Any) -> Any:
        return {"params": trained, **rest}

    def running(self, params: Any) -> Any:
        return params.get("batch_stats")

    def observe(self, params: Any, x: Array, train: bool) -> tuple[Any, Any]:
        seen: dict[tuple[str, ...], Array] = {}

        def watch(call: Any, arguments: Any, options: Any, context: Any) -> Any:
            layer = context.module
            if isinstance(layer, linen.BatchNorm) and context.method_name == "__call__":
                inputs = arguments[0]
                axes = tuple(range(inputs.ndim - 1))
                seen[(*layer.path, "mean")] = jnp.mean(inputs, axes)
                seen[(*layer.path, "var")] = jnp.var(inputs, axes)
            return call(*arguments, **options)

        with linen.intercept_methods(watch):
            if train:
                output, _ = self.module.apply(
                    params, x, train=True, mutable=["batch_stats"]
                )
            else:
                output = self.module.apply(params, x)
        return output, traverse_util.unflatten_dict(seen) if seen else None


@dataclasses.dataclass(frozen=True)
class _Nnx(Network):
    """Calls an NNX module that was split into its graph and its state."""

    graph: nnx.GraphDef

    def __call__(self, params: Any, x: Array) -> Any:
        return nnx.merge(self.graph, params)(x)

    def split(self, params: Any) -> tuple[Any, Any]:
        trained, rest = nnx.split_state(params, nnx.Param, ...)
        return trained, rest

    def join(self, trained: Any, rest: Any) -> Any:
        return nnx.merge_state(trained, rest)

    def running(self, params: Any) -> Any:
        statistics, _ = nnx.split_state(params, nnx.BatchStat, ...)
        return statistics if jax.tree.leaves(statistics) else None

    def observe(self, params: Any, x: Array, train: bool) -> tuple[Any, Any]:
        module = nnx.merge(self.graph, params, copy=True)
        module.train()
        for _, layer in nnx.iter_modules(module):
            if isinstance(layer, nnx.BatchNorm):
                layer.momentum = 0.0  # So that what is kept is this batch's.
        output = module(x)
        statistics = self.running(nnx.state(module))
        return output if train else self(params, x), statistics


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
        return cls(_Linen(module, "first"), _Linen(module, "rest"))

    def __call__(self, params: Any, x: Array) -> Any:
        """Returns what the model says of `x`, `[B, *shape]`."""
        return self.rest(params, self.first(params, x))


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
        x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
        try:
            output = jax.eval_shape(function, params, x)
        except Exception as error:
            raise ValueError(
                f"The model does not accept images of shape {shape}: "
                f"{type(error).__name__}: {error}"
            ) from error
        logits = output.logits if isinstance(output, Prediction) else output
        logits_shape = getattr(logits, "shape", None)
        if logits_shape is None or len(logits_shape) != 2 or logits_shape[0] != 2:
            raise ValueError(
                f"The model returns {output} for 2 images: it must return logits "
                "[2, num_classes] or a mijax.core.Prediction."
            )
        return cls(params, function, tuple(shape), logits_shape[1])

    @classmethod
    def from_linen(
        cls, module: linen.Module, variables: Any, shape: tuple[int, ...]
    ) -> "Target":
        """Makes a target of a Flax Linen module and its variables."""
        return cls.from_function(_Linen(module), variables, shape)

    @classmethod
    def from_nnx(cls, module: nnx.Module, shape: tuple[int, ...]) -> "Target":
        """Makes a target of a Flax NNX module, as it stands.

        Call `module.eval()` first if it holds dropout or batch normalization.
        """
        graph, state = nnx.split(module)
        return cls.from_function(_Nnx(graph), state, shape)

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
            origin = first(self.params, jnp.zeros_like(filled[:1]))
            known = first(self.params, known)
            filled = first(self.params, filled) - origin
        else:
            rest = self.function
        h = known[None] + filled[:, None]  # [K, B, F]
        output = rest(self.params, h.reshape(-1, h.shape[-1]))
        return _prediction(output).logits.reshape(*h.shape[:2], -1)

    @property
    def network(self) -> Network:
        """The function, as one that knows which of its parameters are trained."""
        function = self.function
        return function if isinstance(function, Network) else _Function(function)

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


def _prediction(output: Any) -> Prediction:
    return output if isinstance(output, Prediction) else Prediction(output)


def split_columns(records: Array, columns: Array, values: Array) -> tuple[Array, Array]:
    """Returns records `[B, D]` and completions `[K, D]` whose sums are complete.

    Each is 0 where the other stands.
    """
    blank = jnp.zeros((values.shape[0], records.shape[1]), records.dtype)
    return records.at[:, columns].set(0.0), blank.at[:, columns].set(values)


@pytree
class Prior:
    """A generator of images from public data, and the critic it was trained with.

    Attributes:
      generator: the parameters of `generate`.
      critic: the parameters of `criticize`.
      generate: `(generator, z [B, Z]) -> images [B, H, W, C]`.
      criticize: `(critic, images) -> [B]`, higher where more like public data.
      latent_size: Z.
      shape: of one image.
    """

    generator: Any
    critic: Any
    generate: Callable[[Any, Array], Any] = static()
    criticize: Callable[[Any, Array], Any] = static()
    latent_size: int = static()
    shape: tuple[int, ...] = static()

    @classmethod
    def from_linen(
        cls,
        generator: linen.Module,
        generator_variables: Any,
        critic: linen.Module,
        critic_variables: Any,
        latent_size: int,
    ) -> "Prior":
        """Makes a prior of two Linen modules and their variables."""
        z = jax.ShapeDtypeStruct((2, latent_size), jnp.float32)
        images = jax.eval_shape(_Linen(generator), generator_variables, z)
        return cls(
            generator_variables,
            critic_variables,
            _Linen(generator),
            _Linen(critic),
            latent_size,
            images.shape[1:],
        )

    def images(self, z: Array) -> Array:
        """Generates `[B, H, W, C]` from latents `[B, Z]`."""
        return self.generate(self.generator, z)

    def realism(self, x: Array) -> Array:
        """Returns the critic's score of images, `[B]`."""
        return self.criticize(self.critic, x)


@pytree
class Glimpse:
    """What is seen of a victim's private image: blurred, or a part of it.

    Attributes:
      image: what is seen, `[V, H, W, C]`.
      see: `images [B, H, W, C] -> what would be seen of them`; a pytree, such as a
        `jax.tree_util.Partial` of a function and its mask.
    """

    image: Array
    see: Callable[[Array], Array]


@pytree
class Reconstruction:
    """What an attack recovered.

    Attributes:
      x: the chosen reconstruction of each victim, `[V, H, W, C]`.
      loss: the attack's own objective there, `[V]`; restarts are chosen by it.
      candidates: all restarts, `[V, R, H, W, C]`.
      losses: their objectives, `[V, R]`.
      trace: the objective by iteration, `[steps + 1, V, R]`.
      queries: how many examples a black box was asked about; 0 for a white box.
      labels: the classes recovered beside the images, where an attack does so; `[V, B]`
        for a shared update of B examples, whose `x` is then `[V, B, H, W, C]` and
        `candidates` `[V, R, B, H, W, C]`.
    """

    x: Array
    loss: Array
    candidates: Array
    losses: Array
    trace: Array
    queries: Array
    labels: Array | None = None


def choose(
    candidates: Array,
    losses: Array,
    trace: Array,
    queries: Array | int = 0,
    labels: Array | None = None,
) -> Reconstruction:
    """Chooses each victim's restart by the attack's own loss; NaN cannot win.

    `labels` are those of all restarts, `[V, R, B]`.
    """
    finite = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
    best = jnp.argmin(finite, axis=1)
    rows = jnp.arange(losses.shape[0])
    return Reconstruction(
        x=candidates[rows, best],
        loss=losses[rows, best],
        candidates=candidates,
        losses=losses,
        trace=trace,
        queries=jnp.asarray(queries, jnp.int32),
        labels=None if labels is None else labels[rows, best],
    )


@pytree
class Inference:
    """What an attack inferred of each victim's sensitive field.

    Attributes:
      guess: the value, as an index into the candidates, `[V]` int32; -1 where the
        adversary declares none.
      log_posterior: of the values, `[V, S]`, in nats; their probabilities sum to 1.
        An impossible value has the least finite number.
      queries: how many records a black box was asked about; 0 for a white box.
    """

    guess: Array
    log_posterior: Array
    queries: Array


def infer(
    log_joint: Array,
    log_prior: Array,
    queries: Array | int = 0,
    key: Array | None = None,
) -> Inference:
    """Guesses the likeliest value; evidence that excludes all of them is no evidence.

    Args:
      log_joint: of each value and what was observed, `[V, S]`, up to a constant for
        each victim. Where no value is possible, the posterior is the prior.
      log_prior: `[V, S]` or `[1, S]`.
      queries: how many were asked.
      key: breaks ties at random; without one the first of them wins.
    """
    # Values lead, so that sums over few of them vectorize over victims. Without the
    # barrier XLA puts them last again, which takes twice as long on CPU.
    joint = jax.lax.optimization_barrier(log_joint.T)
    best = jnp.max(joint, 0, keepdims=True)
    prior = log_prior.T - jnp.max(log_prior.T, 0, keepdims=True)
    joint = jnp.where(jnp.isfinite(best), joint - best, prior)  # The likeliest has 0.
    rank = 1.0 if key is None else jax.random.uniform(key, joint.shape, minval=0.5)
    total = jnp.log(jnp.sum(jnp.exp(joint), 0, keepdims=True))
    return Inference(
        guess=jnp.argmax((joint == 0) * rank, 0).astype(jnp.int32),
        log_posterior=jnp.maximum(joint - total, jnp.finfo(joint.dtype).min).T,
        queries=jnp.asarray(queries, jnp.int32),
    )


@pytree
class Paths:
    """A decision tree as its paths, each a box, and who took them in training.

    Attributes:
      low: a record takes a path where `low < x <= high` in every column, `[P, D]`.
      high: `[P, D]`.
      counts: training examples that took each path, by class, `[P, K]`.
    """

    low: Array
    high: Array
    counts: Array


def in_chunks(function: Callable[[Any], T], rows: Any, size: int) -> T:
    """Maps a function of many rows over all of them, `size` at a time.

    Args:
      function: from a tree of rows, leaves `[B, ...]`, to another.
      rows: leaves `[N, ...]`.
      size: how many at a time; the last ones may be fewer.
    """
    number = jax.tree.leaves(rows)[0].shape[0]
    if number <= size:
        return function(rows)
    whole = number // size * size
    chunks = jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), rows)
    found = jax.lax.map(function, chunks)
    found = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
    if whole == number:
        return found
    rest = function(jax.tree.map(lambda x: x[whole:], rows))
    return jax.tree.map(lambda *x: jnp.concatenate(x), found, rest)
