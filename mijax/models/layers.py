"""The layers that several families share."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array

from mijax.models.convolution import (
    Padding,
    convolve,
    convolve_transpose,
    depthwise,
)


class PReLU(nn.Module):
    """A leaky ReLU whose slope is learned for each channel (the last axis).

    References:
        He et al., 2015, Delving Deep into Rectifiers, arXiv:1502.01852.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `x` where it is positive and `slope * x` elsewhere, `[..., C]`."""
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],))
        slope = jnp.expand_dims(slope, range(x.ndim - 1))
        return jnp.where(x > 0, x, slope * x)


def batch_norm(
    train: bool, *, use_bias: bool = True, name: str | None = None
) -> nn.BatchNorm:
    """Returns the batch normalization that every family uses.

    With `train` it normalizes by the batch and updates the running statistics, else
    it applies the running statistics. Call it inside a compact `__call__`.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        use_bias=use_bias,
        name=name,
    )


def centered(kernel_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the padding that is alike on all four sides.

    At stride 2 it samples another grid than "SAME" does; the networks of the
    literature, and their published weights, are padded this way.
    """
    side = kernel_size // 2
    return (side, side), (side, side)


def max_pool(x: jax.Array, side: int = 2) -> jax.Array:
    """Returns the maximum over non-overlapping windows, `[B, H//side, W//side, C]`.

    Last rows or columns that fill no window are left out. Written as elementwise maxima
    because their gradient is 2.5 times as fast on CPU as a window reduction's. Where
    values tie, they share the gradient.

    Raises:
        ValueError: if the maps are smaller than a window.
    """
    if min(x.shape[1:3]) < side:
        raise ValueError(
            f"Maps of {x.shape[1]}x{x.shape[2]} cannot be pooled by {side}x{side}: "
            "give larger images, or pool fewer times."
        )
    height, width = x.shape[1] // side * side, x.shape[2] // side * side
    rows = functools.reduce(jnp.maximum, [x[:, i:height:side] for i in range(side)])
    return functools.reduce(
        jnp.maximum, [rows[:, :, j:width:side] for j in range(side)]
    )


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


class Conv(nn.Module):
    """A convolution `[B, H, W, C] -> [B, H', W', features]`."""

    features: int
    kernel_size: int | tuple[int, int] = 3
    stride: int = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the convolution."""
        shape = (*_pair(self.kernel_size), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        x, kernel = promote_dtype(x, kernel)
        y = convolve(x, kernel, self.stride, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + bias[None, None, None]
        return y


class ConvTranspose(nn.Module):
    """A transposed convolution `[B, H, W, C] -> [B, sH, sW, features]`."""

    features: int
    kernel_size: int | tuple[int, int] = 5
    stride: int = 2
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal(
        in_axis=-1, out_axis=-2
    )

    @nn.compact
    def __call__(self, y: Array) -> Array:
        """Applies the transposed convolution."""
        shape = (*_pair(self.kernel_size), self.features, y.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape)
        y, kernel = promote_dtype(y, kernel)
        x = convolve_transpose(y, kernel, self.stride, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            x = x + bias[None, None, None]
        return x


class DepthwiseConv(nn.Module):
    """A convolution of each channel by itself `[B, H, W, C] -> [B, H', W', C]`."""

    kernel_size: int | tuple[int, int] = 3
    stride: int = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the convolution."""
        shape = (*_pair(self.kernel_size), 1, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape)
        x, kernel = promote_dtype(x, kernel)
        y = depthwise(x, kernel, self.stride, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
            y = y + bias[None, None, None]
        return y
