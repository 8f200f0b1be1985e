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

from mijax.metrics import attributes
from mijax.metrics.intervals import Interval, proportion

_RESAMPLES = 20_000
SMALL = 20  # people of a group, below which nothing is said of it


def mean_gain(gains: NDArray, confidence: float = 0.95) -> Interval:
    """Mean of gains of -1, 0 and 1 with a percentile bootstrap interval.

    A resample of them is a multinomial draw of three counts, so that its cost does not
    depend on their number.
    """
    drawn = _resampled(gains, 0)
    return Interval(float(np.mean(gains)), *_ends(drawn, confidence), len(gains))


def difference(gains: NDArray, others: NDArray, confidence: float = 0.95) -> Interval:
    """Mean gain of one group less that of another, resampled apart."""
    drawn = _resampled(gains, 0) - _resampled(others, 1)
    value = float(np.mean(gains) - np.mean(others))
    return Interval(value, *_ends(drawn, confidence), len(gains))


def _resampled(gains: NDArray, seed: int) -> NDArray:
    counts = np.array([np.sum(gains == value) for value in (-1, 0, 1)])
    if counts.sum() != len(gains) or not len(gains):
        raise ValueError("gains must be -1, 0 or 1, at least one.")
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(gains), counts / len(gains), _RESAMPLES)
    return (drawn[:, 2] - drawn[:, 0]) / len(gains)


def _ends(drawn: NDArray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


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


def side(
    beliefs: NDArray, truth: NDArray, baseline: NDArray, confidence: float
) -> Side:
    """Compares beliefs, `[V, S]`, with the truth and with the baseline's, `[V, S]`."""
    guess = beliefs.argmax(1)
    hits = guess == truth
    gain = (hits.astype(np.int8) - (baseline.argmax(1) == truth)).astype(np.int8)
    belief = beliefs[np.arange(len(guess)), guess]
    surest = np.argsort(-belief, kind="stable")[:100]
    return Side(
        guess,
        belief,
        gain,
        proportion(hits),
        mean_gain(gain, confidence),
        attributes.g_mean(guess, truth),
        attributes.matthews_correlation(guess, truth),
        float(hits[surest].mean()),
    )


def attack(
    name: str,
    beliefs: tuple[NDArray, NDArray],
    truth: tuple[NDArray, NDArray],
    baseline: tuple[NDArray, NDArray],
    attacks: int,
) -> Attack:
    """Compares an attack on members and others with the baseline.

    Args:
      name: of the attack.
      beliefs: of members `[N, S]` and of others `[M, S]`.
      truth: codes, `[N]` and `[M]`.
      baseline: its beliefs, shaped as those of the attack.
      attacks: how many are judged: intervals are Bonferroni's of all of them.
    """
    inside, outside = (
        side(b, t, base, 1 - 0.05 / (2 * attacks))
        for b, t, base in zip(beliefs, truth, baseline, strict=True)
    )
    hits = (
        (inside.guess == truth[0]).astype(int),
        (outside.guess == truth[1]).astype(int),
    )
    return Attack(
        name,
        inside,
        outside,
        difference(*hits),
        difference(inside.gain, outside.gain, 1 - 0.05 / attacks),
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


def who_knows(name: str) -> str:
    """The adversary of an attack, in words."""
    knows = {
        "label": "who knows the outcome and the label that the model released",
        "score": "who knows the outcome and the scores that the model released",
    }
    kind, _, number = name.partition(":")
    rounded = f", to {number} digits" if number else ""
    return knows.get(kind, "who knows the outcome") + rounded
