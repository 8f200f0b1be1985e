"""Output noise: Gaussian noise on each released number, the same to the same one.

Guarantees nothing of a single record. It is what MID (Wang, Zhang, Jia 2021) adds to a
regression's predictions, and bounds the average information in a release together with
`trainers.mid_linear`. An adversary who asks the same record many times learns no more,
since the noise follows from what is released; records nearby average it away.

References:
  Wang, Zhang, Jia. Improving robustness to model inversion attacks via mutual
  information regularization. AAAI 2021. arXiv:2009.05241.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.tree_util import Partial

from mijax.core import Defense, independent
from mijax.defenses import strength


def output_noise(key: Array, deviation: float | Array) -> Defense:
    """Adds `N(0, deviation^2)` to each prediction, the same to the same one.

    Raises:
      ValueError: if `deviation` is not positive and finite.
    """
    deviation = strength.positive("The output noise's deviation", deviation)
    return Defense(output=Partial(_noised, independent(key), deviation))


def _noised(key: Array, deviation: Array, predictions: Array) -> Array:
    bits = lax.bitcast_convert_type(predictions.astype(jnp.float32), jnp.uint32)

    def one(bits: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, bits))

    drawn = jax.vmap(one)(bits.reshape(-1)).reshape(predictions.shape)
    return predictions + deviation * drawn
