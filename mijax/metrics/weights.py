"""Does a released model carry a payload? What the distribution of its weights says.

Whoever receives a model may compare its weights with those of a model that was trained
without suspicion: weights that follow a payload are distributed otherwise. Neither test
proves that there is none: a payload that is encrypted has even bits, and a gentle
penalty leaves the distribution near what it was.

References:
  Song, Ristenpart, Shmatikov. Machine learning models that remember too much. CCS 2017.
  doi:10.1145/3133956.3134077.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def distribution_distance(weights: ArrayLike, reference: ArrayLike) -> float:
    """Largest distance of two distribution functions of weights (Kolmogorov-Smirnov).

    Args:
      weights: of the released model, `[N]`.
      reference: of a model of the same kind, `[M]`.
    """
    found: Any = stats.ks_2samp(np.ravel(weights), np.ravel(reference))
    return float(found.statistic)


def uneven_bit(weights: ArrayLike, bits: int) -> float:
    """How uneven the most uneven of the low bits of float32 weights is.

    A low bit of a trained weight is 1 as often as 0. The result is the largest
    deviation of a count from one half, in standard deviations of fair coins: among 20
    bits about 2 where there is no payload.

    Args:
      weights: `[N]`.
      bits: how many low bits are looked at, 1 to 23.

    Raises:
      ValueError: if there are no weights, or `bits` is out of its range.
    """
    raw = np.ravel(np.asarray(weights, np.float32)).view(np.uint32)
    if not raw.size or not 1 <= bits <= 23:
        raise ValueError(
            f"There are {raw.size} weights and bits is {bits}: give at least one "
            "weight, and 1 to 23 bits, those of a float32's fraction."
        )
    ones = np.array([(raw >> bit & 1).sum() for bit in range(bits)], float)
    return float(np.max(abs(ones - raw.size / 2)) / np.sqrt(raw.size / 4))
