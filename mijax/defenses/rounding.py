"""Confidence rounding (Fredrikson, Jha, Ristenpart 2015).

Guarantees nothing: it hides the gradient of the confidences from small steps, and an
adversary who takes steps larger than the rounding sees it again.
"""

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from mijax.core import concrete
from mijax.defenses import Defense


def _round(step: float | Array, scores: Array) -> Array:
    safe = jnp.where(step > 0, step, 1.0)
    return jnp.where(step > 0, jnp.round(scores / safe) * safe, scores)


def rounding(step: float | Array) -> Defense:
    """Releases confidences rounded to multiples of `step`; 0 releases them whole.

    Raises:
      ValueError: if `step` is negative or above 1.

    References:
      Fredrikson, Jha, Ristenpart. Model inversion attacks that exploit confidence
      information and basic countermeasures. CCS 2015. doi:10.1145/2810103.2813677.
    """
    value = concrete(jnp.asarray(step))
    if value is not None and not 0 <= float(value.min()) <= float(value.max()) <= 1:
        raise ValueError(f"The rounding step is {step}: it must lie in [0, 1].")
    return Defense(output=Partial(_round, jnp.asarray(step, jnp.float32)))
