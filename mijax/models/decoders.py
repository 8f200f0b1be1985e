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
import jax.numpy as jnp

from mijax.models.layers import ConvTranspose


class DenseDecoder(nn.Module):
    """A perceptron from codes of any shape to images, or others of any shape.

    Attributes:
        shape: of an image, (H, W, C).
        widths: the units of each hidden layer.
        activation: applied after each hidden layer.
        final: applied at the end; the sigmoid gives images in [0, 1].
        final_init: of the last layer's weights. From zeros, what few pairs do not tell
            stays out of the images; from others it stays in them as noise.
    """

    shape: tuple[int, ...]
    widths: tuple[int, ...] = (512,)
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    final: Callable[[jax.Array], jax.Array] = nn.sigmoid
    final_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, codes: jax.Array, train: bool = False) -> jax.Array:
        """Returns images `[B, H, W, C]` of codes `[B, ...]`."""
        del train  # The same network either way.
        h = codes.reshape(codes.shape[0], math.prod(codes.shape[1:]))  # B may be 0.
        for width in self.widths:
            h = self.activation(nn.Dense(width)(h))
        h = nn.Dense(math.prod(self.shape), kernel_init=self.final_init)(h)
        return self.final(h).reshape(-1, *self.shape)


def perceptron(shape: tuple[int, ...]) -> nn.Module:
    """Returns a generator of images from latents, with two hidden layers."""
    return DenseDecoder(shape, (128, 256))


class MapDecoder(nn.Module):
    """Transposed convolutions from maps to images, resized at the end.

    The last one is linear: a sigmoid is far from what undoes a linear layer. In
    training it is left so, else images are kept in [0, 1].

    Attributes:
        shape: of an image, (H, W, C).
        widths: the channels of each hidden layer.
        strides: of each layer, one more than there are hidden ones.
        kernel_size: of all.
        margins: zeros put around the maps before each layer, where the network did not
            pad its own; none where it is empty.
    """

    shape: tuple[int, ...]
    widths: tuple[int, ...] = (8,)
    strides: tuple[int, ...] = (1, 2)
    kernel_size: int = 5
    margins: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, codes: jax.Array, train: bool = False) -> jax.Array:
        """Returns images `[B, H, W, C]` of maps `[B, h, w, F]`.

        Raises:
            ValueError: if the codes are no maps, or there is not a stride a layer.
        """
        if codes.ndim != 4 or len(self.strides) != len(self.widths) + 1:
            raise ValueError(
                f"The codes are {codes.shape} and there are {len(self.strides)} "
                f"strides: give maps [B, h, w, F], and {len(self.widths) + 1} strides."
            )
        x = codes
        margins = self.margins or (0,) * len(self.strides)
        for index, (stride, margin) in enumerate(
            zip(self.strides, margins, strict=True)
        ):
            around = (margin, margin)
            x = jnp.pad(x, ((0, 0), around, around, (0, 0)))
            last = index == len(self.widths)
            width = self.shape[2] if last else self.widths[index]
            x = ConvTranspose(width, self.kernel_size, stride)(x)
            x = x if last else nn.relu(x)
        x = jax.image.resize(x, (x.shape[0], *self.shape), "linear")
        return x if train else jnp.clip(x, 0.0, 1.0)
