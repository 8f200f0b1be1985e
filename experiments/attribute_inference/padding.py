"""Trees filled up to a power of two of nodes, so that few programs are compiled."""

import dataclasses

import jax
import jax.numpy as jnp

from mijax.core import Paths, Target

_NODES, _PATHS = 512, 256  # the fewest


def _room(number: int, fewest: int) -> int:
    return (1 << max(number, fewest).bit_length()) - number


def target(tree: Target) -> Target:
    """Pads a target of `mijax.models.trees`; it answers as before."""
    trees = tree.params
    room = _room(trees.feature.shape[1], _NODES)
    filled = jax.tree.map(
        lambda a: jnp.pad(a, [(0, 0), (0, room)] + [(0, 0)] * (a.ndim - 2)), trees
    )
    depth = 1 << max(trees.depth - 1, 1).bit_length()
    return dataclasses.replace(tree, params=dataclasses.replace(filled, depth=depth))


def paths(boxes: Paths) -> Paths:
    """Pads paths with boxes that hold nobody."""
    outside = ((0, _room(len(boxes.low), _PATHS)), (0, 0))
    return Paths(
        jnp.pad(boxes.low, outside, constant_values=jnp.inf),
        jnp.pad(boxes.high, outside, constant_values=-jnp.inf),
        jnp.pad(boxes.counts, outside),
    )
