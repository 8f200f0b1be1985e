"""ResNet-18 and ResNet-152.

References:
    He et al., 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mijax.models import Prediction
from mijax.models.layers import Conv, batch_norm, centered


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added.

    Attributes:
        width: its channels.
        stride: of the first convolution.
    """

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns `[B, H/stride, W/stride, width]`."""
        y = Conv(self.width, 3, self.stride, centered(3), use_bias=False)(x)
        y = nn.relu(batch_norm(train)(y))
        y = Conv(self.width, 3, use_bias=False)(y)
        return _add_shortcut(x, batch_norm(train)(y), self.stride, train)


class BottleneckBlock(nn.Module):
    """A 3x3 convolution between two of 1x1, around which the input is added.

    The 3x3 convolution strides, as in the networks that are in use today; in the paper
    it is the first one of 1x1.

    Attributes:
        width: the channels of the 3x3 convolution; four times as many leave.
        stride: of the 3x3 convolution.
    """

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns `[B, H/stride, W/stride, 4 * width]`."""
        y = Conv(self.width, 1, use_bias=False)(x)
        y = nn.relu(batch_norm(train)(y))
        y = Conv(self.width, 3, self.stride, centered(3), use_bias=False)(y)
        y = nn.relu(batch_norm(train)(y))
        y = Conv(4 * self.width, 1, use_bias=False)(y)
        return _add_shortcut(x, batch_norm(train)(y), self.stride, train)


def _add_shortcut(x: jax.Array, y: jax.Array, stride: int, train: bool) -> jax.Array:
    if x.shape != y.shape:
        x = Conv(y.shape[-1], 1, stride, use_bias=False, name="shortcut")(x)
        x = batch_norm(train, name="shortcut_norm")(x)
    return nn.relu(x + y)


class ResNet(nn.Module):
    """Four stages of residual blocks and a linear classifier of their mean.

    Attributes:
        num_classes: K.
        stage_sizes: the blocks of each stage; each stage doubles the channels.
        block: `BasicBlock` or `BottleneckBlock`.
        width: the channels of the first stage.
        small_images: whether the stem is one 3x3 convolution of stride 1, for images of
            about 32 to 64 pixels, in place of the paper's 7x7 of stride 2 and pooling.
    """

    num_classes: int
    stage_sizes: tuple[int, ...]
    block: type[BasicBlock] | type[BottleneckBlock]
    width: int = 64
    small_images: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]` and features `[B, F]`, of x `[B, H, W, C]`."""
        if self.small_images:
            x = Conv(self.width, 3, use_bias=False, name="stem")(x)
        else:
            x = Conv(self.width, 7, 2, centered(7), use_bias=False, name="stem")(x)
        x = nn.relu(batch_norm(train, name="stem_norm")(x))
        if not self.small_images:
            # Zeros never win: nothing is negative after the ReLU.
            x = jnp.pad(x, ((0, 0), *centered(3), (0, 0)))
            x = nn.max_pool(x, (3, 3), strides=(2, 2))
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                stride = 2 if stage > 0 and index == 0 else 1
                block = self.block(
                    self.width * 2**stage, stride, name=f"stage_{stage}_{index}"
                )
                x = block(x, train)
        features = jnp.mean(x, axis=(1, 2))
        return Prediction(nn.Dense(self.num_classes, name="logits")(features), features)


def resnet18(num_classes: int, width: int = 64, small_images: bool = True) -> ResNet:
    """Returns the 18-layer network, of basic blocks."""
    return ResNet(num_classes, (2, 2, 2, 2), BasicBlock, width, small_images)


def resnet152(num_classes: int, width: int = 64, small_images: bool = True) -> ResNet:
    """Returns the 152-layer network, of bottleneck blocks."""
    return ResNet(num_classes, (3, 8, 36, 3), BottleneckBlock, width, small_images)
