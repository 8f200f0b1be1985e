"""What came of an attack: figures with intervals, and one sentence that says it.

A gain is +1 where the attack is right and the baseline wrong, -1 the other way round,
else 0. Memory is a significant difference between the gains of members and of others,
whatever the level of either: an attack that is weaker than the baseline for both can
still tell them apart, and says so.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mijax.audit.releases import who_knows
from mijax.metrics import attributes
from mijax.metrics.intervals import Interval, proportion

_RESAMPLES = 20_000
SMALL = 20  # people of a group, below which nothing is said of it


def mean_gain(gains: NDArray, confidence: float = 0.95) -> Interval:
    """Mean of gains of -1, 0 and 1 with an interval.

    As a bootstrap of which a resample is a draw of three counts, so that its cost does
    not depend on their number; with one loss more at the lower end, and one win more at
    the upper, it is that of Clopper and Pearson: a plain bootstrap of few wins and no
    loss would never see a loss.
    """
    low, high = _ends(_resampled(gains, 0), confidence)
    return Interval(float(np.mean(gains)), low, high, len(gains))


def difference(gains: NDArray, others: NDArray, confidence: float = 0.95) -> Interval:
    """Mean gain of one group less that of another, each drawn as above."""
    (low, high), (other_low, other_high) = _resampled(gains, 0), _resampled(others, 1)
    value = float(np.mean(gains) - np.mean(others))
    ends = _ends((low - other_high, high - other_low), confidence)
    return Interval(value, *ends, len(gains))


def _resampled(gains: NDArray, seed: int) -> tuple[NDArray, NDArray]:
    """Draws of the mean for the lower and for the upper end."""
    counts = np.array([np.sum(gains == value) for value in (-1, 0, 1)])
    if counts.sum() != len(gains) or not len(gains):
        raise ValueError("gains must be -1, 0 or 1, at least one.")
    random = np.random.default_rng(seed)
    ends = []
    for more in ([1, 0, 0], [0, 0, 1]):
        drawn = random.gamma(counts + more, size=(_RESAMPLES, 3))
        ends.append((drawn[:, 2] - drawn[:, 0]) / drawn.sum(1))
    return ends[0], ends[1]


def _ends(drawn: tuple[NDArray, NDArray], confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    return float(np.quantile(drawn[0], tail)), float(np.quantile(drawn[1], 1 - tail))


@dataclasses.dataclass(frozen=True)
class Truth:
    """What people really have of a field.

    Attributes:
      codes: of the values, `[V]`.
      right: whether each value would count as named, `[V, S]`.
      near: whether two values are within the tolerance, `[S, S]`; None of categories.
    """

    codes: NDArray[np.intp]
    right: NDArray[np.bool_]
    near: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, codes: NDArray[np.intp], size: int) -> "Truth":
        """Of categories: one value is right."""
        return cls(codes, np.eye(size, dtype=bool)[codes])

    def guess(self, beliefs: NDArray) -> NDArray[np.intp]:
        """The value around which most belief is, `[V]`."""
        if self.near is None:
            return beliefs.argmax(1)
        # Of values with as much belief around them, the one that has more itself.
        return (beliefs @ self.near + 1e-6 * beliefs).argmax(1)

    def hits(self, guess: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether each guess is right, `[V]`."""
        return self.right[np.arange(len(guess)), guess]


@dataclasses.dataclass(frozen=True)
class Side:
    """What an attack says of members, or of others.

    Attributes:
      guess: value guessed of each, `[V]`.
      belief: in that guess, `[V]`.
      gain: over the baseline, `[V]` of -1, 0 and 1.
      accuracy: share of right guesses.
      mean_gain: with its interval, corrected for the number of attacks.
      g_mean: of the recalls.
      mcc: Matthews' correlation.
      precision_at_100: share of right guesses among the 100 most believed.
    """

    guess: NDArray[np.intp]
    belief: NDArray[np.float64]
    gain: NDArray[np.int8]
    accuracy: Interval
    mean_gain: Interval
    g_mean: float
    mcc: float
    precision_at_100: float


@dataclasses.dataclass(frozen=True)
class Attack:
    """One attack of one field.

    Attributes:
      name: of the attack.
      members: what it says of them.
      others: what it says of them.
      advantage: accuracy of members less accuracy of others.
      memory: gain of members less gain of others; its interval is corrected for the
        number of attacks.
    """

    name: str
    members: Side
    others: Side
    advantage: Interval
    memory: Interval

    @property
    def remembers(self) -> bool:
        """Whether more is told of members than of others, beyond the baseline."""
        return self.memory.low > 0

    @property
    def adds(self) -> bool:
        """Whether it beats the baseline, of members or of others."""
        return max(self.members.mean_gain.low, self.others.mean_gain.low) > 0

    @property
    def weaker(self) -> bool:
        """Whether it is worse than the baseline, of members."""
        return self.members.mean_gain.high < 0


def side(beliefs: NDArray, truth: Truth, baseline: NDArray, confidence: float) -> Side:
    """Compares beliefs, `[V, S]`, with the truth and with the baseline's, `[V, S]`."""
    guess = truth.guess(beliefs)
    hits = truth.hits(guess)
    gain = hits.astype(np.int8) - truth.hits(truth.guess(baseline)).astype(np.int8)
    belief = beliefs[np.arange(len(guess)), guess]
    named = np.where(hits, truth.codes, guess)
    surest = np.argsort(-belief, kind="stable")[:100]
    return Side(
        guess,
        belief,
        gain,
        proportion(hits),
        mean_gain(gain, confidence),
        attributes.g_mean(named, truth.codes),
        attributes.matthews_correlation(named, truth.codes),
        float(hits[surest].mean()),
    )


def attack(
    name: str,
    beliefs: tuple[NDArray, NDArray],
    truth: tuple[Truth, Truth],
    baseline: tuple[NDArray, NDArray],
    looks: int,
) -> Attack:
    """Compares an attack on members and others with the baseline.

    Args:
      name: of the attack.
      beliefs: of members `[N, S]` and of others `[M, S]`.
      truth: of both.
      baseline: its beliefs, shaped as those of the attack.
      looks: how many attacks of the report are judged: intervals are Bonferroni's.
    """
    inside, outside = (
        side(b, t, base, 1 - 0.05 / (2 * looks))
        for b, t, base in zip(beliefs, truth, baseline, strict=True)
    )
    hits = (
        truth[0].hits(inside.guess).astype(int),
        truth[1].hits(outside.guess).astype(int),
    )
    return Attack(
        name,
        inside,
        outside,
        difference(*hits),
        difference(inside.gain, outside.gain, 1 - 0.05 / looks),
    )


def signed(line: Interval) -> str:
    """An interval of a difference, to three digits."""
    return f"{line.value:+.3f} [{line.low:+.3f}, {line.high:+.3f}]"


def sentence(field: str, attacks: Sequence[Attack], baseline: str, moves: float) -> str:
    """Whether a field leaks, how much, of whom, and to whom: one sentence."""
    if moves == 0:
        return (
            f"{field}: not known: the model's answers move for no candidate, so that "
            "it ignores the field or does not recognize its values."
        )
    adding = [attack for attack in attacks if attack.adds]
    remembering = [attack for attack in attacks if attack.remembers]
    if not adding and not remembering:
        best = max(attacks, key=lambda attack: attack.members.mean_gain.value)
        return (
            f"{field}: no leak shown: no attack beats {baseline} or tells members from "
            f"others; the best, {best.name}, gains {signed(best.members.mean_gain)} of "
            "members."
        )
    parts = []
    if adding:
        best = max(
            adding,
            key=lambda a: max(a.members.mean_gain.value, a.others.mean_gain.value),
        )
        of = [
            f"{signed(s.mean_gain)} of {who}"
            for who, s in (("members", best.members), ("others", best.others))
            if s.mean_gain.low > 0
        ]
        parts.append(
            f"to one {who_knows(best.name)}: {best.name} names more than {baseline}, "
            f"by {' and '.join(of)}"
            f" ({best.members.accuracy.value:.3f} of members and "
            f"{best.others.accuracy.value:.3f} of others are named)"
        )
    if remembering:
        best = max(remembering, key=lambda attack: attack.memory.value)
        weaker = ", though it is weaker than the imputation" if best.weaker else ""
        parts.append(
            "the model remembers members: "
            f"{best.name} gains {signed(best.memory)} more of them than of others"
            f"{weaker}"
        )
    else:
        parts.append("no memory of members is shown")
    return f"{field}: leaks: {'; '.join(parts)}."
