"""Networks from what a model releases back to its input: scores, features.

References:
    He, Zhang and Lee, 2019, Model Inversion Attacks against Collaborative Inference,
    ACSAC, doi:10.1145/3359789.3359824.
    Yang, Zhang, Chang and Liang, 2019, Neural Network Inversion in Adversarial Setting
    via Background Knowledge Alignment, CCS, doi:10.1145/3319535.3354261.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax

from mijax.models.layers import ConvTranspose


class DenseDecoder(nn.Module):
    """A perceptron from codes of any shape to images, or others of any shape.

    Attributes:
        shape: of an image, (H, W, C).
        widths: the units of each hidden layer.
        activation: applied after each hidden layer.
        final: applied at the end; the sigmoid gives images in [0, 1].
    """

    shape: tuple[int, ...]
    widths: tuple[int, ...] = (512,)
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    final: Callable[[jax.Array], jax.Array] = nn.sigmoid

    @nn.compact
    def __call__(self, codes: jax.Array, train: bool = False) -> jax.Array:
        """Returns images `[B, H, W, C]` of codes `[B, ...]`."""
        del train  # The same network either way.
        h = codes.reshape(codes.shape[0], -1)
        for width in self.widths:
            h = self.activation(nn.Dense(width)(h))
        h = nn.Dense(math.prod(self.shape))(h)
        return self.final(h).reshape(-1, *self.shape)


def perceptron(shape: tuple[int, ...]) -> nn.Module:
    """Returns a generator of images from latents, with two hidden layers."""
    return DenseDecoder(shape, (128, 256))


class MapDecoder(nn.Module):
    """Transposed convolutions from maps to images in [0, 1], resized at the end.

    Attributes:
        shape: of an image, (H, W, C).
        widths: the channels of each hidden layer.
        strides: of each layer, one more than there are hidden ones.
        kernel_size: of all.
    """

    shape: tuple[int, ...]
    widths: tuple[int, ...] = (8,)
    strides: tuple[int, ...] = (1, 2)
    kernel_size: int = 5

    @nn.compact
    def __call__(self, codes: jax.Array, train: bool = False) -> jax.Array:
        """Returns images `[B, H, W, C]` of maps `[B, h, w, F]`.

        Raises:
            ValueError: if the codes are no maps, or there is not a stride a layer.
        """
        del train  # The same network either way.
        if codes.ndim != 4 or len(self.strides) != len(self.widths) + 1:
            raise ValueError(
                f"The codes are {codes.shape} and there are {len(self.strides)} "
                f"strides: give maps [B, h, w, F], and {len(self.widths) + 1} strides."
            )
        x = codes
        for width, stride in zip(self.widths, self.strides, strict=False):
            x = nn.relu(ConvTranspose(width, self.kernel_size, stride)(x))
        x = ConvTranspose(self.shape[2], self.kernel_size, self.strides[-1])(x)
        x = jax.image.resize(x, (x.shape[0], *self.shape), "linear")
        return nn.sigmoid(x)
