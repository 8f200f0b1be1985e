"""Noise on the features that cross a split network, the same to the same ones.

Guarantees nothing of the input: where features are bounded, as tanh's are, Laplace
noise makes each of them differentially private on its own, not all of them together.
Used in training too, the second half learns to live with it.

References:
  Titcombe, Hall, Papadopoulos, Romanini. Practical defences against model inversion
  attacks for split neural networks. arXiv 2021. arXiv:2104.05743.
  He, Zhang, Lee. Attacking and protecting data privacy in edge-cloud collaborative
  inference systems. Internet of Things Journal 2020. doi:10.1109/JIOT.2020.3022358.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense
from mijax.defenses import seeding, strength


def laplace_features(key: Array, scale: float | Array) -> Defense:
    """Adds Laplace noise of this scale to each feature; 0 adds none.

    Raises:
      ValueError: if `scale` is negative.
    """
    scale = strength.non_negative("The feature noise's scale", scale)
    return Defense(feature=Partial(_noised, key, scale))


def feature_dropout(key: Array, rate: float | Array) -> Defense:
    """Sends 0 in place of this share of the features, chosen at random.

    As He et al. have it, what is left is not scaled up.

    Raises:
      ValueError: if `rate` is not in [0, 1].
    """
    rate = strength.share("The share of features dropped", rate)
    return Defense(feature=Partial(_dropped, key, rate))


def _noised(key: Array, scale: Array, features: Array) -> Array:
    shape = features.shape[1:]
    drawn = seeding.each(key, features, lambda k: jax.random.laplace(k, shape))
    return features + scale * drawn


def _dropped(key: Array, rate: Array, features: Array) -> Array:
    shape = features.shape[1:]
    drawn = seeding.each(key, features, lambda k: jax.random.uniform(k, shape))
    return jnp.where(drawn >= rate, features, 0.0)
