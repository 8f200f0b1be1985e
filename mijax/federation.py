"""Federated learning: what one client shares, what a round does, whole trainings.

`client_update` is written once. The victim computes what is shared with it, and an
adversary who searches for the batch matches the same function: at the true batch the
two agree.

Letters: V clients, B examples of each; images `[V, B, H, W, C]`, labels `[V, B]`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mijax.core import (
    Defense,
    Prediction,
    Target,
    concrete,
    hyper_parameters,
    pytree,
    static,
)
from mijax.training import cross_entropy


@hyper_parameters
class Recipe:
    """How a client trains; all who take part know it.

    Attributes:
      loss: `(prediction, labels [B]) -> losses [B]`, such as `fit.cross_entropy`.
      local_steps: 0 shares the mean gradient of the batch (FedSGD); n shares the change
        of the weights after n steps of SGD (FedAvg).
      local_batch: examples a local step, taken in order and from the front again; None
        for the whole batch. It must divide the batch.
      learning_rate: of the local steps.
      train: whether batch normalization normalizes by the batch, as in training, or by
        its running statistics.
      share_statistics: whether the batch's means and variances are shared as well.
    """

    loss: Callable[[Prediction, Array], Array] = static(default=cross_entropy)
    local_steps: int = static(default=0)
    local_batch: int | None = static(default=None)
    learning_rate: float | Array = 0.1
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
            f"local_batch is {size}, which does not divide a batch of {x.shape[0]}."
        )
    batches = x.shape[0] // size
    x = x.reshape(batches, size, *x.shape[1:])
    labels = labels.reshape(batches, size, *labels.shape[1:])

    def step(weights: Any, t: Array) -> tuple[Any, Any]:
        gradient, statistics = _gradient(
            recipe,
            target.with_trained(weights),
            x[t % batches],
            labels[t % batches],
            None,
        )
        weights = jax.tree.map(
            lambda w, g: w - recipe.learning_rate * g, weights, gradient
        )
        return weights, statistics

    # Attacks differentiate through these steps: the weights of each are made anew.
    steps = jnp.arange(recipe.local_steps)
    after, statistics = lax.scan(jax.checkpoint(step), target.trained, steps)
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
    _refuse_other_classes(labels, target)

    def one(key: Array, x: Array, labels: Array) -> Update:
        change, statistics = client_update(recipe, target, x, labels, defense, key)
        return Update(change, statistics if recipe.share_statistics else None)

    return jax.vmap(one)(jax.random.split(key, x.shape[0]), x, labels)


def aggregate(
    recipe: Recipe,
    target: Target,
    change: Any,
    server_rate: float | Array | None = None,
    weights: Array | None = None,
) -> Target:
    """Returns the server's next model.

    Args:
      recipe: how clients train.
      target: the model that they trained.
      change: what they shared, leaves `[V, ...]`.
      server_rate: what the mean is multiplied by; by default the recipe's learning rate
        for gradients (FedSGD) and 1 for changes of weights (FedAvg).
      weights: of the clients in the mean, `[V]`, such as their numbers of examples;
        None for equal ones.
    """
    if recipe.local_steps == 0:
        rate = -(recipe.learning_rate if server_rate is None else server_rate)
    else:
        rate = 1.0 if server_rate is None else server_rate
    mean = jax.tree.map(lambda leaf: jnp.average(leaf, 0, weights), change)
    return target.with_trained(
        jax.tree.map(lambda w, m: w + rate * m, target.trained, mean)
    )


def round_of(
    key: Array,
    recipe: Recipe,
    target: Target,
    x: Array,
    labels: Array,
    defense: Defense = Defense(),
    server_rate: float | Array | None = None,
) -> tuple[Target, Update]:
    """Runs a round: the clients share, the server takes the mean.

    Arguments are those of `share` and `aggregate`; the key is consumed.

    Returns:
      The next model, and what was shared, leaves `[V, ...]`.
    """
    shared = share(key, recipe, target, x, labels, defense)
    return aggregate(recipe, target, shared.change, server_rate), shared


@pytree
class Clients:
    """The data of V clients, each padded to the N examples of the largest.

    Attributes:
      x: `[V, N, *shape]`.
      labels: `[V, N]`.
      counts: how many examples each client has, the first ones, `[V]`.
    """

    x: Array
    labels: Array
    counts: Array

    @classmethod
    def of(cls, parts: Sequence[tuple[Any, Any]]) -> "Clients":
        """Pads the `(x, labels)` of each client to one size.

        Raises:
          ValueError: if there is no client, or one has no example.
        """
        counts = np.array([len(labels) for _, labels in parts])
        if not counts.size or not counts.all():
            raise ValueError(
                f"The clients have {counts.tolist()} examples: give one client or "
                "more, each with an example or more."
            )

        def padded(rows: Any) -> np.ndarray:
            rows = np.asarray(rows)
            missing = int(counts.max()) - len(rows)
            return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))

        x = np.stack([padded(x) for x, _ in parts])
        labels = np.stack([padded(labels) for _, labels in parts])
        return cls(jnp.asarray(x), jnp.asarray(labels), jnp.asarray(counts))


def simulate(
    key: Array,
    recipe: Recipe,
    target: Target,
    clients: Clients,
    *,
    rounds: int,
    batch_size: int,
    participants: int | None = None,
    start: int = 0,
    defense: Defense = Defense(),
    server_rate: float | Array | None = None,
) -> tuple[Target, Array]:
    """Trains for many rounds as one program, whose memory does not grow with them.

    Each round a random set of clients takes part. Each of them draws a batch of its own
    examples, with replacement, and shares as in `share`; the server's mean weighs the
    clients by how many examples they have. Running statistics stay as they are.

    Args:
      key: of all rounds; round t depends on the key and on t alone, so that a training
        in pieces draws what a whole one draws.
      recipe: how clients train.
      target: the model before round `start`.
      clients: V of them.
      rounds: how many.
      batch_size: examples that a client draws a round.
      participants: clients a round; None for all.
      start: the number of the first round.
      defense: as in `client_update`.
      server_rate: as in `aggregate`.

    Returns:
      The model after the last round, and who took part, `[rounds, participants]`.

    Raises:
      ValueError: as `share`, or if a number is out of its range.
    """
    number = clients.counts.shape[0]
    seats = number if participants is None else participants
    for name, value, most in (
        ("rounds", rounds, None),
        ("batch_size", batch_size, None),
        ("participants", seats, number),
    ):
        if value < 1 or (most is not None and value > most):
            limit = "1 or more" if most is None else f"1 to {most}, the clients"
            raise ValueError(f"{name} is {value}: it must be {limit}.")
    _refuse_other_classes(clients.labels, target)

    def advance(target: Target, t: Array) -> tuple[Target, Array]:
        who_key, batch_key, share_key = jax.random.split(jax.random.fold_in(key, t), 3)
        who = jax.random.choice(who_key, number, (seats,), replace=False)

        def drawn(key: Array, count: Array) -> Array:
            return jax.random.randint(key, (batch_size,), 0, count)

        counts = clients.counts[who]
        rows = jax.vmap(drawn)(jax.random.split(batch_key, seats), counts)  # [M, B]
        x, labels = clients.x[who[:, None], rows], clients.labels[who[:, None], rows]
        shared = share(share_key, recipe, target, x, labels, defense)
        return aggregate(recipe, target, shared.change, server_rate, counts), who

    return lax.scan(advance, target, start + jnp.arange(rounds))


def _refuse_other_classes(labels: Array, target: Target) -> None:
    given, classes = concrete(labels), target.num_classes
    if given is not None and given.ndim == 2:
        wrong = given[(given < 0) | (given >= classes)]
        if wrong.size:
            raise ValueError(
                f"labels hold {wrong[0]}: the target's classes are 0 to {classes - 1}."
            )
