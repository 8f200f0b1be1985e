"""Losses that say how far a prediction is from the identity that is sought.

Each is `(prediction of B images, labels [B], anchor) -> losses [B]`, where `anchor`
is the mean penultimate feature of public images, `[F]`, or None.
"""

import jax.numpy as jnp
import optax
from jax import Array

from mijax.core import Prediction

_SMALLEST = 1e-7  # keeps divisions finite


def cross_entropy(prediction: Prediction, labels: Array, anchor: Array | None) -> Array:
    """Cross-entropy, GMI's; it saturates once the target is convinced.

    References:
      Zhang et al. The secret revealer. CVPR 2020. arXiv:1911.07135.
    """
    del anchor
    return optax.softmax_cross_entropy_with_integer_labels(prediction.logits, labels)


def logit(prediction: Prediction, labels: Array, anchor: Array | None) -> Array:
    """The negated logit, kept in bounds by the distance of features to public ones.

    Departure: the anchor is the mean of public features, which is what the authors'
    code ends up using, where the paper samples around it.

    Raises:
      ValueError: without an anchor, or where the model does not tell its features.

    References:
      Nguyen et al. Re-thinking model inversion attacks against deep neural networks
      (LOMMA). CVPR 2023. arXiv:2304.01669.
    """
    if anchor is None or prediction.features is None:
        raise ValueError(
            "The logit loss needs public images in the knowledge and a target that "
            "returns a mijax.core.Prediction with features."
        )
    outward = jnp.mean((prediction.features - anchor[None]) ** 2, -1)
    return outward + negated_logit(prediction, labels, anchor)


def negated_logit(prediction: Prediction, labels: Array, anchor: Array | None) -> Array:
    """The negated logit alone, for logits that are bounded, such as cosines."""
    del anchor
    return -jnp.take_along_axis(prediction.logits, labels[:, None], 1)[:, 0]


def max_margin(prediction: Prediction, labels: Array, anchor: Array | None) -> Array:
    """The best other logit minus the sought one.

    References:
      Yuan et al. Pseudo label-guided model inversion attack (PLG-MI). AAAI 2023.
      arXiv:2302.09814.
    """
    del anchor
    logits = prediction.logits
    is_sought = jnp.arange(logits.shape[1])[None] == labels[:, None]
    sought = jnp.max(jnp.where(is_sought, logits, -jnp.inf), 1)
    return jnp.max(jnp.where(is_sought, -jnp.inf, logits), 1) - sought


def poincare(prediction: Prediction, labels: Array, anchor: Array | None) -> Array:
    """Distance in the Poincare ball from the logits, of unit L1 norm, to the class.

    Unlike cross-entropy's, its gradient does not vanish once the target is convinced.

    References:
      Struppek et al. Plug & play attacks (PPA). ICML 2022. arXiv:2201.12179.
    """
    del anchor
    logits = prediction.logits
    norms = jnp.sum(jnp.abs(logits), 1, keepdims=True)
    u = logits / jnp.maximum(norms, _SMALLEST)
    # A vertex lies on the ball's edge, infinitely far from all: stay just inside.
    v = (1 - 1e-4) * (jnp.arange(logits.shape[1])[None] == labels[:, None])
    room = jnp.maximum(1 - jnp.sum(u**2, 1), _SMALLEST) * (1 - jnp.sum(v**2, 1))
    delta = 2 * jnp.sum((u - v) ** 2, 1) / room
    return jnp.log1p(delta + jnp.sqrt(delta * (delta + 2)))  # arccosh(1 + delta)
