"""What one client computes and shares.

`client_update` is written once. The victim computes what is shared with it, and an
adversary who searches for the batch matches the same function: at the true batch the
two agree.

Letters: V clients, B examples of each; images `[V, B, H, W, C]`, labels `[V, B]`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from mijax.core import (
    Defense,
    Prediction,
    Target,
    concrete,
    hyper_parameters,
    independent,
    refuse_one_output,
    static,
)
from mijax.training import cross_entropy

Optimizer = Callable[..., optax.GradientTransformation]


@hyper_parameters
class Recipe:
    """How a client trains; all who take part know it.

    Attributes:
      loss: `(prediction, labels [B]) -> losses [B]`, such as
        `mijax.training.cross_entropy`.
      local_steps: 0 shares the mean gradient of the batch (FedSGD); n shares the change
        of the weights after n steps of SGD (FedAvg).
      local_batch: examples a local step, taken in order and from the front again; None
        for the whole batch. It must divide the batch.
      learning_rate: of the local steps.
      optimizer: of the local steps, from their rate: `optax.sgd`, `optax.adam`, or a
        function that adds momentum or weight decay. Its state begins anew. An attack
        differentiates it: Adam of an `eps_root` above 0 has slopes at gradients of 0.
      train: whether batch normalization normalizes by the batch, as in training, or by
        its running statistics.
      share_statistics: whether the batch's means and variances are shared as well.
    """

    loss: Callable[[Prediction, Array], Array] = static(default=cross_entropy)
    local_steps: int = static(default=0)
    local_batch: int | None = static(default=None)
    learning_rate: float | Array = 0.1
    optimizer: Optimizer = static(default=optax.sgd)
    train: bool = static(default=False)
    share_statistics: bool = static(default=False)

    def __post_init__(self) -> None:
        """Refuses a recipe that no client can follow."""
        if not callable(self.loss):
            raise ValueError(
                f"The recipe's loss is {self.loss!r}: give a function of (prediction, "
                "labels [B]) that returns losses [B], such as "
                "mijax.training.cross_entropy."
            )
        if not callable(self.optimizer):
            raise ValueError(
                f"The recipe's optimizer is {self.optimizer!r}: give a function of the "
                "learning rate that makes one, such as optax.sgd."
            )
        if self.local_steps < 0:
            raise ValueError(
                f"local_steps is {self.local_steps}: it must be 0, for the gradient, "
                "or more."
            )
        if self.local_batch is not None and self.local_batch < 1:
            raise ValueError(f"local_batch is {self.local_batch}: it must be positive.")
        rate = concrete(self.learning_rate)
        if self.local_steps and rate is not None and not np.all(rate > 0):
            raise ValueError(
                f"learning_rate is {self.learning_rate}: local steps share no change "
                "unless it is positive."
            )


class Update(NamedTuple):
    """What one client computes.

    Attributes:
      change: the mean gradient, or the change of the weights; a tree as
        `Target.trained`.
      statistics: means and variances of the (last) batch, a tree as
        `Target.running_statistics`; None where there is none.
    """

    change: Any
    statistics: Any


def batch_losses(recipe: Recipe, prediction: Prediction, labels: Array) -> Array:
    """Returns the recipe's loss of each example, `[B]`.

    Args:
      recipe: how clients train.
      prediction: of B examples.
      labels: classes `[B]`, or distributions over them `[B, K]`, of which the expected
        loss is taken.
    """
    if labels.ndim == 1:
        return recipe.loss(prediction, labels)
    classes = jnp.arange(labels.shape[1])

    def of_class(label: Array) -> Array:
        return recipe.loss(prediction, jnp.full(labels.shape[:1], label))

    losses = jax.vmap(of_class, out_axes=1)(classes)  # [B, K]
    return jnp.sum(labels * losses, 1)


def client_update(
    recipe: Recipe,
    target: Target,
    x: Array,
    labels: Array,
    defense: Defense = Defense(),
    key: Array | None = None,
) -> Update:
    """Computes what one client shares of its batch, defended.

    A defense's `feature` and `output` act elsewhere, and are left alone.

    Args:
      recipe: how clients train.
      target: the model that the server sent.
      x: `[B, *shape]`.
      labels: classes `[B]` or distributions over them `[B, K]`.
      defense: of the loss, of single examples' gradients, and of what is shared.
      key: of the randomness of `defense.update`; the key is consumed. None where the
        defense is not random, or draws from its own seed alone.

    Raises:
      ValueError: if `local_batch` does not divide B, if the recipe asks for a training
        mode that the target lacks, or if it lets examples bypass a defense of their
        gradients.
    """
    if defense.objective is not None:
        recipe = dataclasses.replace(recipe, loss=defense.objective(recipe.loss))
    change, statistics = _computed(recipe, target, x, labels, defense.example_gradient)
    if defense.update is not None:
        extra = {} if key is None else {"key": key}
        change, _ = defense.update.update(
            change,
            defense.update.init(target.trained),
            target.trained,
            target=target,
            x=x,
            labels=labels,
            **extra,
        )
    return Update(change, statistics)


def _computed(
    recipe: Recipe,
    target: Target,
    x: Array,
    labels: Array,
    example_gradient: Callable[[Any], Any] | None,
) -> Update:
    """Computes the gradient, or the change of weights, before it is shared."""
    if example_gradient is not None:
        _refuse_ways_past(recipe)
    if recipe.local_steps == 0:
        return _gradient(recipe, target, x, labels, example_gradient)
    size = recipe.local_batch or x.shape[0]
    if x.shape[0] % size:
        raise ValueError(
            f"local_batch is {size}, which does not divide a batch of {x.shape[0]}: "
            "choose one that does, or a batch of as many as whole steps take."
        )
    batches = x.shape[0] // size
    x = x.reshape(batches, size, *x.shape[1:])
    labels = labels.reshape(batches, size, *labels.shape[1:])

    optimizer = recipe.optimizer(recipe.learning_rate)

    def step(state: tuple[Any, Any], t: Array) -> tuple[Any, Any]:
        weights, moments = state
        gradient, statistics = _gradient(
            recipe,
            target.with_trained(weights),
            x[t % batches],
            labels[t % batches],
            None,
        )
        change, moments = optimizer.update(gradient, moments, weights)
        return (optax.apply_updates(weights, change), moments), statistics

    # Attacks differentiate through these steps: the weights of each are made anew.
    steps = jnp.arange(recipe.local_steps)
    state = target.trained, optimizer.init(target.trained)
    (after, _), statistics = lax.scan(jax.checkpoint(step), state, steps)
    change = jax.tree.map(jnp.subtract, after, target.trained)
    return Update(change, jax.tree.map(lambda leaf: leaf[-1], statistics))


def _gradient(
    recipe: Recipe,
    target: Target,
    x: Array,
    labels: Array,
    example_gradient: Callable[[Any], Any] | None,
) -> Update:
    def mean_loss(weights: Any, x: Array, labels: Array) -> tuple[Array, Any]:
        prediction, statistics = target.with_trained(weights).observe(x, recipe.train)
        return jnp.mean(batch_losses(recipe, prediction, labels)), statistics

    slope = jax.grad(mean_loss, has_aux=True)
    if example_gradient is None:
        return Update(*slope(target.trained, x, labels))
    _, statistics = mean_loss(target.trained, x, labels)
    singles, _ = jax.vmap(slope, (None, 0, 0))(
        target.trained, x[:, None], labels[:, None]
    )
    means = jax.tree.map(lambda leaf: jnp.mean(leaf, 0), example_gradient(singles))
    return Update(means, statistics)


def _refuse_ways_past(recipe: Recipe) -> None:
    """Refuses what a defense of single examples' gradients would not guard."""
    if recipe.train:
        raise ValueError(
            "A defense of single examples' gradients needs examples that do not mix: "
            "set the recipe's train=False, for running statistics."
        )
    if recipe.local_steps:
        raise ValueError(
            "A defense of single examples' gradients guards one gradient, not what "
            f"local_steps={recipe.local_steps} make of them: set local_steps=0, or "
            "defend the update."
        )
    if recipe.share_statistics:
        raise ValueError(
            "Shared statistics pass by a defense of single examples' gradients: set "
            "share_statistics=False."
        )


def share(
    key: Array,
    recipe: Recipe,
    target: Target,
    x: Array,
    labels: Array,
    defense: Defense = Defense(),
) -> Update:
    """Computes what V clients share, each defended on its own.

    Args:
      key: of the defense's randomness, split over the clients; the key is consumed.
      recipe: how clients train.
      target: the model that the server sent.
      x: `[V, B, *shape]`.
      labels: `[V, B]`.
      defense: as in `client_update`.

    Returns:
      Leaves `[V, ...]`; `statistics` is None unless the recipe shares them.

    Raises:
      ValueError: as `client_update`, or if labels are no classes of the target.
    """
    if not isinstance(defense, Defense):
        raise ValueError(
            f"The defense is {defense!r}: give one of mijax.defenses, or Defense() for "
            "none."
        )
    _refuse_batches(x, labels, target)
    refuse_other_classes(labels, target)
    key = independent(key)

    def one(key: Array, x: Array, labels: Array) -> Update:
        change, statistics = client_update(recipe, target, x, labels, defense, key)
        return Update(change, statistics if recipe.share_statistics else None)

    return jax.vmap(one)(jax.random.split(key, x.shape[0]), x, labels)


def _refuse_batches(x: Any, labels: Any, target: Target) -> None:
    """Refuses what are no batches of V clients."""
    for name, given in (("x", x), ("labels", labels)):
        if not hasattr(given, "dtype"):
            raise ValueError(f"{name} is a {type(given).__name__}: give an array.")
    if x.ndim < 2 or x.shape[2:] != target.shape or labels.shape != x.shape[:2]:
        batch = (*x.shape[:2], "V", "B")[:2] if x.ndim > 1 else ("V", "B")
        raise ValueError(
            f"x is {x.shape} and labels {labels.shape}: they must be "
            f"{(*batch, *target.shape)} and {batch}, for B examples of V clients."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels are {labels.dtype}: they must be integers.")
    refuse_one_output(target.num_classes)


def refuse_other_classes(labels: Array, target: Target) -> None:
    """Raises ValueError if concrete labels `[V, N]` are no classes of the target."""
    given, classes = concrete(labels), target.num_classes
    if given is not None and given.ndim == 2:
        wrong = given[(given < 0) | (given >= classes)]
        if wrong.size:
            raise ValueError(
                f"labels hold {wrong[0]}: the target's classes are 0 to {classes - 1}."
            )
