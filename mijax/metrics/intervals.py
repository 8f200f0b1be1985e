"""From one value for each example to a mean and its 95 % interval.

Restarts for one victim are not independent examples: `clusters` names each value's
victim, and whole victims are resampled. A value that is not finite raises, with the
number attempted and the number finite, since a mean of the rest would flatter.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


class Interval(NamedTuple):
    """A mean of `n` values and its confidence interval."""

    value: float
    low: float
    high: float
    n: int


def mean(
    values: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean with a percentile bootstrap interval.

    Args:
      values: `[n]`.
      clusters: `[n]`, whose value it is; None if all are independent.
      confidence: of the interval.
      resamples: of the bootstrap.
      seed: of the bootstrap.

    Returns:
      The interval; its width is zero if all values are equal (for shares of successes
      `proportion` does better).

    Raises:
      ValueError: a value is not finite, or there are fewer than two clusters.
    """
    values = _finite("values", values)
    sums = _sums(clusters, values, np.ones_like(values))

    def ratio(total, count, axis=-1):
        return total.sum(axis=axis) / count.sum(axis=axis)

    low, high = _bootstrap(sums, ratio, True, confidence, resamples, seed)
    return Interval(float(values.mean()), low, high, len(values))


def student(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Mean with Student's interval: for few values, such as one a seed.

    A bootstrap of five values is too narrow; this one has its coverage at any number,
    where the values are near normal, as means over many victims are.

    Args:
      values: `[n]`, n at least 2.
      confidence: of the interval.

    Raises:
      ValueError: a value is not finite, or there are fewer than two.

    References:
      Student 1908, The probable error of a mean. doi:10.1093/biomet/6.1.1
    """
    values = _finite("values", values)
    if len(values) < 2:
        raise ValueError("an interval needs at least two values: got one")
    quantile = special.stdtrit(len(values) - 1, 0.5 + confidence / 2)
    half = quantile * values.std(ddof=1) / np.sqrt(len(values))
    value = float(values.mean())
    return Interval(value, value - float(half), value + float(half), len(values))


def proportion(
    hits: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Share of successes with Wilson's interval, which is honest at 0 and at n of n.

    With clusters it is Wilson's for the effective number of trials: as many as would
    give a share of independent trials the variance that the clusters show. Where every
    hit agrees and no variance shows, a cluster counts as one trial.

    Args:
      hits: `[n]` of 0 and 1.
      clusters: `[n]`, whose hit it is; None if all are independent.
      confidence: of the interval.

    Returns:
      The interval, inside [0, 1].

    Raises:
      ValueError: a value is neither 0 nor 1, or there is none.

    References:
      Wilson 1927, Probable inference, the law of succession, and statistical inference.
      doi:10.1080/01621459.1927.10502953
      Kish 1965, Survey Sampling (the design effect).
    """
    hits = _finite("hits", hits)
    if not np.isin(hits, (0, 1)).all():
        raise ValueError("hits must be 0 or 1: `mean` takes other values")
    share = float(hits.mean())
    trials = float(len(hits))
    if clusters is not None:
        sums, counts = _sums(clusters, hits, np.ones_like(hits))
        groups = len(sums)
        if share in (0, 1) or groups == 1:
            trials = groups
        else:
            residual = np.square(sums - share * counts).sum() / counts.sum() ** 2
            variance = residual * groups / (groups - 1)
            trials = min(share * (1 - share) / max(variance, 1e-12), trials)
    z = special.ndtri(0.5 + confidence / 2)
    center = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    half *= z / (1 + z**2 / trials)
    # Exactly 0 or 1 at the ends, whatever the rounding of center and half.
    low = 0.0 if share == 0 else max(float(center - half), 0.0)
    high = 1.0 if share == 1 else min(float(center + half), 1.0)
    return Interval(share, low, high, len(hits))


def difference(
    values: ArrayLike,
    others: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of `values` less the mean of `others`, two groups of different examples.

    Args:
      values: `[n]`, such as whether an attack is right about each member.
      others: `[m]`, the same about non-members.
      confidence: of the percentile bootstrap interval.
      resamples: of the bootstrap.
      seed: of the bootstrap.

    Returns:
      The interval; n is the number of `values`.

    Raises:
      ValueError: a value is not finite, or a group has fewer than two examples.
    """
    values, others = _finite("values", values), _finite("others", others)

    def less(mine, theirs, axis=-1):
        return mine.mean(axis=axis) - theirs.mean(axis=axis)

    low, high = _bootstrap((values, others), less, False, confidence, resamples, seed)
    return Interval(float(values.mean() - others.mean()), low, high, len(values))


def leakage(
    attack: ArrayLike,
    baseline: ArrayLike,
    perfect: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """How far the attack goes from what needs no target (0) to all there is (1).

    It is `(attack - baseline) / (perfect - baseline)` of the means, for any metric,
    whether high or low is good; below 0 the target did harm. The interval is a
    percentile bootstrap. A baseline as long as the attack is taken as the same victims
    in the same order, resampled together; one of another length is resampled apart.

    Args:
      attack: `[n]`, the metric for each example.
      baseline: `[n]`, `[m]` or a number: the metric without the target.
      perfect: `[n]` or a number: the metric of a perfect reconstruction.
      clusters: `[n]`, whose value it is; None if all are independent.
      confidence: of the interval.
      resamples: of the bootstrap.
      seed: of the bootstrap.

    Returns:
      The interval; n is the number of attacked examples.

    Raises:
      ValueError: a value is not finite, sizes do not match, or the baseline (in any
        resample) is already perfect, so that nothing could leak.
    """
    attack = _finite("attack", attack)
    baseline = _finite("baseline", baseline)
    perfect = _finite("perfect", perfect)
    together = baseline.size in (1, attack.size)
    if perfect.size not in (1, attack.size if together else 1):
        raise ValueError(
            f"{perfect.size} values of `perfect` fit neither the {attack.size} of the "
            "attack nor one number"
        )
    span = perfect.mean() - baseline.mean()
    if span == 0:
        raise ValueError(
            f"the baseline is already perfect ({perfect.mean():g}): nothing could leak"
        )

    def ratio(attacked, without, ideal, axis=-1):
        without = without.mean(axis=axis)
        resampled = ideal.mean(axis=axis) - without
        if (resampled * span <= 0).any():
            raise ValueError(
                "the baseline is perfect in some resamples, so that the ratio has no "
                "interval: give more examples"
            )
        return (attacked.mean(axis=axis) - without) / resampled

    if together:
        values = [np.broadcast_to(x, attack.shape) for x in (attack, baseline, perfect)]
        # The counts cancel in the ratio, so sums stand for means.
        low, high = _bootstrap(
            _sums(clusters, *values), ratio, True, confidence, resamples, seed
        )
    else:
        if clusters is not None:
            raise ValueError(
                f"a baseline of {baseline.size} values cannot share the clusters of "
                f"{attack.size}: average both for each victim first"
            )
        ideal = perfect[:1]

        def apart(attacked, without, axis=-1):
            return ratio(attacked, without, ideal, axis=axis)

        low, high = _bootstrap(
            (attack, baseline), apart, False, confidence, resamples, seed
        )
    value = (attack.mean() - baseline.mean()) / span
    return Interval(float(value), low, high, attack.size)


def rank_correlation(
    x: ArrayLike,
    y: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Spearman's rank correlation with a percentile bootstrap interval.

    Args:
      x: `[n]`.
      y: `[n]`.
      clusters: `[n]`, whose value each is; None if all are independent. Resamples in
        which `x` or `y` has one value are left out.
      confidence: of the interval.
      resamples: of the bootstrap.
      seed: of the bootstrap.

    Raises:
      ValueError: a value is not finite, lengths differ, there are fewer than three
        clusters, or `x` or `y` has one value.
    """
    from scipy import stats  # Late, as it takes a second to import.

    x, y = _finite("x", x), _finite("y", y)
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} values and y {len(y)}: give as many")
    if min(np.ptp(x), np.ptp(y)) == 0:
        raise ValueError("x or y has one value: it has no ranks")
    names = np.arange(len(x)) if clusters is None else np.asarray(clusters)
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    if len(members) < 3:
        raise ValueError(f"ranks need at least three clusters: got {len(members)}")

    def of_ranks(rows):
        return np.corrcoef(stats.rankdata(x[rows]), stats.rankdata(y[rows]))[0, 1]

    rng, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        rows = np.concatenate(
            [members[i] for i in rng.integers(0, len(members), len(members))]
        )
        if min(np.ptp(x[rows]), np.ptp(y[rows])) > 0:
            found.append(of_ranks(rows))
    ends = 0.5 - confidence / 2, 0.5 + confidence / 2
    low, high = np.quantile(found, ends)
    value = of_ranks(np.arange(len(x)))
    return Interval(float(value), float(low), float(high), len(x))


def _bootstrap(data, statistic, paired, confidence, resamples, seed):
    from scipy import stats  # Late, as it takes a second to import.

    sizes = [len(x) for x in data]
    if min(sizes) < 2:
        raise ValueError("an interval needs at least two independent examples: got one")
    result = stats.bootstrap(
        data,
        statistic,
        n_resamples=resamples,
        batch=max(1, 2**22 // max(sizes)),
        vectorized=True,
        paired=paired,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    bounds = result.confidence_interval
    return float(bounds.low), float(bounds.high)


def _sums(clusters, *values):
    """Sums each of `values` within every cluster."""
    if clusters is None:
        return values
    clusters = np.asarray(clusters)
    if clusters.shape != values[0].shape:
        raise ValueError(
            f"clusters of shape {clusters.shape} do not name the {len(values[0])} "
            "values one by one"
        )
    _, index = np.unique(clusters, return_inverse=True)
    return tuple(np.bincount(index, weights=x) for x in values)


def _finite(name, values):
    values = np.atleast_1d(np.asarray(values, np.float64))
    if values.ndim != 1 or not values.size:
        raise ValueError(f"{name} have shape {values.shape}: give [n], n at least 1")
    finite = int(np.isfinite(values).sum())
    if finite < values.size:
        raise ValueError(
            f"{name}: {values.size} attempted, {finite} finite. Give the others a "
            "value first (a failed attack is no success): they are never dropped"
        )
    return values
