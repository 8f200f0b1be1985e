"""The ConvNet that Inverting Gradients attacks: eight convolutions, two poolings.

References:
    Geiping et al., 2020, Inverting Gradients: How Easy Is It to Break Privacy in
    Federated Learning?, arXiv:2003.14053.
"""

import flax.linen as nn
import jax

from mijax.models import Prediction
from mijax.models.layers import Conv, batch_norm, max_pool

_WIDTHS = (1, 2, 2, 4, 4, 4, 4, 4)  # in units of the first
_POOLED = (5, 7)  # 3x3 maxima follow these


class ConvNet(nn.Module):
    """3x3 convolutions, each batch-normalized, and a linear classifier.

    Attributes:
        num_classes: K.
        width: the channels of the first convolution; 64 in the authors' `ConvNet64`.
    """

    num_classes: int = 10
    width: int = 64

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]` and the flattened map, of x `[B, H, W, C]`."""
        for index, factor in enumerate(_WIDTHS):
            x = Conv(factor * self.width, name=f"conv_{index}")(x)
            x = nn.relu(batch_norm(train, name=f"norm_{index}")(x))
            if index in _POOLED:
                x = max_pool(x, 3)
        features = x.reshape(x.shape[0], -1)
        return Prediction(nn.Dense(self.num_classes, name="logits")(features), features)
