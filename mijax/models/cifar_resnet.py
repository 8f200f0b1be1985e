"""The thin ResNets of He et al. for CIFAR-10, with shortcuts that have no parameters.

References:
    He et al., 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385
    (section 4.2; option A of section 4.1).
"""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp

from mijax.models import Prediction, weights
from mijax.models.layers import Conv, batch_norm, centered


class OptionABlock(nn.Module):
    """Two 3x3 convolutions; the shortcut subsamples and pads channels with zeros.

    Attributes:
        width: its channels.
        stride: of the first convolution.
    """

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns `[B, H/stride, W/stride, width]`."""
        y = Conv(self.width, 3, self.stride, centered(3), use_bias=False, name="conv1")(
            x
        )
        y = nn.relu(batch_norm(train, name="bn1")(y))
        y = Conv(self.width, 3, use_bias=False, name="conv2")(y)
        y = batch_norm(train, name="bn2")(y)
        added = (self.width - x.shape[-1]) // 2
        x = x[:, :: self.stride, :: self.stride]
        return nn.relu(jnp.pad(x, ((0, 0), (0, 0), (0, 0), (added, added))) + y)


class CifarResNet(nn.Module):
    """Three stages of equally many blocks at 32x32, 16x16 and 8x8.

    Published weights take images standardized as they were in training; the network
    itself takes any.

    Attributes:
        num_classes: K.
        depth: the layers with weights, 6n + 2: 20, 32, 44, 56 or 110 in the paper.
        width: the channels of the first stage; even.
    """

    num_classes: int = 10
    depth: int = 20
    width: int = 16

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]` and features `[B, F]`, of x `[B, H, W, C]`.

        Raises:
            ValueError: if `depth` is not 6n + 2 or `width` is odd.
        """
        blocks, remainder = divmod(self.depth - 2, 6)
        if blocks < 1 or remainder or self.width % 2:
            raise ValueError(
                f"depth must be 6n + 2 with n >= 1 and width even, but they are "
                f"{self.depth} and {self.width}."
            )
        x = Conv(self.width, 3, use_bias=False, name="conv1")(x)
        x = nn.relu(batch_norm(train, name="bn1")(x))
        for stage in range(3):
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                block = OptionABlock(
                    self.width * 2**stage, stride, name=f"layer{stage + 1}_{index}"
                )
                x = block(x, train)
        features = jnp.mean(x, axis=(1, 2))
        return Prediction(nn.Dense(self.num_classes, name="linear")(features), features)


def load(path: str | Path, depth: int) -> dict:
    """Reads the variables of `CifarResNet(depth=depth)` from PyTorch's.

    Args:
        path: an .npz with the names conv1, bn1, layerS.I.conv1 ... and linear.
        depth: the network's depth, 6n + 2.

    Raises:
        ValueError: if the file is damaged or holds another architecture.
    """
    return weights.from_torch(
        weights.read(path),
        weights.shapes(CifarResNet(depth=depth), (32, 32, 3)),
        lambda module: module.replace("/", ".").replace("_", "."),
        architecture=f"CIFAR ResNet-{depth} for [32, 32, 3] images",
    )
