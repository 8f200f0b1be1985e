"""Confidence rounding (Fredrikson, Jha, Ristenpart 2015).

Guarantees nothing: it hides the gradient of the confidences from small steps, and an
adversary who takes steps larger than the rounding sees it again.
"""

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense
from mijax.defenses import strength


def rounding(step: float | Array) -> Defense:
    """Releases confidences rounded to multiples of `step`; 0 releases them whole.

    Raises:
      ValueError: if `step` is negative or above 1.

    References:
      Fredrikson, Jha, Ristenpart. Model inversion attacks that exploit confidence
      information and basic countermeasures. CCS 2015. doi:10.1145/2810103.2813677.
    """
    return Defense(output=Partial(_round, strength.share("The rounding step", step)))


def _round(step: Array, scores: Array) -> Array:
    safe = jnp.where(step > 0, step, 1.0)
    return jnp.where(step > 0, jnp.round(scores / safe) * safe, scores)
