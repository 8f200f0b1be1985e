"""Strided convolutions and one dense layer: the LeNets that DLG and CPL attack.

References:
    Zhu, Liu and Han, 2019, Deep Leakage from Gradients, arXiv:1906.08935.
    Wei et al., 2020, A Framework for Evaluating Gradient Leakage Attacks in Federated
    Learning, arXiv:2004.10397.
"""

from collections.abc import Callable

import flax.linen as nn
import jax

from mijax.models import Prediction
from mijax.models.layers import Conv, centered


class StridedConvNet(nn.Module):
    """A stack of strided convolutions and a linear classifier of the last map.

    Attributes:
        num_classes: K.
        widths: the channels of each convolution.
        strides: of each convolution.
        kernel_size: the side of every kernel; odd.
        activation: applied after each convolution. Attacks by L-BFGS need one with a
            second derivative.
    """

    num_classes: int
    widths: tuple[int, ...] = (12, 12, 12, 12)
    strides: tuple[int, ...] = (2, 2, 1, 1)
    kernel_size: int = 5
    activation: Callable[[jax.Array], jax.Array] = nn.sigmoid

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]` and the flattened map, of x `[B, H, W, C]`.

        Raises:
            ValueError: if `widths` and `strides` are not as many.
        """
        del train  # The same network either way.
        if len(self.widths) != len(self.strides):
            raise ValueError(
                "widths and strides need one entry a convolution, but are "
                f"{self.widths} and {self.strides}."
            )
        padding = centered(self.kernel_size)
        for index, (width, stride) in enumerate(
            zip(self.widths, self.strides, strict=True)
        ):
            name = f"conv_{index}"
            x = Conv(width, self.kernel_size, stride, padding, name=name)(x)
            x = self.activation(x)
        features = x.reshape(x.shape[0], -1)
        return Prediction(nn.Dense(self.num_classes, name="logits")(features), features)


def dlg_lenet(num_classes: int) -> StridedConvNet:
    """Returns DLG's LeNet: three sigmoid convolutions."""
    return StridedConvNet(num_classes, (12,) * 3, (2, 2, 1))


def cpl_lenet(num_classes: int) -> StridedConvNet:
    """Returns CPL's LeNet: four sigmoid convolutions."""
    return StridedConvNet(num_classes)
