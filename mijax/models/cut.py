"""Networks that are cut between two layers, for inference by two parties.

References:
    He, Zhang and Lee, 2019, Model Inversion Attacks against Collaborative Inference,
    ACSAC, doi:10.1145/3359789.3359824 (the networks of digits and of CIFAR-10).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from mijax.models import Prediction
from mijax.models.convolution import Padding
from mijax.models.layers import Conv, max_pool

Layer = Callable[[jax.Array], jax.Array]


class CutNetwork(nn.Module):
    """Layers in a row, each with a name: a cut goes after one of them.

    Attributes:
        names: one a layer.
        layers: modules or functions `[B, ...] -> [B, ...]`; the last gives logits.
    """

    names: tuple[str, ...]
    layers: tuple[Layer, ...]

    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]` and what they are made of, of x `[B, ...]`."""
        del train  # The same network either way.
        features = self.between(x, 0, len(self.layers) - 1)
        return Prediction(self.layers[-1](features), features)

    def between(self, x: jax.Array, start: int, stop: int) -> jax.Array:
        """Returns what the layers from `start` to before `stop` make of x."""
        for layer in self.layers[start:stop]:
            x = layer(x)
        return x


class Half(nn.Module):
    """Layers in a row, to train in place of a network's first ones.

    Attributes:
        layers: modules or functions `[B, ...] -> [B, ...]`.
    """

    layers: tuple[Layer, ...]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns what the layers make of x, `[B, ...]`."""
        for layer in self.layers:
            x = layer(x)
        return x


@dataclasses.dataclass(frozen=True)
class Part:
    """Some of a network's layers as a function; equal ones are one to `jit`."""

    module: CutNetwork
    start: int
    stop: int

    def __call__(self, variables: Any, x: jax.Array) -> jax.Array:
        """Returns what the layers make of x, `[B, ...]`."""
        found = self.module.apply(
            variables, x, self.start, self.stop, method=CutNetwork.between
        )
        assert isinstance(found, jax.Array)
        return found

    def of(self, variables: Any) -> Any:
        """Returns the variables of these layers alone."""
        own = {f"layers_{i}" for i in range(self.start, self.stop)}
        return {
            kind: {name: tree[name] for name in tree if name in own}
            for kind, tree in variables.items()
        }


def cut(module: CutNetwork, layer: str) -> tuple[Part, Part]:
    """Returns the two halves of a network that is cut after a layer.

    Raises:
        ValueError: if there is no such layer, or nothing would be left after it.
    """
    if layer not in module.names[:-1]:
        raise ValueError(
            f"The network cannot be cut after {layer!r}: choose one of "
            f"{', '.join(module.names[:-1])}."
        )
    stop = module.names.index(layer) + 1
    return Part(module, 0, stop), Part(module, stop, len(module.layers))


def flatten(x: jax.Array) -> jax.Array:
    """Returns `[B, ...]` as `[B, F]`."""
    return x.reshape(x.shape[0], -1)


def lenet(
    num_classes: int = 10,
    blocks: tuple[tuple[int, ...], ...] = ((8,), (16,)),
    dense_widths: tuple[int, ...] = (120, 84),
    kernel_size: int = 5,
    padding: Padding = "VALID",
) -> CutNetwork:
    """Returns He et al.'s network: blocks of convolutions, each pooled, and dense ones.

    Layers are named conv1, relu1, pool1, ..., flatten, fc1, fc_relu1, ..., logits;
    those of a block of several convolutions conv11, relu11, conv12, ..., pool1.

    Args:
        num_classes: K.
        blocks: the channels of each block's convolutions. CIFAR-10:
            ((64, 64), (128, 128), (128, 128)), of kernels of 3 and "SAME" padding.
        dense_widths: the units of each hidden dense layer.
        kernel_size: of the convolutions.
        padding: of the convolutions.
    """
    layers: dict[str, Layer] = {}
    for block, widths in enumerate(blocks, 1):
        for index, width in enumerate(widths, 1):
            place = f"{block}{index}" if len(widths) > 1 else f"{block}"
            layers[f"conv{place}"] = Conv(width, kernel_size, padding=padding)
            layers[f"relu{place}"] = nn.relu
        layers[f"pool{block}"] = max_pool
    layers["flatten"] = flatten
    for index, width in enumerate(dense_widths, 1):
        layers[f"fc{index}"] = nn.Dense(width)
        layers[f"fc_relu{index}"] = nn.relu
    layers["logits"] = nn.Dense(num_classes)
    return CutNetwork(tuple(layers), tuple(layers.values()))
