"""Finds the dense layers of a model among its parameters."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mijax.core import Target


class DenseLayer(NamedTuple):
    """Where a dense layer's parameters are among the leaves of `Target.trained`.

    Attributes:
      name: the path of its weight, for messages.
      weight: the index of the leaf `[F, O]`.
      bias: the index of the leaf `[O]`; None without one.
    """

    name: str
    weight: int
    bias: int | None


def last(target: Target) -> DenseLayer:
    """Returns the layer that makes the logits.

    Raises:
      ValueError: if no layer, or more than one, can be it.
    """
    probe = jax.ShapeDtypeStruct((1, *target.shape), jnp.float32)
    features = jax.eval_shape(target.predict, probe).features
    width = None
    if features is not None and features.ndim == 2:
        width = features.shape[1]
    return _only(
        _of_size(target, width, target.num_classes),
        f"The last layer (of {target.num_classes} outputs)",
        "give the labels in the knowledge, or let the model return a Prediction with "
        "the features of its last layer",
    )


def first(target: Target) -> DenseLayer:
    """Returns the layer with a bias that is fed the pixels of an image.

    Raises:
      ValueError: if no layer, or more than one, can be it.
    """
    layers = _of_size(target, math.prod(target.shape), None)
    return _only(
        [layer for layer in layers if layer.bias is not None],
        f"The first layer (dense, with a bias, of {math.prod(target.shape)} inputs)",
        "this attack needs a network that begins with one",
    )


def leaf_of(update: Any, index: int | None, name: str) -> Any:
    """Returns a layer's leaf of an update, by its index among those of `trained`.

    Raises:
      ValueError: if the clients do not share it.
    """
    leaves = jax.tree.leaves(update, is_leaf=lambda leaf: leaf is None)
    leaf = None if index is None else leaves[index]
    if index is not None and leaf is None:
        raise ValueError(
            f"The update withholds {name}, which tells what this attack needs: give "
            "labels in the knowledge, or choose another attack."
        )
    return leaf


def _of_size(
    target: Target, inputs: int | None, outputs: int | None
) -> list[DenseLayer]:
    leaves = jax.tree_util.tree_leaves_with_path(target.trained)
    layers = []
    for index, (path, leaf) in enumerate(leaves):
        if leaf.ndim != 2:
            continue
        if inputs not in (None, leaf.shape[0]) or outputs not in (None, leaf.shape[1]):
            continue
        biases = [
            other
            for other, (place, candidate) in enumerate(leaves)
            if candidate.shape == leaf.shape[1:] and _layer(place) == _layer(path)
        ]
        name = jax.tree_util.keystr(path)
        layers.append(DenseLayer(name, index, biases[0] if biases else None))
    return layers


def _only(layers: list[DenseLayer], wanted: str, remedy: str) -> DenseLayer:
    if len(layers) != 1:
        names = ", ".join(layer.name for layer in layers) or "none"
        raise ValueError(
            f"{wanted} cannot be told: of the target's parameters, {names} could be "
            f"its weights. For this, {remedy}."
        )
    return layers[0]


def _layer(path: tuple[Any, ...]) -> tuple[Any, ...]:
    """The path of the layer that a parameter belongs to."""
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):  # Flax NNX's.
        path = path[:-1]
    return path[:-1]
