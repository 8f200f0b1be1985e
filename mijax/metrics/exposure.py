"""Exposure: by how many bits a secret stands out among all that might be there.

A canary of log-perplexity P, one of R candidates that were equally likely to be
inserted, has rank r among them by P, and

    exposure = log2 R - log2 r.

A canary that was never inserted has a rank that is uniform, so that its exposure is
log2(e) = 1.44 bits in the mean; one that the model finds likeliest has log2 R.

References:
  Carlini et al. The secret sharer: evaluating and testing unintended memorization in
  neural networks. USENIX Security 2019. arXiv:1802.08232.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

NEVER_INSERTED = math.log2(math.e)  # bits, the mean over canaries of uniform rank


def exact(canary: ArrayLike, candidates: ArrayLike) -> np.ndarray:
    """Exposure of canaries by enumeration, in bits, `[V]`.

    Args:
      canary: log-perplexity of each canary, `[V]`.
      candidates: that of all R candidates of each, the canary itself among them,
        `[V, R]`. A canary that ties with others has the mean of their ranks.

    Raises:
      ValueError: a value is NaN, or there are not as many rows as canaries.
    """
    mine, all_of_them = _pair(canary, candidates)
    lower = (all_of_them < mine).sum(1)
    equal = np.maximum((all_of_them == mine).sum(1), 1)
    return np.log2(all_of_them.shape[1]) - np.log2(lower + (equal + 1) / 2)


def approximate(canary: ArrayLike, drawn: ArrayLike) -> np.ndarray:
    """Exposure of canaries by a skew normal distribution, in bits, `[V]`.

    The log-perplexities of random candidates are fitted by a skew normal; exposure is
    -log2 of its distribution function at the canary. It serves formats with too many
    secrets to enumerate, and is not bounded by log2 R.

    Args:
      canary: log-perplexity of each canary, `[V]`.
      drawn: those of random candidates of each, `[V, N]`.

    Raises:
      ValueError: a value is NaN, or there are not as many rows as canaries.
    """
    from scipy import stats  # Late, as it takes a second to import.

    mine, others = _pair(canary, drawn)
    found = []
    for value, row in zip(mine[:, 0], others, strict=True):
        shape, place, scale = stats.skewnorm.fit(row)
        found.append(-stats.skewnorm.logcdf(value, shape, place, scale) / math.log(2))
    return np.array(found)


def _pair(canary: ArrayLike, others: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    mine, rows = np.asarray(canary, np.float64), np.asarray(others, np.float64)
    if mine.ndim != 1 or rows.ndim != 2 or len(rows) != len(mine):
        raise ValueError(
            f"Canaries are {mine.shape} and candidates {rows.shape}: give [V] and "
            "[V, R]."
        )
    if np.isnan(mine).any() or np.isnan(rows).any():
        raise ValueError("A log-perplexity is NaN: mend the model first.")
    return mine[:, None], rows
