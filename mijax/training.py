"""Minibatch training as one `scan`: targets, evaluators, generators, decoders.

`fit` runs any `step`; `supervised` is the step of a classifier. Step `t` depends on
`t`, the key and the state alone, so training in chunks, with a checkpoint between,
ends in the same bits as training in one go; `jax.vmap(fit, ...)` trains many models.
"""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array, lax

from mijax.core import Defense, Prediction, pytree
from mijax.core.networks import mode_flags, training_flags

State = TypeVar("State")
Product = TypeVar("Product")
Batch = Any
Step = Callable[[Array, State, Batch], tuple[State, dict[str, Array]]]


class Training(NamedTuple, Generic[State, Product]):
    """What an adversary trains before an attack: a prior, a decoder, a surrogate.

    `fit` runs it in one program. To run it in chunks, with a checkpoint between, call
    `init` once, the module's `fit` with `step` for each chunk, and `finish` at the end.

    Attributes:
      init: `key -> state` before the first step.
      step: `(key, state, batch) -> (state, metrics)`.
      finish: `state -> product`, which is what the attack's knowledge holds.
    """

    init: Callable[[Array], State]
    step: Step[State]
    finish: Callable[[State], Product]

    def fit(
        self, key: Array, data: Any, *, batch_size: int, steps: int
    ) -> tuple[Product, dict[str, Array]]:
        """Trains from the start; returns the product, and metrics `[steps, ...]`.

        The key is consumed. Arguments and errors are those of the module's `fit`.
        """
        init_key, fit_key = jax.random.split(key)
        state, metrics = fit(
            fit_key,
            self.init(init_key),
            self.step,
            data,
            batch_size=batch_size,
            steps=steps,
        )
        return self.finish(state), metrics


def fit(
    key: Array,
    state: State,
    step: Step[State],
    data: Any,
    *,
    batch_size: int,
    steps: int,
    first: int | Array = 0,
) -> tuple[State, dict[str, Array]]:
    """Runs `steps` steps over minibatches, each epoch in a new order.

    Args:
      key: the key of the whole training, the same for all of its chunks.
      state: what `step` carries.
      step: `(key, state, batch) -> (state, metrics)`.
      data: a pytree of arrays `[N, ...]`; a batch is that tree of `[batch_size, ...]`.
      batch_size: examples a step; the last, incomplete batch of an epoch is dropped.
      steps: how many steps to run.
      first: the number of steps already done.

    Returns:
      The state after the last step, and the metrics stacked, `[steps, ...]`.

    Raises:
      ValueError: if there are fewer examples than `batch_size`, if arrays of `data`
        differ in length, or if `steps` is negative.
    """
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1:
        raise ValueError(
            f"data holds arrays of {sorted(lengths)} examples: they must be as many."
        )
    (number,) = lengths
    if batch_size < 1 or number < batch_size:
        raise ValueError(
            f"batch_size is {batch_size} but there are {number} examples: "
            "choose a batch size between 1 and that."
        )
    if steps < 0:
        raise ValueError(f"steps is {steps}: it must be 0 or more.")
    batches = number // batch_size
    order_key, step_key = jax.random.split(key)

    def order_of(epoch: Array) -> Array:
        return jax.random.permutation(jax.random.fold_in(order_key, epoch), number)

    def body(carry: Any, t: Array) -> tuple[Any, dict[str, Array]]:
        state, order = carry
        epoch, position = t // batches, t % batches
        with jax.named_scope("batch"):
            # A sort takes longer than a small network's step: one an epoch is enough.
            order = lax.cond(position == 0, order_of, lambda _: order, epoch)
            chosen = lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)
            batch = jax.tree.map(lambda leaf: leaf[chosen], data)
        state, metrics = step(jax.random.fold_in(step_key, t), state, batch)
        return (state, order), metrics

    carry = state, order_of(jnp.asarray(first) // batches)
    (state, _), metrics = lax.scan(body, carry, first + jnp.arange(steps))
    return state, metrics


@pytree
class TrainState:
    """A classifier in training.

    Attributes:
      variables: what the Linen module takes: `params`, and `batch_stats` if it has any.
      opt_state: the optimizer's, of `params`.
    """

    variables: Any
    opt_state: Any


def cross_entropy(prediction: Prediction, labels: Array) -> Array:
    """Cross-entropy of each example, `[B]`."""
    return optax.softmax_cross_entropy_with_integer_labels(prediction.logits, labels)


def record_losses(module: nn.Module) -> Callable[[Any, Any], Array]:
    """Returns `(params, (x [B, ...], labels [B])) -> [B]`, each record's cross-entropy.

    It is for networks without state, such as batch statistics: what records tell of
    each other would mix them.
    """

    def losses(params: Any, records: Any) -> Array:
        x, labels = records
        prediction: Any = module.apply({"params": params}, x)
        return cross_entropy(prediction, labels)

    return losses


def train_state(
    key: Array,
    module: nn.Module,
    shape: tuple[int, ...],
    optimizer: optax.GradientTransformation,
) -> TrainState:
    """Initializes a Linen classifier of images of `shape`. The key is consumed."""
    variables = module.init(key, jnp.zeros((1, *shape)), **mode_flags(module))
    return TrainState(variables, optimizer.init(variables["params"]))


def supervised(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    objective: Callable[[Prediction, Array], Array] = cross_entropy,
    augment: Callable[[Array, Array], Array] | None = None,
) -> Step[TrainState]:
    """Returns the step of a classifier; its batch is `(images, labels)`.

    Args:
      module: called in training mode, whose flag is `train`, `training` or
        `deterministic`; returns a `Prediction`. Dropout draws from the step's key.
      optimizer: of the parameters.
      objective: `(prediction, labels [B]) -> losses [B]`; where a defense acts. Labels
        may be probabilities, `[B, K]`.
      augment: `(key, images [B, H, W, C]) -> images`.
    """
    flags = training_flags(module)

    def step(key: Array, state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        images, labels = batch
        if augment is not None:
            images = augment(key, images)
        fixed = {k: v for k, v in state.variables.items() if k != "params"}

        def loss(params: Any) -> tuple[Array, Any]:
            prediction, changed = module.apply(
                {"params": params, **fixed},
                images,
                **flags,
                mutable=list(fixed),
                rngs={"dropout": jax.random.fold_in(key, 1)},
            )
            said = labels if labels.ndim == 1 else jnp.argmax(labels, -1)
            hits = jnp.argmax(prediction.logits, -1) == said
            return jnp.mean(objective(prediction, labels)), (changed, jnp.mean(hits))

        params = state.variables["params"]
        (value, (changed, accuracy)), gradients = jax.value_and_grad(
            loss, has_aux=True
        )(params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, params)
        variables = {"params": optax.apply_updates(params, updates), **changed}
        metrics = {"loss": value, "accuracy": accuracy}
        return TrainState(variables, opt_state), metrics

    return step


def split(
    first: Callable[[Any, Array], Array],
    rest: Callable[[Any, Array], Array],
    optimizer: optax.GradientTransformation,
    defense: Defense = Defense(),
) -> Step[TrainState]:
    """Returns the step of a split classifier; its batch is `(images, labels)`.

    Args:
      first: `(variables, images) -> features`, such as of `mijax.models.cut`.
      rest: `(variables, features) -> logits [B, K]`.
      optimizer: of all parameters.
      defense: of the features that cross, of their dependence on the images, and of
        the loss.
    """
    objective = cross_entropy
    if defense.objective is not None:
        objective = defense.objective(objective)

    def step(key: Array, state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        del key
        images, labels = batch

        def loss(params: Any) -> tuple[Array, Array]:
            features = first({"params": params}, images)
            sent = features if defense.feature is None else defense.feature(features)
            prediction = Prediction(rest({"params": params}, sent), sent)
            value = jnp.mean(objective(prediction, labels))
            if defense.dependence is not None:
                value += defense.dependence(images, features)
            return value, jnp.mean(jnp.argmax(prediction.logits, -1) == labels)

        params = state.variables["params"]
        (value, accuracy), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, params)
        variables = {"params": optax.apply_updates(params, updates)}
        return TrainState(variables, opt_state), {"loss": value, "accuracy": accuracy}

    return step


def minimizing(
    loss: Callable[[Array, Any, Batch], Array],
    optimizer: optax.GradientTransformation,
) -> Step[TrainState]:
    """Returns the step of any loss of parameters.

    Args:
      loss: `(key, params, batch) -> scalar`.
      optimizer: of the parameters.
    """

    def step(key: Array, state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        params = state.variables["params"]
        slope = jax.value_and_grad(loss, argnums=1)
        value, gradients = slope(key, params, batch)
        updates, opt_state = optimizer.update(gradients, state.opt_state, params)
        params = optax.apply_updates(params, updates)
        return TrainState({**state.variables, "params": params}, opt_state), {
            "loss": value
        }

    return step


def shift_and_mirror(reach: int = 3, mirror: bool = True) -> Callable[..., Array]:
    """Returns an augmentation: shifts of up to `reach` pixels, mirrored at random."""

    def augment(key: Array, images: Array) -> Array:
        mirror_key, shift_key = jax.random.split(key)
        batch, height, width, _ = images.shape
        if mirror:
            flip = jax.random.bernoulli(mirror_key, shape=(batch, 1, 1, 1))
            images = jnp.where(flip, images[:, :, ::-1], images)
        pads = ((0, 0), (reach, reach), (reach, reach), (0, 0))
        padded = jnp.pad(images, pads, mode="edge")
        corners = jax.random.randint(shift_key, (batch, 2), 0, 2 * reach + 1)

        def crop(image: Array, corner: Array) -> Array:
            start = corner[0], corner[1], 0
            return lax.dynamic_slice(image, start, (height, width, image.shape[2]))

        return jax.vmap(crop)(padded, corners)

    return augment
