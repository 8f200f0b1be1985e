"""DCGAN generator and critic, as Zhang et al. (2020) trained them for GMI.

Departures: their critic normalizes each image's maps (instance normalization), and
their generator's first normalization is of each feature, where ours is of each channel.

References:
  Radford, Metz, Chintala. Unsupervised representation learning with deep
  convolutional generative adversarial networks. arXiv:1511.06434.
  Zhang et al. The secret revealer. CVPR 2020. arXiv:1911.07135.
  Miyato, Koyama. cGANs with projection discriminator. ICLR 2018. arXiv:1802.05637.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from mijax.core import Prediction
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
    halving of the map (the paper's: 64, hence 512 at 4x4). A conditional generator, of
    so many `classes`, scales and shifts each normalized map by its class (`labels`
    `[B]`); before training it does so by nothing.
    """

    image_size: int = 64
    channels: int = 1
    width: int = 64
    kernel_size: int = 5
    classes: int = 0

    @nn.compact
    def __call__(
        self, z: Array, labels: Array | None = None, train: bool = False
    ) -> Array:
        """Generates images; with `train`, normalizes by the batch's own moments."""
        doublings = _doublings(self.image_size)

        def normalize(x: Array) -> Array:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            if labels is None:
                return x
            own = nn.Embed(
                self.classes, 2 * x.shape[-1], embedding_init=nn.initializers.zeros
            )(labels)
            scale, shift = jnp.split(own[:, None, None], 2, -1)
            return x * (1 + scale) + shift

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

    It has no batch normalization: the gradient penalty is a penalty per example. A
    conditional critic, of so many `classes`, adds the product of its last map, averaged
    over pixels, and its class's own vector (Miyato and Koyama's projection).
    """

    image_size: int = 64
    width: int = 64
    kernel_size: int = 5
    classes: int = 0

    @nn.compact
    def __call__(self, x: Array, labels: Array | None = None) -> Array:
        """Scores images, as of `labels` `[B]` if given."""
        x = _maps(x, self.image_size, self.width, self.kernel_size)
        score = jnp.squeeze(nn.Dense(1)(x.reshape(x.shape[0], -1)), -1)
        if labels is None:
            return score
        own = nn.Embed(self.classes, x.shape[-1])(labels)
        return score + jnp.sum(own * jnp.mean(x, (1, 2)), -1)


class JudgingCritic(nn.Module):
    """A critic that also tells classes apart, `[B, H, W, C]` -> `Prediction`.

    Its layers are those of `Critic`, up to the last.
    """

    classes: int
    image_size: int = 64
    width: int = 64
    kernel_size: int = 5

    @nn.compact
    def __call__(self, x: Array) -> Prediction:
        """Returns logits, and the last map as features."""
        x = _maps(x, self.image_size, self.width, self.kernel_size)
        features = x.reshape(x.shape[0], -1)
        return Prediction(nn.Dense(self.classes)(features), features)


def _maps(x: Array, image_size: int, width: int, kernel_size: int) -> Array:
    """The maps `[B, 4, 4, C]` of a critic's convolutions, called within its compact."""
    x = 2 * x - 1
    for i in range(_doublings(image_size)):
        x = nn.leaky_relu(Conv(width * 2**i, kernel_size, 2)(x), 0.2)
    return x
