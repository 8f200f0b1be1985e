"""LeNet and the digit networks of GMI: convolutions, then dense layers.

References:
    LeCun et al., 1998, Gradient-based Learning Applied to Document Recognition,
    doi:10.1109/5.726791.
    Zhang et al., 2020, The Secret Revealer, arXiv:1911.07135 (the digit target and
    evaluator).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import flax.linen as nn
import jax

from mijax.models import Prediction, weights
from mijax.models.layers import Conv, batch_norm, max_pool


class LeNet(nn.Module):
    """A stack of convolutions, each perhaps pooled, and a stack of dense layers.

    The default is LeNet-5 with ReLU and maxima in place of LeCun's sigmoids and means,
    for 32x32 images.

    Attributes:
        num_classes: K.
        widths: the channels of each convolution.
        kernel_sizes: the side of each convolution's kernel.
        pooled: whether a 2x2 maximum follows each convolution.
        dense_widths: the units of each hidden dense layer.
        padding: of the convolutions.
        normalize: whether each convolution is batch-normalized (and then unbiased).
        activation: applied after every hidden layer.
    """

    num_classes: int = 10
    widths: tuple[int, ...] = (6, 16, 120)
    kernel_sizes: tuple[int, ...] = (5, 5, 5)
    pooled: tuple[bool, ...] = (True, True, False)
    dense_widths: tuple[int, ...] = (84,)
    padding: Literal["SAME", "VALID"] = "VALID"
    normalize: bool = False
    activation: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]` and the last hidden layer, of x `[B, H, W, C]`.

        Raises:
            ValueError: if the fields disagree on the number of convolutions, or the
                image is too small for them.
        """
        if not len(self.widths) == len(self.kernel_sizes) == len(self.pooled):
            raise ValueError(
                "widths, kernel_sizes and pooled need one entry a convolution, but are "
                f"{self.widths}, {self.kernel_sizes} and {self.pooled}."
            )
        layers = zip(self.widths, self.kernel_sizes, self.pooled, strict=True)
        for index, (width, kernel_size, pooled) in enumerate(layers):
            x = Conv(
                width,
                kernel_size,
                padding=self.padding,
                use_bias=not self.normalize,
                name=f"conv_{index}",
            )(x)
            if self.normalize:
                x = batch_norm(train, name=f"norm_{index}")(x)
            x = self.activation(x)
            if pooled:
                x = max_pool(x)
        features = x.reshape(x.shape[0], -1)
        for index, width in enumerate(self.dense_widths):
            features = nn.Dense(width, name=f"dense_{index}")(features)
            features = self.activation(features)
        return Prediction(nn.Dense(self.num_classes, name="logits")(features), features)


def mcnn(num_classes: int = 10, width: int = 64) -> LeNet:
    """Returns GMI's digit target: three convolutions, kernels 7, 5 and 5."""
    return LeNet(
        num_classes=num_classes,
        widths=(width, 2 * width, 4 * width),
        kernel_sizes=(7, 5, 5),
        pooled=(True, True, True),
        dense_widths=(),
        padding="SAME",
        normalize=True,
        activation=partial(nn.leaky_relu, negative_slope=0.2),
    )


def scnn(num_classes: int = 10, width: int = 32) -> LeNet:
    """Returns an evaluator in the style of GMI's: five convolutions of 3x3."""
    return LeNet(
        num_classes=num_classes,
        widths=(width, 2 * width, 4 * width, 4 * width, 8 * width),
        kernel_sizes=(3, 3, 3, 3, 3),
        pooled=(True, True, False, True, False),
        dense_widths=(8 * width,),
        padding="SAME",
        normalize=True,
    )


_TORCH_NAMES = {
    "conv_0": "convnet.c1",
    "conv_1": "convnet.c3",
    "conv_2": "convnet.c5",
    "dense_0": "fc.f6",
    "logits": "fc.f7",
}


def load(path: str | Path) -> dict:
    """Reads the variables of `LeNet()` for 32x32 grey digits from PyTorch's.

    Args:
        path: an .npz with the names convnet.c1, c3, c5 and fc.f6, f7.

    Raises:
        ValueError: if the file is damaged or holds another architecture.
    """
    return weights.from_torch(
        weights.read(path),
        weights.shapes(LeNet(), (32, 32, 1)),
        _TORCH_NAMES.__getitem__,
        architecture="LeNet-5 (6-16-120-84-10, 5x5) for [32, 32, 1] images",
    )
