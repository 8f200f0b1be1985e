"""A network of standardized images as one of images in [0, 1]."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mijax.models import Prediction

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


class Standardized(nn.Module):
    """A network that standardizes its images first, by ImageNet's mean and deviation.

    Attributes:
        network: any of `mijax.models`, for color images.
    """

    network: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns the network's prediction, of x `[B, H, W, 3]`."""
        mean, deviation = (
            jnp.asarray(each)[None, None, None] for each in (_MEAN, _DEVIATION)
        )
        return self.network((x - mean) / deviation, train)
