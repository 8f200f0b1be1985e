"""Objective perturbation: linear regression with a random linear term.

Chaudhuri, Monteleoni, Sarwate (2011), in the form of Kifer, Smith, Thakurta (2012),
which holds for the squared error if the weights are kept in a ball.

Guarantees epsilon-differential privacy of a record (added or removed), pure, for this
one release, if the ranges are public and the minimum is exact; half of epsilon pays for
the gradient, half for the curvature. It costs what the random term pulls and what
the ball cuts off.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from mijax.core import concrete
from mijax.defenses.trainers.public_range import PublicRange
from mijax.models.linear import Affine

_HALVINGS = 60  # of the interval that holds the multiplier of the ball


def objective_perturbation(
    key: Array,
    x: Array,
    y: Array,
    epsilon: float | Array,
    public: PublicRange,
    radius: float | Array = 4.0,
) -> Affine:
    """Fits a linear regression that is epsilon-differentially private.

    Args:
      key: of the random term; the key is consumed.
      x: records `[N, D]`.
      y: outcomes `[N]`.
      epsilon: of the guarantee.
      public: the ranges of columns and outcome; what lies outside is clipped.
      radius: of the ball that holds the weights of scaled records.

    Returns:
      The model of plain, unscaled records.

    Raises:
      ValueError: if epsilon or the radius is not positive.

    References:
      Chaudhuri, Monteleoni, Sarwate. Differentially private empirical risk
      minimization. JMLR 2011. arXiv:0912.0071.
      Kifer, Smith, Thakurta. Private convex empirical risk minimization and
      high-dimensional regression. COLT 2012.
    """
    for name, given in (("epsilon", epsilon), ("radius", radius)):
        value = concrete(jnp.asarray(given))
        if value is not None and not (value > 0).all():
            raise ValueError(f"{name} is {given}: it must be positive.")
    rows, aims = public.records(x), public.outcomes(y)
    width = rows.shape[1]
    # Of half the squared error, in the ball: the gradient is at most this long, and
    # the curvature at most 1.
    steepest = 1.0 + jnp.asarray(radius)
    ridge = 2.0 / jnp.asarray(epsilon)
    direction_key, length_key = jax.random.split(key)
    direction = jax.random.normal(direction_key, (width,))
    length = 2 * steepest / epsilon * jax.random.gamma(length_key, float(width))
    pull = direction * length / jnp.linalg.norm(direction)

    values, vectors = jnp.linalg.eigh(rows.T @ rows + ridge * jnp.eye(width))
    aim = vectors.T @ (rows.T @ aims - pull)

    def shrunk(multiplier: Array) -> Array:
        return aim / (values + multiplier)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        outside = jnp.linalg.norm(shrunk(middle)) > radius
        return jnp.where(outside, middle, low), jnp.where(outside, high, middle)

    most = jnp.linalg.norm(aim) / radius
    _, high = lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(most), most))
    inside = jnp.linalg.norm(shrunk(jnp.zeros_like(most))) <= radius
    return public.linear(vectors @ shrunk(jnp.where(inside, 0.0, high)))
