"""What each adversary makes of one pass of queries, in float64.

The model is asked about every candidate value of every person once. Of each answer only
what some adversary reads is kept: the confidence in the true outcome, the predicted
class and its confidence, and how far the answer is from what the model released about
the person.

- `map`: Fredrikson et al. 2014, with the confusion matrix (or the root mean squared
  error) of the members as the likelihood of the outcome.
- `map_confidence`: the same with the model's own confidence in the outcome.
- `csmia`: Mehnaz et al. 2022; it has no prior.
- `label`, `score`, `score:2`: the adversary also knows what the model released about
  the person: its label, its scores, its scores to two digits.

The prior of `map` and `map_confidence` is an imputation that does not know the outcome,
of which the likelihood speaks; that of the releases is the audit's baseline.
Departure from Fredrikson et al.: their prior is the marginals.

References:
  Fredrikson et al. Privacy in pharmacogenetics. USENIX Security 2014.
  Mehnaz et al. Are your sensitive attributes private? USENIX Security 2022.
  arXiv:2201.09370.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import confusion_matrix

from mijax.audit import rows
from mijax.audit.models import Reader
from mijax.audit.rows import Frame

BLOCK = 20_000  # rows asked about at a time
_FLOOR = 1e-300
_EXACT = 1e-9  # scores closer than this are the same answer
_APART = 1e6  # less log-likelihood for each unit between two releases


@dataclasses.dataclass(frozen=True)
class Answers:
    """What the model says of V people if they had each of S values.

    Attributes:
      outcome: true classes, `[V]`, or numbers of a regression.
      released: answers about the people as they are, `[V, C]`.
      confidence: in the true outcome, `[V, S]`; the answer itself of a regression.
      label: predicted class, `[V, S]`.
      top: confidence in it, `[V, S]`.
      apart: of each release, the largest difference from what was released, `[V, S]`.
      moves: whether the answer differs between any two candidates, `[V]`.
    """

    outcome: NDArray
    released: NDArray[np.float64]
    confidence: NDArray[np.float64]
    label: NDArray[np.intp]
    top: NDArray[np.float64]
    apart: dict[str, NDArray[np.float64]]
    moves: NDArray[np.bool_]

    @property
    def regression(self) -> bool:
        """Whether the answers are numbers."""
        return self.released.shape[1] == 1

    def take(self, people: NDArray) -> "Answers":
        """Some of the people."""
        return Answers(
            self.outcome[people],
            self.released[people],
            self.confidence[people],
            self.label[people],
            self.top[people],
            {name: far[people] for name, far in self.apart.items()},
            self.moves[people],
        )


def digits(knows: str) -> int | None:
    """The digits of `score:2`; None of `outcome`, `label` and `score`.

    Raises:
      ValueError: it names no knowledge.
    """
    kind, colon, number = knows.partition(":")
    if kind == "score" and colon and number.isdecimal() and len(number) == 1:
        return int(number)
    if colon or kind not in ("outcome", "label", "score"):
        raise ValueError(
            f"--knows={knows} is unknown: give outcome, label, score, or score:2 for "
            "scores to two digits."
        )
    return None


def release(scores: NDArray[np.float64], knows: str) -> NDArray[np.float64]:
    """What is released of scores, `[B, C]`: all, rounded ones, or the label alone."""
    if knows == "label" and scores.shape[1] > 1:
        return scores.argmax(1)[:, None].astype(np.float64)
    number = digits(knows)
    return scores if number is None else np.round(scores, number)


def released_answers(
    reader: Reader, frame: Frame, people: NDArray[np.intp], columns: Sequence[str]
) -> NDArray[np.float64]:
    """What the model answers about unaltered rows, `[V, C]`."""
    return np.concatenate(
        [
            reader.scores(rows.take(frame, some, columns))
            for some in np.array_split(people, -(-len(people) // BLOCK))
        ]
    )


def ask(
    reader: Reader,
    frame: Frame,
    people: NDArray[np.intp],
    columns: Sequence[str],
    sensitive: str,
    examples: NDArray[np.intp],
    outcome: NDArray,
    released: NDArray[np.float64],
    knows: Sequence[str],
    progress: Callable[[int], None] = lambda asked: None,
) -> Answers:
    """Asks about every candidate of every person, the sensitive column alone changed.

    Args:
      reader: of the model's answers.
      frame: all rows, as read.
      people: rows asked about, `[V]`.
      columns: that the model is given.
      sensitive: the column that is overwritten.
      examples: a row that has each candidate value, `[S]`.
      outcome: of each person, `[V]`.
      released: what the model answers about them as they are, `[V, C]`.
      knows: which releases some adversary knows.
      progress: is told after each block how many rows were asked about.
    """
    shape = len(people), len(examples)
    confidence, top = np.zeros(shape), np.zeros(shape)
    labels = np.zeros(shape, np.intp)
    apart = {name: np.zeros(shape) for name in knows if name != "outcome"}
    moves = np.zeros(len(people), bool)
    for block in np.array_split(np.arange(len(people)), -(-len(people) // BLOCK)):
        given = rows.take(frame, people[block], columns)
        known = {name: release(released[block], name) for name in apart}
        first = np.zeros(0)
        for value, example in enumerate(examples):
            if sensitive in columns:
                where = np.full(len(block), example)
                given = rows.overwritten(given, sensitive, frame, where)
            scores = reader.scores(given)
            first = scores if value == 0 else first
            moves[block] |= (scores != first).any(1)
            if scores.shape[1] == 1:
                confidence[block, value] = scores[:, 0]
            else:
                of = np.arange(len(block)), outcome[block]
                confidence[block, value] = scores[of]
                labels[block, value] = scores.argmax(1)
                top[block, value] = scores.max(1)
            for name, was in known.items():
                far = np.abs(release(scores, name) - was).max(1)
                apart[name][block, value] = np.where(far < _EXACT, 0.0, far)
            progress(len(block))
    return Answers(outcome, released, confidence, labels, top, apart, moves)


def likelihoods(members: Answers) -> dict[str, Callable[[Answers], NDArray]]:
    """By attack with a prior, how likely it holds what it knows, `[V, S]` logarithms.

    Args:
      members: how well the model does on them is known to the adversary.
    """
    known = {name: _match(name) for name in members.apart}
    if members.regression:
        error = members.released[:, 0] - members.outcome
        least = 1e-3 * float(np.std(members.outcome)) or 1.0
        deviation = max(float(np.sqrt(np.mean(error**2))), least)

        def normal(answers: Answers) -> NDArray:
            off = (answers.confidence - answers.outcome[:, None]) / deviation
            return -0.5 * off**2

        return {"map": normal, **known}
    classes = np.arange(members.released.shape[1])
    counts = confusion_matrix(
        members.outcome, members.released.argmax(1), labels=classes
    )
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def confused(answers: Answers) -> NDArray:
        return _log(shares[answers.outcome[:, None], answers.label])

    return {
        "map": confused,
        "map_confidence": lambda answers: _log(answers.confidence),
        **known,
    }


def _match(name: str) -> Callable[[Answers], NDArray]:
    return lambda answers: -_APART * answers.apart[name]


def _log(shares: NDArray) -> NDArray:
    return np.log(np.maximum(shares, _FLOOR))


def posterior(likelihood: NDArray, prior: NDArray) -> NDArray[np.float64]:
    """Bayes' rule in logarithms, `[V, S]`; a value of prior 0 stays possible."""
    return softmax(likelihood + _log(prior), axis=1)


def csmia(answers: Answers, seed: int) -> NDArray[np.float64]:
    """Shares of the values by CSMIA's three cases, `[V, S]`; ties broken at random."""
    right = answers.label == answers.outcome[:, None]
    share = np.where(
        right.any(1)[:, None], np.where(right, answers.top, 0.0), 1.0 - answers.top
    )
    share = np.where(share.max(1, keepdims=True) > 0, share, 1.0)
    tie = np.random.default_rng(seed).uniform(size=share.shape)
    best = share == share.max(1, keepdims=True)
    beliefs = share / share.sum(1, keepdims=True)
    chosen = np.where(best, tie, -1.0).argmax(1)
    # The tie's winner is ahead by less than any difference that the model makes.
    beliefs[np.arange(len(beliefs)), chosen] *= 1.0 + 1e-9
    return beliefs
