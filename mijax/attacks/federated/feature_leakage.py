"""Unintended feature leakage: properties of others' batches, and their words.

Melis, Song, De Cristofaro, Shmatikov (2019). A participant sees how the model changes
from round to round. Some of its own examples have a property, and it knows which. At
the model of each round it computes the updates of own batches with such examples and of
own batches without, and trains on them a classifier. The classifier then judges what
the others changed in that round.

The active attack (`active=True`) makes the model tell more. The adversary trains its
copy to predict the property as well, by a second output that it keeps to itself, on

    (1 - property_weight) * task's loss + property_weight * property's loss,

shares what this changes, and subtracts it from the change that it sees.

`touched_rows` is the other half of the paper: of an embedding, the gradient is zero but
in the rows of the words (or places) that occur in the batch.

Departures from the paper: the passive adversary shares nothing, so there is nothing of
its own to subtract; the classifier is a small perceptron (`watch` returns what any
other needs, such as a random forest); of a dense layer too large to be read number by
number, each output's largest is read, where the authors' code leaves the layer out.

References:
  Melis, Song, De Cristofaro, Shmatikov. Exploiting unintended feature leakage in
  collaborative learning. S&P 2019. arXiv:1805.04049.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from mijax import core, training
from mijax.core import Prediction, Target, concrete, hyper_parameters, static
from mijax.federation import Recipe, client_update
from mijax.knowledge import FederationSeat
from mijax.models.mlp import MLP

_READ = 5_000  # numbers of a layer that are read one by one


def magnitudes(target: Target, change: Any) -> Array:
    """Returns what the paper reads of an update, `[F]`: sizes of weights' changes.

    Biases are left out; of a convolution's kernel the largest over its positions is
    read, and of a layer with too many pairs of input and output the largest per output.
    Together they are scaled to a length of 1, as gradients shrink in training.
    """
    del target
    parts = []
    for leaf in jax.tree.leaves(change):
        if leaf.ndim < 2:
            continue
        size = jnp.abs(leaf)
        size = jnp.max(size.reshape(-1, *leaf.shape[-2:]), 0)  # [in, out]
        parts.append(size.ravel() if size.size <= _READ else jnp.max(size, 0))
    return _unit(jnp.concatenate(parts))


def task_alone(target: Target, change: Any) -> Array:
    """Returns the changes of the classes' biases, `[F]`: predictions less labels.

    A baseline: what the task's outputs tell of a property that depends on the label.
    """
    leaves = jax.tree.leaves(change)
    return jnp.concatenate([x for x in leaves if x.shape == (target.num_classes,)])


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      rounds: that are observed, T.
      batches: own batches with the property in each round, and as many without.
      mixtures: the shares of examples with the property in a batch that has it, in
        turn.
      clients: whose updates the observed one is the mean of, equally weighted; an own
        update with the property is then mixed with `clients - 1` without.
      features: `(target, change) -> [F]`.
      active: whether the adversary shares updates that teach the model the property.
      property_weight: of the property in those, 0 to 1.
      steps: of the classifier's training.
      learning_rate: of Adam.
      weight_decay: of its weights.
    """

    rounds: int = static(default=200)
    batches: int = static(default=4)
    mixtures: tuple[float, ...] = static(default=(0.4, 0.6, 0.8, 1.0))
    clients: int = static(default=1)
    features: Callable[[Target, Any], Array] = static(default=magnitudes)
    active: bool = static(default=False)
    property_weight: float | Array = 0.7
    steps: int = static(default=1_000)
    learning_rate: float | Array = 1e-3
    weight_decay: float | Array = 1e-2

    def __post_init__(self) -> None:
        """Raises a ValueError if a number is out of its range."""
        for name in ("rounds", "batches", "clients", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}: it must be 1 or more."
                )
        if not self.mixtures or not all(0 < share <= 1 for share in self.mixtures):
            raise ValueError(
                f"mixtures are {self.mixtures}: they must be shares, above 0 and at "
                "most 1."
            )
        weight = concrete(self.property_weight)
        if weight is not None and not np.all((weight >= 0) & (weight <= 1)):
            raise ValueError(
                f"property_weight is {self.property_weight}: it must be 0 to 1."
            )


class Observed(NamedTuple):
    """What the adversary saw, and made itself, at each of T rounds.

    Attributes:
      known: features of own updates, `[T, N, F]`.
      properties: whether each is of a batch with the property, `[T, N]` int32.
      seen: features of the others' update, `[T, F]`.
    """

    known: Array
    properties: Array
    seen: Array


def watch(
    key: Array, knowledge: FederationSeat, config: Config = Config()
) -> tuple[FederationSeat, Observed]:
    """Watches the training; arguments and errors are those of `attack`.

    Returns:
      The seat after the last round, and what was seen.
    """
    if knowledge.has_property is None:
        raise ValueError(
            "No property is sought: give the seat has_property, of its own examples."
        )
    size = knowledge.batch_size
    has = jnp.asarray(knowledge.has_property, jnp.float32)
    counts = [round(share * size) for share in config.mixtures]
    if not all(counts):
        share = config.mixtures[counts.index(0)]
        raise ValueError(
            f"Of a batch of {size}, a share of {share} rounds to no example with the "
            "property: give larger mixtures."
        )
    with_it = jnp.array([counts[i % len(counts)] for i in range(config.batches)])
    numbers = jnp.concatenate([with_it, jnp.zeros_like(with_it)])  # [N]

    def own(key: Array, seat: FederationSeat, number: Array) -> Any:
        """The update of an own batch, `number` of whose examples have the property."""
        with_key, without_key = jax.random.split(key)
        logits = jnp.log(jnp.stack([has, 1 - has]))
        chosen = jax.random.categorical(with_key, logits[0], shape=(size,))
        others = jax.random.categorical(without_key, logits[1], shape=(size,))
        rows = jnp.where(jnp.arange(size) < number, chosen, others)
        x, labels = seat.x[rows], seat.labels[rows]
        return client_update(seat.recipe, seat.target, x, labels).change

    def example(key: Array, seat: FederationSeat, number: Array) -> Array:
        numbers = jnp.append(number, jnp.zeros(config.clients - 1, number.dtype))
        keys = jax.random.split(key, config.clients)
        changes = jax.vmap(own, (0, None, 0))(keys, seat, numbers)
        mean = jax.tree.map(lambda leaf: jnp.mean(leaf, 0), changes)
        return config.features(seat.target, mean)

    def round_(state: Any, key: Array) -> tuple[Any, Any]:
        seat, head = state
        keys = jax.random.split(key, len(numbers))
        known = lax.map(lambda each: example(each[0], seat, each[1]), (keys, numbers))
        own = None
        if config.active:
            own, head = _taught(jax.random.fold_in(key, 1), seat, head, config)
        after = seat.act(own)
        change = jax.tree.map(jnp.subtract, after.target.trained, seat.target.trained)
        mean = _mean_update(seat.recipe, change)
        if own is not None:
            mean = _without(own, mean, config.clients)
        return (after, head), (known, config.features(seat.target, mean))

    head = jnp.zeros(_features(knowledge.target, knowledge.x[:1]).shape[1] + 1)
    keys = jax.random.split(key, config.rounds)
    (seat, _), (known, seen) = lax.scan(round_, (knowledge, head), keys)
    properties = jnp.broadcast_to(numbers > 0, known.shape[:2]).astype(jnp.int32)
    return seat, Observed(known, properties, seen)


def _features(target: Target, x: Array) -> Array:
    """What the property is read from: the last hidden layer, or the logits."""
    prediction = target.predict(x)
    return prediction.logits if prediction.features is None else prediction.features


def _taught(
    key: Array, seat: FederationSeat, head: Array, config: Config
) -> tuple[Any, Array]:
    """The change that the active adversary shares, and its second output, trained.

    The property's output `[F + 1]` takes a step at the model that the server sent.
    """
    classes, recipe = seat.target.num_classes, seat.recipe
    has = jnp.asarray(seat.has_property, jnp.int32)
    # As many of either side, as far as they are in the adversary's data.
    weights = jnp.where(has == 1, 1 / jnp.sum(has), 1 / jnp.sum(1 - has))
    rows = jax.random.categorical(key, jnp.log(weights), shape=(seat.batch_size,))

    def of_property(features: Array, head: Array, has: Array) -> Array:
        return optax.sigmoid_binary_cross_entropy(features @ head[:-1] + head[-1], has)

    def both(prediction: Prediction, labels: Array) -> Array:
        features = prediction.features
        features = prediction.logits if features is None else features
        task = recipe.loss(prediction, labels % classes)
        extra = of_property(features, head, labels // classes)
        weight = config.property_weight
        return (1 - weight) * task + weight * extra

    x, labels = seat.x[rows], seat.labels[rows] + classes * has[rows]
    taught = dataclasses.replace(recipe, loss=both)
    change = client_update(taught, seat.target, x, labels).change
    features = _features(seat.target, x)
    slope = jax.grad(lambda head: jnp.mean(of_property(features, head, has[rows])))
    return change, head - slope(head)


def _mean_update(recipe: Recipe, change: Any) -> Any:
    """What the server took the mean of, told from how its model changed."""
    scale = 1.0 if recipe.local_steps else -recipe.learning_rate
    return jax.tree.map(lambda leaf: leaf / scale, change)


def _without(own: Any, mean: Any, clients: int) -> Any:
    """The mean of the clients' updates, of theirs and the adversary's."""
    return jax.tree.map(lambda m, o: (m * (clients + 1) - o) / clients, mean, own)


def attack(
    key: Array, knowledge: FederationSeat, config: Config = Config()
) -> core.Inference:
    """Recovers in which rounds the other clients' batches had a property.

    Args:
      key: of own batches and the classifier; the key is consumed.
      knowledge: with own examples of which it is known who `has_property`; its server
        takes the mean as `federation.aggregate` does by default.
      config: hyper-parameters.

    Returns:
      Of each round, T in place of the victims, 0 or 1, with both log-probabilities.

    Raises:
      ValueError: if the seat's `has_property` is None, or if a mixture rounds to no
        example of a batch.
    """
    watch_key, judge_key = jax.random.split(key)
    _, observed = watch(watch_key, knowledge, config)
    return judge(judge_key, observed, config)


def judge(key: Array, observed: Observed, config: Config = Config()) -> core.Inference:
    """Trains the classifier on own updates, and judges the others'.

    Arguments and result are those of `attack`.
    """
    init_key, fit_key = jax.random.split(key)
    known, properties, seen = observed
    rows, properties = known.reshape(-1, known.shape[-1]), properties.reshape(-1)
    center = jnp.mean(rows, 0, keepdims=True)
    deviation = jnp.std(rows, 0, keepdims=True) + 1e-6
    module = MLP(2, (32,), jax.nn.relu)
    optimizer = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)
    state, _ = training.fit(
        fit_key,
        training.train_state(init_key, module, rows.shape[1:], optimizer),
        training.supervised(module, optimizer),
        ((rows - center) / deviation, properties),
        batch_size=min(64, len(properties)),
        steps=config.steps,
    )
    judged = module.apply(state.variables, (seen - center) / deviation)
    log_joint = jax.nn.log_softmax(judged.logits)  # type: ignore[union-attr]
    return core.infer(log_joint, jnp.full((1, 2), jnp.log(0.5)))


def _unit(x: Array) -> Array:
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-12)


def touched_rows(change: Array) -> Array:
    """Returns which rows of an embedding a batch's tokens touched.

    It is exact for one gradient, and for steps of SGD without momentum or weight decay;
    either of these, or Adam, moves the other rows too.

    Args:
      change: of the embedding, `[..., tokens, F]`.

    Returns:
      `[..., tokens]` bool.
    """
    return jnp.any(change != 0, -1)
