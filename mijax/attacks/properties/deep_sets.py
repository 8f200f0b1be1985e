"""Property inference by DeepSets: what the weights tell of the training set as a whole.

Ganju et al. (2018). The adversary trains shadow models on data with and without a
property, and on their weights a classifier. A layer's nodes may be permuted without
changing the network, so the classifier is a `DeepSets` that sees no order. A node's
features follow from its own weights and from the features of the nodes before it; a
layer's are the mean of its nodes', and a network's are all its layers'. `Flat` is the
baseline that reads the weights in the order in which they come, or, with
`Flat(ordered=True)`, with each layer's nodes ordered by their sums of absolute weights.

Departures from the paper: a node's context is the mean of the previous nodes' features
weighted by its weights, beside its own weights in ascending order, where the paper
gives it the pairs of features and weights; nodes are averaged into a layer, where the
paper sums them; kernels and biases are each standardized by their mean and deviation.

References:
  Ganju, Wang, Yang, Gunter, Borisov. Property inference attacks on fully connected
  neural networks using permutation invariant representations. CCS 2018.
  doi:10.1145/3243734.3243834.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array

from mijax import core, training
from mijax.core import hyper_parameters, static
from mijax.knowledge.released_parameters import Layers, ReleasedParameters


class DeepSets(nn.Module):
    """Classifies networks; equal for those that differ in the order of nodes alone.

    Attributes:
      features: of each node.
      hidden: units of the last hidden layer.
    """

    features: int = 32
    hidden: int = 64

    @nn.compact
    def __call__(self, layers: Layers) -> Array:
        """Returns logits `[B, 2]` of kernels `[B, in, out]` and biases `[B, out]`."""
        nodes, means = None, []
        for kernel, bias in layers:
            weights = jnp.swapaxes(kernel, 1, 2)  # [B, out, in]
            parts = [bias[..., None]]
            if nodes is None:
                parts.append(weights)  # Inputs have an order.
            else:
                context = weights @ nodes / weights.shape[2]
                parts += [jnp.sort(weights, 2), context]
            x = jnp.concatenate(parts, 2)
            x = nn.relu(nn.Dense(self.features)(x))
            nodes = nn.relu(nn.Dense(self.features)(x))  # [B, out, features]
            means.append(jnp.mean(nodes, 1))
        x = nn.relu(nn.Dense(self.hidden)(jnp.concatenate(means, 1)))
        return nn.Dense(2)(x)


class Flat(nn.Module):
    """Classifies networks by their weights as one vector.

    Attributes:
      ordered: whether each layer's nodes are put in order first.
      hidden: units of the hidden layer.
    """

    ordered: bool = False
    hidden: int = 64

    @nn.compact
    def __call__(self, layers: Layers) -> Array:
        """Returns logits `[B, 2]`; see `DeepSets`."""
        layers = in_order(layers) if self.ordered else layers
        flat = [x.reshape(len(x), -1) for layer in layers for x in layer]
        x = nn.relu(nn.Dense(self.hidden)(jnp.concatenate(flat, 1)))
        return nn.Dense(2)(x)


def in_order(layers: Layers) -> Layers:
    """Orders each hidden layer's nodes by their sums of absolute weights."""
    ordered: list[tuple[Array, Array]] = []
    order = None
    for index, (kernel, bias) in enumerate(layers):
        if order is not None:
            kernel = jnp.take_along_axis(kernel, order[:, :, None], 1)
        if index < len(layers) - 1:
            order = jnp.argsort(jnp.sum(jnp.abs(kernel), 1), 1)  # [B, out]
            kernel = jnp.take_along_axis(kernel, order[:, None], 2)
            bias = jnp.take_along_axis(bias, order, 1)
        ordered.append((kernel, bias))
    return tuple(ordered)


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      network: the classifier of networks.
      steps: of its training.
      batch_size: shadow models a step; all of them where there are fewer.
      learning_rate: of Adam, falling to 0 along a cosine.
      weight_decay: of AdamW.
    """

    network: nn.Module = static(default=DeepSets())
    steps: int = static(default=1_500)
    batch_size: int = static(default=32)
    learning_rate: float | Array = 1e-3
    weight_decay: float | Array = 1e-3

    def __post_init__(self) -> None:
        """Raises a ValueError if there is no step, or no model in it."""
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}: it must be 1 or more."
                )


def attack(
    key: Array, knowledge: ReleasedParameters, config: Config = Config()
) -> core.Inference:
    """Recovers whether each released model's training set had a property.

    Args:
      key: of the classifier's initial weights and batches; the key is consumed.
      knowledge: released and shadow models.
      config: hyper-parameters.

    Returns:
      The property 0 or 1 of each released model, with both log-probabilities.

    Raises:
      ValueError: if the shadow models are of another architecture, or of one property.
    """
    knowledge = knowledge.checked()
    network = config.network
    shadows = _standardized(knowledge.shadows, knowledge.shadows)
    released = _standardized(knowledge.released, knowledge.shadows)
    schedule = optax.cosine_decay_schedule(1.0, config.steps)
    optimizer = optax.chain(
        optax.scale_by_adam(),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_schedule(schedule),
        optax.scale(-config.learning_rate),
    )

    def step(key: Array, state: Any, batch: Any) -> tuple[Any, dict[str, Array]]:
        del key
        params, opt_state = state
        layers, properties = batch

        def loss(params: Any) -> Array:
            logits = network.apply(params, layers)
            return jnp.mean(
                optax.softmax_cross_entropy_with_integer_labels(logits, properties)  # type: ignore[arg-type]
            )

        value, slope = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(slope, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), {"loss": value}

    init_key, fit_key = jax.random.split(key)
    params = network.init(init_key, jax.tree.map(lambda x: x[:1], shadows))
    (params, _), _ = training.fit(
        fit_key,
        (params, optimizer.init(params)),
        step,
        (shadows, knowledge.properties),
        batch_size=min(config.batch_size, len(knowledge.properties)),
        steps=config.steps,
    )
    log_joint = jax.nn.log_softmax(jnp.asarray(network.apply(params, released)))
    return core.infer(log_joint, jnp.full((1, 2), jnp.log(0.5)))


def _standardized(layers: Layers, like: Layers) -> Layers:
    """Subtracts each layer's mean weight, and divides by their deviation."""

    def each(x: Array, reference: Array) -> Array:
        return (x - jnp.mean(reference)) / (jnp.std(reference) + 1e-6)

    return jax.tree.map(each, layers, like)
