"""Private histogram: train on people drawn from noisy counts, not on the people.

Vinterbo (2012) as Fredrikson et al. (2014) use it: a few fields make a table of cells,
Laplace noise is added to each cell's count, small counts are cut to 0, and synthetic
records are drawn.

Guarantees epsilon-differential privacy of a record (added or removed), pure, of the
counts and of everything made from them, if fields and categories are public. It costs
what is binned away, and noise in every cell, so that few fields fit.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mijax.core import concrete

_CELLS = 10**7


def private_histogram(
    key: Array,
    codes: Array,
    sizes: tuple[int, ...],
    epsilon: float | Array,
    cut: float | Array | None = None,
) -> Array:
    """Returns noisy counts of all cells, none of them negative.

    Args:
      key: of the noise; the key is consumed.
      codes: records as categories, `[N, F]` int32.
      sizes: how many categories each of the F fields has.
      epsilon: of the guarantee.
      cut: counts below it become 0; by default `log(cells) / epsilon`, which an empty
        cell passes with probability `1 / (2 cells)`.

    Returns:
      `[*sizes]`.

    Raises:
      ValueError: if epsilon is not positive, a code is outside its field, or there are
        more than ten million cells.

    References:
      Vinterbo. Differentially private projected histograms: construction and use for
      prediction. ECML PKDD 2012. doi:10.1007/978-3-642-33486-3_2.
    """
    value = concrete(jnp.asarray(epsilon))
    if value is not None and not (value > 0).all():
        raise ValueError(f"epsilon is {epsilon}: it must be positive.")
    cells = math.prod(sizes)
    if cells > _CELLS:
        raise ValueError(
            f"Fields of {sizes} categories make {cells:,} cells: project onto fewer, "
            f"at most {_CELLS:,}."
        )
    given = concrete(codes)
    if given is not None and (np.any(given < 0) or np.any(given >= sizes)):
        raise ValueError(f"Codes must lie in 0 to {sizes}, less 1, of each field.")
    place = jnp.ravel_multi_index(tuple(jnp.moveaxis(codes, 1, 0)), sizes, mode="clip")
    counts = jnp.bincount(place, length=cells)
    noisy = counts + jax.random.laplace(key, (cells,)) / epsilon
    least = jnp.log(float(cells)) / epsilon if cut is None else cut
    return jnp.where(noisy < least, 0.0, jnp.maximum(noisy, 0.0)).reshape(sizes)


def sample(key: Array, counts: Array, number: int) -> Array:
    """Draws records from counts, which costs no privacy; `[number, F]` int32.

    Where all counts were cut to 0, any cell is as likely as any other.
    """
    flat = counts.reshape(-1)
    shares = jnp.cumsum(jnp.where(jnp.sum(flat) > 0, flat, 1.0))
    level = jax.random.uniform(key, (number,), maxval=shares[-1])
    drawn = jnp.searchsorted(shares, level, side="right")
    drawn = jnp.minimum(drawn, flat.size - 1)
    return jnp.stack(jnp.unravel_index(drawn, counts.shape), 1).astype(jnp.int32)
