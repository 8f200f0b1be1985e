"""Softmax regression, multilayer perceptron and stacked denoising autoencoder.

The three targets of Fredrikson et al. (2015), who attack them on 112x92 faces.

References:
    Fredrikson, Jha and Ristenpart, 2015, Model Inversion Attacks that Exploit
    Confidence Information, CCS, doi:10.1145/2810103.2813677.
    Vincent et al., 2010, Stacked Denoising Autoencoders, JMLR 11:3371-3408.
"""

import itertools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mijax.models import Prediction


class SoftmaxRegression(nn.Module):
    """Multinomial logistic regression on the pixels.

    Attributes:
        num_classes: K.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]` and the flattened images, of x `[B, ...]`."""
        del train  # The same network either way.
        features = x.reshape(x.shape[0], -1)
        return Prediction(nn.Dense(self.num_classes, name="logits")(features), features)


class MLP(nn.Module):
    """A multilayer perceptron; the default is Fredrikson's, 3,000 sigmoid units.

    Attributes:
        num_classes: K.
        widths: the units of each hidden layer, at least one.
        activation: applied after each hidden layer.
    """

    num_classes: int
    widths: tuple[int, ...] = (3000,)
    activation: Callable[[jax.Array], jax.Array] = nn.sigmoid

    def setup(self):
        """Makes the layers."""
        self.hidden = [nn.Dense(width) for width in self.widths]
        self.logits = nn.Dense(self.num_classes)

    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]` and the last hidden layer, of x `[B, ...]`."""
        del train  # The same network either way.
        return self.rest(self.first(x))

    def first(self, x: jax.Array) -> jax.Array:
        """Returns the first layer of x `[B, ...]` before its activation, `[B, F]`."""
        return self.hidden[0](x.reshape(x.shape[0], -1))

    def rest(self, h: jax.Array) -> Prediction:
        """Returns what the network makes of its first layer `[B, F]`."""
        features = self.activation(h)
        for layer in self.hidden[1:]:
            features = self.activation(layer(features))
        return Prediction(self.logits(features), features)


class DAE(nn.Module):
    """A stacked denoising autoencoder with a softmax layer on its code.

    Layers are counted from the pixels: `depth` 1 is the first layer's code, the latent
    space in which Process-DAE works. The pixels themselves are depth 0.

    Attributes:
        num_classes: K.
        image_shape: (H, W, C), the shape that `decode` returns.
        widths: the units of each encoder layer.
        tied: whether a decoder layer's weights are its encoder layer's, transposed.
    """

    num_classes: int
    image_shape: tuple[int, int, int]
    widths: tuple[int, ...] = (1000, 300)
    tied: bool = True

    def setup(self):
        """Makes the parameters; the decoder's too, which `__call__` does not use."""
        kernel, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros
        sizes = (math.prod(self.image_shape), *self.widths)
        layers = list(enumerate(itertools.pairwise(sizes)))
        self.encoder_kernels = [
            self.param(f"encoder_{i}_kernel", kernel, shape) for i, shape in layers
        ]
        self.encoder_biases = [
            self.param(f"encoder_{i}_bias", zeros, shape[1:]) for i, shape in layers
        ]
        self.decoder_biases = [
            self.param(f"decoder_{i}_bias", zeros, shape[:1]) for i, shape in layers
        ]
        self.decoder_kernels = (
            [weights.T for weights in self.encoder_kernels]
            if self.tied
            else [
                self.param(f"decoder_{i}_kernel", kernel, shape[::-1])
                for i, shape in layers
            ]
        )
        self.logits = nn.Dense(self.num_classes)

    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]` and the deepest code `[B, F]`, of x `[B, H, W, C]`.

        Raises:
            ValueError: if x are not images of `image_shape`.
        """
        del train  # The same network either way; `denoising_loss` trains the layers.
        code = self.encode(x)
        return Prediction(self.logits(code), code)

    def encode(self, x: jax.Array, depth: int | None = None) -> jax.Array:
        """Returns the code of x `[B, H, W, C]` at `depth` (default: the deepest).

        Raises:
            ValueError: if x are not images of `image_shape`, or there is no such depth.
        """
        if x.shape[1:] != self.image_shape:
            raise ValueError(
                f"x has shape {x.shape}, but this autoencoder takes "
                f"[B, H, W, C] images with [H, W, C] = {self.image_shape}."
            )
        code = x.reshape(x.shape[0], -1)
        for layer in range(self._depth(depth)):
            code = self._encode_layer(code, layer)
        return code

    def decode(self, code: jax.Array, depth: int | None = None) -> jax.Array:
        """Returns the images `[B, H, W, C]` of a code at `depth` (default: deepest).

        Raises:
            ValueError: if there is no such depth, or the code has another width.
        """
        depth = self._depth(depth)
        width = (math.prod(self.image_shape), *self.widths)[depth]
        if code.ndim != 2 or code.shape[1] != width:
            raise ValueError(
                f"The code has shape {code.shape}, but at depth {depth} this "
                f"autoencoder's codes are [B, {width}]."
            )
        for layer in reversed(range(depth)):
            code = nn.sigmoid(self._decode_logits(code, layer))
        return code.reshape(-1, *self.image_shape)

    def layer_denoising_loss(
        self, key: jax.Array, x: jax.Array, depth: int, corruption: float
    ) -> jax.Array:
        """See `denoising_loss`."""
        layer = self._depth(depth) - 1
        if layer < 0:
            raise ValueError("depth must be at least 1: depth 0 is the image itself.")
        clean = jax.lax.stop_gradient(self.encode(x, layer))
        corrupted = jnp.where(
            jax.random.bernoulli(key, corruption, clean.shape), 0.0, clean
        )
        logits = self._decode_logits(self._encode_layer(corrupted, layer), layer)
        return optax.sigmoid_binary_cross_entropy(logits, clean).sum(axis=1)

    def _encode_layer(self, code: jax.Array, layer: int) -> jax.Array:
        return nn.sigmoid(
            code @ self.encoder_kernels[layer] + self.encoder_biases[layer][None]
        )

    def _decode_logits(self, code: jax.Array, layer: int) -> jax.Array:
        return code @ self.decoder_kernels[layer] + self.decoder_biases[layer][None]

    def _depth(self, depth: int | None) -> int:
        deepest = len(self.widths)
        if depth is None:
            return deepest
        if not 0 <= depth <= deepest:
            raise ValueError(f"depth is {depth}; it must be from 0 to {deepest}.")
        return depth


def denoising_loss(
    module: DAE,
    variables: dict,
    key: jax.Array,
    x: jax.Array,
    depth: int,
    corruption: float = 0.3,
) -> jax.Array:
    """How badly one layer restores its own input from a corrupted copy.

    The greedy, layer-wise objective of Vincent et al.: a share of the inputs of layer
    `depth` is set to 0, and the layer's reconstruction is compared, by cross-entropy,
    with the inputs as they were. Layers below receive no gradient.

    Args:
        module: the autoencoder.
        variables: its variables.
        key: chooses what is corrupted. It is consumed.
        x: images, `[B, H, W, C]` in [0, 1].
        depth: the layer, from 1 (reads pixels) to `len(module.widths)`.
        corruption: the share of inputs that is set to 0, in [0, 1).

    Returns:
        One loss an image, in nats, `[B]`.

    Raises:
        ValueError: if there is no such layer, or x has another shape.
    """
    loss = module.apply(
        variables, key, x, depth, corruption, method=DAE.layer_denoising_loss
    )
    assert isinstance(loss, jax.Array)
    return loss
