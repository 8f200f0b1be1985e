"""MobileFaceNet: a small face-recognition network, for judging reconstructed faces.

References:
    Chen et al., 2018, MobileFaceNets, arXiv:1804.07573.
"""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mijax.models import weights
from mijax.models.layers import Conv, DepthwiseConv, PReLU, batch_norm, centered

_HEIGHT, _WIDTH = 112, 96

# Where the network's frame lies on a crop of LFW, as shares of the crop's height and
# width. Centre crops of LFW-a show less above and below than the network expects, so
# rows outside repeat the edge. Chosen by verification on other people than the tests'.
_ROWS, _COLUMNS = (-0.06, 1.10), (0.0, 1.0)

# Expansion, channels, blocks, stride of each stage.
STAGES = (
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)


class Unit(nn.Module):
    """A convolution, its normalization and, unless it is linear, a PReLU.

    Attributes:
        features: the output's channels; 0 means a depthwise convolution.
        kernel_size: height and width.
        stride: of the convolution.
        padding: on each side.
        linear: whether the PReLU is left out.
    """

    features: int
    kernel_size: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    linear: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns `[B, H', W', features]`."""
        size, stride, padding = self.kernel_size, self.stride, self.padding
        if self.features:
            x = Conv(self.features, size, stride, padding, use_bias=False, name="conv")(
                x
            )
        else:
            x = DepthwiseConv(size, stride, padding, use_bias=False, name="conv")(x)
        x = batch_norm(train, name="bn")(x)
        return x if self.linear else PReLU(name="prelu")(x)


class Bottleneck(nn.Module):
    """Expand, convolve each channel, project; plus the input where shapes agree.

    Attributes:
        expanded: the channels in between.
        features: the channels that leave.
        stride: of the depthwise convolution.
    """

    expanded: int
    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns `[B, H/stride, W/stride, features]`."""
        y = Unit(self.expanded, name="expand")(x, train)
        y = Unit(0, (3, 3), self.stride, centered(3), name="depthwise")(y, train)
        y = Unit(self.features, linear=True, name="project")(y, train)
        return x + y if x.shape == y.shape else y


class MobileFaceNet(nn.Module):
    """Maps aligned faces to embeddings whose cosine tells whether two are one person.

    It takes 112x96 images of 3 channels, standardized to about [-1, 1], in which the
    eyes lie at the rows and columns (51.7, 30.3) and (51.5, 65.5) and the corners of
    the mouth at (92.4, 33.5) and (92.2, 62.7). `embed` makes these from crops of LFW.
    """

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Returns embeddings `[B, 128]`, of x `[B, 112, 96, 3]`.

        Raises:
            ValueError: if x has another shape.
        """
        if x.ndim != 4 or x.shape[1:] != (_HEIGHT, _WIDTH, 3):
            raise ValueError(
                f"x has shape {x.shape}, but MobileFaceNet takes "
                f"[B, {_HEIGHT}, {_WIDTH}, 3]."
            )
        x = Unit(64, (3, 3), 2, centered(3), name="conv1")(x, train)
        x = Unit(0, (3, 3), 1, centered(3), name="dw_conv1")(x, train)
        index = 0
        for expansion, features, blocks, stride in STAGES:
            for block in range(blocks):
                x = Bottleneck(
                    expansion * x.shape[-1],
                    features,
                    stride if block == 0 else 1,
                    name=f"blocks_{index}",
                )(x, train)
                index += 1
        x = Unit(512, name="conv2")(x, train)
        x = Unit(0, (7, 6), linear=True, name="linear7")(x, train)
        x = Unit(128, linear=True, name="linear1")(x, train)
        return x.reshape(x.shape[0], -1)


# Within a bottleneck PyTorch's layers are numbered.
_BLOCK_NAMES = {
    "expand/conv": "conv.0",
    "expand/bn": "conv.1",
    "expand/prelu": "conv.2",
    "depthwise/conv": "conv.3",
    "depthwise/bn": "conv.4",
    "depthwise/prelu": "conv.5",
    "project/conv": "conv.6",
    "project/bn": "conv.7",
}


def _torch_name(module: str) -> str:
    unit, _, layer = module.partition("/")
    if unit.startswith("blocks_"):
        return f"{unit.replace('_', '.')}.{_BLOCK_NAMES[layer]}"
    return f"{unit}.{layer}"


def load(path: str | Path) -> dict:
    """Reads the variables of `MobileFaceNet()` from PyTorch's.

    Args:
        path: an .npz with the names conv1, dw_conv1, blocks.I.conv.J, conv2, linear7
            and linear1.

    Raises:
        ValueError: if the file is damaged or holds another architecture.
    """
    return weights.from_torch(
        weights.read(path),
        weights.shapes(MobileFaceNet(), (_HEIGHT, _WIDTH, 3)),
        _torch_name,
        architecture=f"MobileFaceNet for [{_HEIGHT}, {_WIDTH}, 3] images",
    )


def embed(variables: dict, x: jax.Array) -> jax.Array:
    """Embeds faces that are framed as centre crops of the aligned LFW-a are.

    Crops are stretched to the network's frame by fixed weights, so the embedding is
    differentiable in x. Compare embeddings by their cosine: they are not normalized.

    Args:
        variables: as `load` returns them.
        x: faces, `[B, H, W, C]` in [0, 1], C being 1 (grey) or 3; 64x64 in LFW's crop.

    Returns:
        Embeddings, `[B, 128]`.

    Raises:
        ValueError: if x is not `[B, H, W, 1]` or `[B, H, W, 3]`.
    """
    if x.ndim != 4 or x.shape[3] not in (1, 3):
        raise ValueError(
            f"x has shape {x.shape}; faces must be [B, H, W, 1] or [B, H, W, 3]."
        )
    rows = interpolation(x.shape[1], _HEIGHT, *_ROWS)
    columns = interpolation(x.shape[2], _WIDTH, *_COLUMNS)
    x = jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns)
    x = jnp.broadcast_to(x, (*x.shape[:3], 3))
    embedding = MobileFaceNet().apply(variables, (255 * x - 127.5) / 128)
    assert isinstance(embedding, jax.Array)
    return embedding


def interpolation(size: int, new_size: int, low: float, high: float) -> np.ndarray:
    """Returns weights `[new_size, size]` that resample [low, high] of an axis linearly.

    The ends are shares of the axis; positions beyond its first and last pixel centers
    take those pixels.
    """
    shares = low + (high - low) * (np.arange(new_size) + 0.5) / new_size
    centers = np.clip(shares * size - 0.5, 0, size - 1)
    distances = np.abs(centers[:, None] - np.arange(size)[None])
    return np.maximum(1 - distances, 0).astype(np.float32)
