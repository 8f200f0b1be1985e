"""The improved residual network of face.evoLVe, with its face embedding.

Departure: no dropout before the embedding.

References:
    Deng et al., 2018, ArcFace, arXiv:1801.07698 (section 3.1: the improved residual
    unit and the embedding).
    Wang et al., 2021, Face.evoLVe, arXiv:2107.08621.
    Zhang et al., 2020, The Secret Revealer, arXiv:1911.07135 (a GMI target).
"""

import flax.linen as nn
import jax

from mijax.models import Prediction
from mijax.models.layers import Conv, PReLU, batch_norm, centered


class ImprovedResidual(nn.Module):
    """Normalization, convolution, PReLU, convolution, normalization; plus the input.

    Attributes:
        width: its channels.
        stride: of the second convolution.
    """

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns `[B, H/stride, W/stride, width]`; nothing follows the sum."""
        y = batch_norm(train, name="norm_0")(x)
        y = Conv(self.width, 3, use_bias=False, name="conv_0")(y)
        y = PReLU(name="prelu")(y)
        y = Conv(
            self.width, 3, self.stride, centered(3), use_bias=False, name="conv_1"
        )(y)
        y = batch_norm(train, name="norm_1")(y)
        if x.shape[-1] == self.width:
            return x[:, :: self.stride, :: self.stride] + y
        x = Conv(self.width, 1, self.stride, use_bias=False, name="shortcut")(x)
        return batch_norm(train, name="shortcut_norm")(x) + y


class FaceEvolve(nn.Module):
    """IR-50 by default: four stages that each halve the image, and an embedding.

    Attributes:
        num_classes: K.
        width: the channels of the first stage; each stage doubles them.
        stage_sizes: the units of each stage: (3, 4, 14, 3) is IR-50, (3, 8, 36, 3) is
            IR-152.
        embedding: F, the size of the features.
    """

    num_classes: int
    width: int = 64
    stage_sizes: tuple[int, ...] = (3, 4, 14, 3)
    embedding: int = 512

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]` and the embedding `[B, F]`, of x `[B, H, W, C]`."""
        x = Conv(self.width, 3, use_bias=False, name="stem")(x)
        x = PReLU(name="stem_prelu")(batch_norm(train, name="stem_norm")(x))
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                unit = ImprovedResidual(
                    self.width * 2**stage,
                    stride=2 if index == 0 else 1,
                    name=f"stage_{stage}_{index}",
                )
                x = unit(x, train)
        x = batch_norm(train, name="map_norm")(x).reshape(x.shape[0], -1)
        x = nn.Dense(self.embedding, name="embedding")(x)
        features = batch_norm(train, name="embedding_norm")(x)
        return Prediction(nn.Dense(self.num_classes, name="logits")(features), features)
