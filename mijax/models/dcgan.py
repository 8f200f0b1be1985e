"""DCGAN generator and critic, as Zhang et al. (2020) trained them for GMI.

References:
  Radford, Metz, Chintala. Unsupervised representation learning with deep
  convolutional generative adversarial networks. arXiv:1511.06434.
  Zhang et al. The secret revealer. CVPR 2020. arXiv:1911.07135.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from mijax.models.layers import Conv, ConvTranspose

_START = 4  # the smallest map, in pixels


def _doublings(image_size: int) -> int:
    number = (image_size // _START).bit_length() - 1
    if number < 1 or _START * 2**number != image_size:
        raise ValueError(
            f"image_size is {image_size}: it must be 8, 16, 32, 64, 128, ..."
        )
    return number


class Generator(nn.Module):
    """Maps latents `[B, Z]` to images `[B, H, H, channels]` in [0, 1], H `image_size`.

    `width` is the number of channels before the last layer; it doubles with each
    halving of the map (the paper's: 64, hence 512 at 4x4).
    """

    image_size: int = 64
    channels: int = 1
    width: int = 64
    kernel_size: int = 5

    @nn.compact
    def __call__(self, z: Array, train: bool = False) -> Array:
        """Generates images; with `train`, normalizes by the batch's own moments."""
        doublings = _doublings(self.image_size)

        def normalize(x: Array) -> Array:
            return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)

        width = self.width * 2 ** (doublings - 1)
        x = nn.Dense(_START * _START * width, use_bias=False)(z)
        x = nn.relu(normalize(x.reshape(-1, _START, _START, width)))
        for _ in range(doublings - 1):
            width //= 2
            x = ConvTranspose(width, self.kernel_size, 2, use_bias=False)(x)
            x = nn.relu(normalize(x))
        return nn.sigmoid(ConvTranspose(self.channels, self.kernel_size, 2)(x))


class Critic(nn.Module):
    """Scores images `[B, H, W, C]` -> `[B]`: higher is more like the public data.

    It has no batch normalization: the gradient penalty is a penalty per example.
    """

    image_size: int = 64
    width: int = 64
    kernel_size: int = 5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Scores images."""
        x = 2 * x - 1
        for i in range(_doublings(self.image_size)):
            x = Conv(self.width * 2**i, self.kernel_size, 2)(x)
            x = nn.leaky_relu(x, 0.2)
        return jnp.squeeze(nn.Dense(1)(x.reshape(x.shape[0], -1)), -1)
