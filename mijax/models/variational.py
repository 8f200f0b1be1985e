"""A perceptron with a variational bottleneck, which MID regularizes.

References:
    Alemi, Fischer, Dillon and Murphy, 2017, Deep Variational Information Bottleneck,
    arXiv:1612.00410.
    Wang, Zhang and Jia, 2021, Improving Robustness to Model Inversion Attacks via
    Mutual Information Regularization, arXiv:2009.05241.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mijax.models import Prediction


class VariationalMLP(nn.Module):
    """Hidden layers, a Gaussian bottleneck, and a linear classifier of what is drawn.

    In training it draws with the key of dropout; deployed it takes the means, in which
    the logits are affine.

    Attributes:
        num_classes: K.
        widths: the units of each hidden layer.
        bottleneck: F.
    """

    num_classes: int
    widths: tuple[int, ...] = (256,)
    bottleneck: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]`, means and log deviations `[B, 2 F]`, of x."""
        h = x.reshape(x.shape[0], -1)
        for width in self.widths:
            h = nn.relu(nn.Dense(width)(h))
        features = nn.Dense(2 * self.bottleneck, name="bottleneck")(h)
        mean, log_deviation = jnp.split(features, 2, -1)
        z = mean
        if train:
            drawn = jax.random.normal(self.make_rng("dropout"), mean.shape)
            z = mean + jnp.exp(log_deviation) * drawn
        return Prediction(nn.Dense(self.num_classes, name="logits")(z), features)
