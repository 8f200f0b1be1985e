"""VGG16 with batch normalization, as GMI's face classifier.

References:
    Simonyan and Zisserman, 2014, Very Deep Convolutional Networks, arXiv:1409.1556.
    Zhang et al., 2020, The Secret Revealer, arXiv:1911.07135.
"""

import flax.linen as nn
import jax

from mijax.models import Prediction
from mijax.models.layers import Conv, batch_norm, max_pool

_DEPTHS = (2, 2, 3, 3, 3)
_MULTIPLES = (1, 2, 4, 8, 8)


class VGG16(nn.Module):
    """Thirteen 3x3 convolutions in five pooled stages.

    GMI's classifier, the default, normalizes the last map and classifies it linearly.
    The published ImageNet network has `dense_widths=(4096, 4096)` and
    `normalize_features=False`; its dropout is left out.

    Attributes:
        num_classes: K.
        width: the channels of the first stage; the last has eight times as many.
        dense_widths: the units of each hidden dense layer.
        normalize_features: whether the features are batch-normalized, with no bias.
    """

    num_classes: int
    width: int = 64
    dense_widths: tuple[int, ...] = ()
    normalize_features: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]` and features `[B, F]`, of x `[B, H, W, C]`.

        Raises:
            ValueError: if the images are smaller than 32x32.
        """
        for stage, (depth, multiple) in enumerate(
            zip(_DEPTHS, _MULTIPLES, strict=True)
        ):
            for layer in range(depth):
                x = Conv(multiple * self.width, name=f"conv_{stage}_{layer}")(x)
                x = nn.relu(batch_norm(train, name=f"norm_{stage}_{layer}")(x))
            x = max_pool(x)
        features = x.reshape(x.shape[0], -1)
        for index, width in enumerate(self.dense_widths):
            features = nn.relu(nn.Dense(width, name=f"dense_{index}")(features))
        if self.normalize_features:
            norm = batch_norm(train, use_bias=False, name="feature_norm")
            features = norm(features)
        return Prediction(nn.Dense(self.num_classes, name="logits")(features), features)
