"""Clipping: nothing that is shared is longer than a norm.

Guarantees a bound on the length of one update (`clip_update`), or of what any one
example adds to the sum of a batch (`clip_examples`), whatever the data. It hides
nothing by itself: the direction of a gradient, which a cosine attack matches, stays as
it was.

References:
  Abadi et al. Deep learning with differential privacy. CCS 2016. arXiv:1607.00133.
  Geyer, Klein, Nabi. Differentially private federated learning: a client level
  perspective. NeurIPS 2017. arXiv:1712.07557.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense
from mijax.defenses import strength


def clip_update(norm: float | Array) -> Defense:
    """Scales the update down to Euclidean length `norm`, over all leaves together.

    An update that is not finite counts as one of zero.

    Raises:
      ValueError: if `norm` is not positive and finite.
    """
    return strength.stateless(Partial(_clip, _checked(norm)))


def clip_examples(norm: float | Array) -> Defense:
    """Scales each example's gradient down to Euclidean length `norm`.

    An example whose gradient is not finite counts as a gradient of zero, so that the
    bound holds whatever the data.

    Raises:
      ValueError: if `norm` is not positive and finite.
    """
    return Defense(example_gradient=Partial(_clip_each, _checked(norm)))


def _clip_each(norm: Array, gradients: Any) -> Any:
    return jax.vmap(lambda gradient: _clip(norm, gradient))(gradients)


def _clip(norm: Array, gradient: Any) -> Any:
    length = optax.tree.norm(gradient)
    finite = jnp.isfinite(length)
    scale = norm / jnp.maximum(length, norm)

    def clip(leaf: Array) -> Array:
        return jnp.where(finite, (scale * leaf).astype(leaf.dtype), 0)

    return jax.tree.map(clip, gradient)


def _checked(norm: float | Array) -> Array:
    return strength.positive("The clipping norm", norm)
