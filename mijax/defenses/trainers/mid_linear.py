"""MID for linear regression: tell little of the record in the prediction.

Wang, Zhang, Jia (2021). What is released is `f(x) + N(0, s^2)`, and the fit minimizes

    mean (y - f(x))^2 + weight * I(X; released).

The information is the entropy of a mixture of normals, one a training record, less that
of the noise; the mixture's is Huber et al.'s (2008) expansion of second order, which is
exact for normal predictions, and for predictions far apart or all alike.

Guarantees nothing of a single record: a bound on the average information. It costs the
noise itself, and predictions shrunk towards the mean. Who asks the same record many
times must get the same noise: `output_noise` draws it from what is released.

Departures from the paper: the mixture is of at most `centers` records, the first ones.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from mijax.core import concrete
from mijax.models.linear import Affine, minimum, predict, ridge


class Fitted(NamedTuple):
    """A regression and what it tells.

    Attributes:
      model: without the noise.
      information: of a record in a released prediction, nats.
    """

    model: Affine
    information: Array


def information(predictions: Array, noise: float | Array) -> Array:
    """Returns I(X; f(X) + N(0, noise^2)), nats, of predictions `[N]`."""
    apart = (predictions[:, None] - predictions[None]) / noise
    closeness = -0.5 * apart**2
    density = logsumexp(closeness, axis=1) - jnp.log(float(len(predictions)))
    nearby = jax.nn.softmax(closeness, axis=1)
    around = jnp.sum(nearby * apart**2, 1) - jnp.sum(nearby * apart, 1) ** 2
    return -jnp.mean(density) - 0.5 * jnp.mean(around)


def mid_linear(
    x: Array,
    y: Array,
    weight: float | Array,
    noise: float | Array,
    centers: int = 512,
    steps: int = 60,
) -> Fitted:
    """Fits a linear regression that tells little of each record.

    Args:
      x: `[N, D]`.
      y: `[N]`.
      weight: of the information, in squared units of y a nat; 0 is least squares.
      noise: the standard deviation s of what `output_noise` adds, in units of y.
      centers: records that the information is estimated from; in any order they are
        given, so shuffle them first.
      steps: of L-BFGS, from the least squares.

    Raises:
      ValueError: if the weight is negative or the noise not positive.

    References:
      Wang, Zhang, Jia. Improving robustness to model inversion attacks via mutual
      information regularization. AAAI 2021. arXiv:2009.05241.
      Huber et al. On entropy approximation for Gaussian mixture random vectors.
      MFI 2008. doi:10.1109/MFI.2008.4648062.
    """
    value = concrete(jnp.asarray(weight))
    if value is not None and not (value >= 0).all():
        raise ValueError(f"weight is {weight}: it must be 0 or more.")
    given = concrete(jnp.asarray(noise))
    if given is not None and not (given > 0).all():
        raise ValueError(f"noise is {noise}: it must be positive.")
    few = x[:centers]

    def loss(model: Affine) -> Array:
        errors = (predict(model, x)[:, 0] - y) ** 2
        return jnp.mean(errors) + weight * information(predict(model, few)[:, 0], noise)

    model = minimum(loss, ridge(x, y), steps)
    return Fitted(model, information(predict(model, few)[:, 0], noise))
