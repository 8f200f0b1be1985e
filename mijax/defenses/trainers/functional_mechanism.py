"""Functional mechanism: linear regression from a perturbed objective.

Zhang, Zhang, Xiao, Yang, Winslett (2012). The squared error is a polynomial in the
weights; noise is added to its coefficients, and what it then minimizes is released.

Guarantees epsilon-differential privacy of a record (replaced by another), pure, for
this one release, if the ranges are public; in real numbers, as all such noise: floats
leak a little more (Mironov 2012). It costs accuracy: on IWPC every epsilon that stops
the inference of a genotype makes doses useless (see the build notes).

`diffprivlib` has this mechanism too, but does not import beside the scikit-learn of
today, and is not a pure function that `vmap` could sweep.
"""

import jax
import jax.numpy as jnp
from jax import Array

from mijax.core import concrete
from mijax.defenses.trainers.public_range import PublicRange
from mijax.models.linear import Affine


def functional_mechanism(
    key: Array, x: Array, y: Array, epsilon: float | Array, public: PublicRange
) -> Affine:
    """Fits a linear regression that is epsilon-differentially private.

    Args:
      key: of the noise; the key is consumed.
      x: records `[N, D]`.
      y: outcomes `[N]`.
      epsilon: of the guarantee; infinity adds no noise.
      public: the ranges of columns and outcome; what lies outside is clipped.

    Returns:
      The model of plain, unscaled records.

    Raises:
      ValueError: if epsilon is not positive.

    References:
      Zhang et al. Functional mechanism: regression analysis under differential privacy.
      PVLDB 2012. arXiv:1208.0219.
    """
    value = concrete(jnp.asarray(epsilon))
    if value is not None and not (value > 0).all():
        raise ValueError(f"epsilon is {epsilon}: it must be positive.")
    square, line = perturbed(key, public.records(x), public.outcomes(y), epsilon)
    # Made convex again: only directions that curve upwards.
    values, vectors = jnp.linalg.eigh(square)
    curved = values > len(values) * jnp.finfo(values.dtype).eps * values[-1]
    inverse = jnp.where(curved, 1 / jnp.where(curved, values, 1.0), 0.0)
    return public.linear(-0.5 * vectors @ (inverse * (vectors.T @ line)))


def perturbed(
    key: Array, rows: Array, aims: Array, epsilon: float | Array
) -> tuple[Array, Array]:
    """Returns the squared error's coefficients `[D, D]` and `[D]`, with noise.

    The paper's sensitivity of all coefficients together is `2 (D + 1)^2`, and its ridge
    `4 sqrt(2)` times the noise's scale.
    """
    width = rows.shape[1]
    scale = 2.0 * (width + 1) ** 2 / jnp.asarray(epsilon)
    square_key, line_key = jax.random.split(key)
    noise = jnp.triu(jax.random.laplace(square_key, (width, width)))
    noise = noise + jnp.triu(noise, 1).T + 4 * jnp.sqrt(2.0) * jnp.eye(width)
    square = rows.T @ rows + scale * noise
    line = -2 * rows.T @ aims + scale * jax.random.laplace(line_key, (width,))
    return square, line
