"""MobileFaceNet as trained on MS-Celeb-1M: a public face network to fine-tune.

It shares its stages with `mobile_face_net`, which judges, and differs in its frame
(112x112 color, ImageNet's standardization), its activations (ReLU6, but ReLU without
a cap around the separable convolution) and its head (a biased 1x1 convolution and a
normalization).

References:
    Chen et al., 2018, MobileFaceNets, arXiv:1804.07573.
    Deng et al., 2019, ArcFace, arXiv:1801.07698: the alignment of the faces.
"""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mijax import pretrained
from mijax.models import weights
from mijax.models.layers import Conv, DepthwiseConv, batch_norm, centered
from mijax.models.mobile_face_net import STAGES, interpolation

SIDE = 112
_MEAN = np.array([[[[0.485, 0.456, 0.406]]]], np.float32)
_DEVIATION = np.array([[[[0.229, 0.224, 0.225]]]], np.float32)

# Where the network's frame lies on a centre crop of LFW-a, as shares of its height and
# width. ArcFace's template is that of `mobile_face_net`, 8 columns wider on each side
# of its 96; outside the crop, edges repeat.
_ROWS, _COLUMNS = (-0.06, 1.10), (-8 / 96, 104 / 96)


class Unit(nn.Module):
    """A convolution, its normalization and ReLU6.

    Attributes:
        features: the output's channels; 0 means a depthwise convolution.
        kernel_size: of both sides.
        stride: of the convolution.
    """

    features: int
    kernel_size: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns `[B, H', W', features]`, in [0, 6]."""
        size = (self.kernel_size, self.kernel_size)
        padding = centered(self.kernel_size)
        if self.features:
            convolution = Conv(
                self.features, size, self.stride, padding, use_bias=False, name="conv"
            )
        else:
            convolution = DepthwiseConv(
                size, self.stride, padding, use_bias=False, name="conv"
            )
        return nn.relu6(batch_norm(train, name="bn")(convolution(x)))


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
        y = Unit(0, 3, self.stride, name="depthwise")(y, train)
        y = Conv(self.features, (1, 1), use_bias=False, name="project")(y)
        y = batch_norm(train, name="project_bn")(y)
        return x + y if x.shape == y.shape else y


class MobileFaceNetMS1M(nn.Module):
    """Maps faces in ArcFace's alignment to embeddings, compared by their cosine."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Returns embeddings `[B, 128]` of standardized x `[B, 112, 112, 3]`.

        Raises:
            ValueError: if x has another shape.
        """
        if x.ndim != 4 or x.shape[1:] != (SIDE, SIDE, 3):
            raise ValueError(
                f"x has shape {x.shape}, but MobileFaceNetMS1M takes "
                f"[B, {SIDE}, {SIDE}, 3]: see `embed`."
            )
        x = Unit(64, 3, 2, name="conv1")(x, train)
        # Here the published network has ReLU, where capping changes its embeddings.
        x = DepthwiseConv((3, 3), 1, centered(3), use_bias=False, name="depthwise")(x)
        x = nn.relu(batch_norm(train, name="depthwise_bn")(x))
        x = Conv(64, (1, 1), use_bias=False, name="pointwise")(x)
        x = nn.relu(batch_norm(train, name="pointwise_bn")(x))
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
        x = DepthwiseConv(
            (7, 7), 1, ((0, 0), (0, 0)), use_bias=False, name="global_depthwise"
        )(x)
        x = batch_norm(train, name="global_bn")(x)
        x = Conv(128, (1, 1), use_bias=True, name="linear")(x)
        x = batch_norm(train, name="linear_bn")(x)
        return x.reshape(x.shape[0], -1)


# What PyTorch calls the layers; within a bottleneck they are numbered.
_NAMES = {
    "conv1/conv": "conv1.0",
    "conv1/bn": "conv1.1",
    "depthwise": "dw_conv.depthwise",
    "depthwise_bn": "dw_conv.bn1",
    "pointwise": "dw_conv.pointwise",
    "pointwise_bn": "dw_conv.bn2",
    "conv2/conv": "conv2.0",
    "conv2/bn": "conv2.1",
    "global_depthwise": "gdconv.depthwise",
    "global_bn": "gdconv.bn",
    "linear": "conv3",
    "linear_bn": "bn",
}
_BLOCK_NAMES = {
    "expand/conv": "conv.0.0",
    "expand/bn": "conv.0.1",
    "depthwise/conv": "conv.1.0",
    "depthwise/bn": "conv.1.1",
    "project": "conv.2",
    "project_bn": "conv.3",
}


def _torch_name(module: str) -> str:
    if module.startswith("blocks_"):
        block, _, layer = module.partition("/")
        return f"features.{block.removeprefix('blocks_')}.{_BLOCK_NAMES[layer]}"
    return _NAMES[module]


def load(path: str | Path | None = None) -> dict:
    """Reads the variables of `MobileFaceNetMS1M()` from PyTorch's.

    Args:
        path: an .npz with the names conv1, dw_conv, features.I.conv.J, conv2, gdconv,
            conv3 and bn; None takes the weights that ship with mijax.

    Raises:
        ValueError: if the file is damaged or holds another architecture.
    """
    return weights.from_torch(
        weights.read(path or pretrained.path("mobile_face_net_ms1m")),
        weights.shapes(MobileFaceNetMS1M(), (SIDE, SIDE, 3)),
        _torch_name,
        architecture=f"MobileFaceNetMS1M for [{SIDE}, {SIDE}, 3] images",
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
    rows = interpolation(x.shape[1], SIDE, *_ROWS)
    columns = interpolation(x.shape[2], SIDE, *_COLUMNS)
    x = jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns)
    x = (x - _MEAN) / _DEVIATION  # Grey is copied to the 3 channels.
    embedding = MobileFaceNetMS1M().apply(variables, x)
    assert isinstance(embedding, jax.Array)
    return embedding
