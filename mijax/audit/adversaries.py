"""What each adversary makes of one pass of queries, in float64.

The model is asked about every candidate value of every person once. Of each answer only
what some adversary reads is kept: the confidence in the true outcome, the predicted
class and its confidence, and how well the answer explains what the model released about
the person. Where the adversary does not know some other fields either, the model is
asked about every completion of them all.

- `map`: Fredrikson et al. 2014, with the confusion matrix (or the root mean squared
  error) of the members as the likelihood of the outcome.
- `map_confidence`: the same with the model's own confidence in the outcome.
- `csmia`: Mehnaz et al. 2022; it has no prior.
- `label`, `score:2` and the other names of `releases`: the adversary also knows what
  the model released about the person.

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
from mijax.audit.releases import Release
from mijax.audit.rows import Frame

BLOCK = 20_000  # rows asked about at a time
_FLOOR = 1e-300


@dataclasses.dataclass(frozen=True)
class Answers:
    """What the model says of V people if they had each of K completions.

    A completion is a candidate of the sensitive field, with each of H completions of
    the fields that the adversary does not know either: K = S * H, H the inner.

    Attributes:
      outcome: true classes, `[V]`, or numbers of a regression.
      released: answers about the people as they are, `[V, C]`.
      confidence: in the true outcome, `[V, K]`; the answer itself of a regression.
      label: predicted class, `[V, K]`.
      top: confidence in it, `[V, K]`.
      fits: of each release, the log-likelihood of what was released, `[V, K]`.
      accuracy: of each release, by its likeliest class; of a regression its root mean
        squared error.
      moves: whether the answer differs between any two completions, `[V]`.
    """

    outcome: NDArray
    released: NDArray[np.float64]
    confidence: NDArray[np.float64]
    label: NDArray[np.intp]
    top: NDArray[np.float64]
    fits: dict[str, NDArray[np.float64]]
    accuracy: dict[str, float]
    moves: NDArray[np.bool_]

    @property
    def regression(self) -> bool:
        """Whether the answers are numbers."""
        return self.released.shape[1] == 1


def released_answers(
    reader: Reader,
    frame: Frame,
    people: NDArray[np.intp],
    columns: Sequence[str],
    block: int = BLOCK,
    first: NDArray | None = None,
) -> NDArray[np.float64]:
    """What the model answers about unaltered rows, `[V, C]`.

    `first` is what it has answered about the first block, which is not asked again.
    """
    some = blocks(len(people), block)
    known = [] if first is None else [reader.read(first)]
    asked = [
        reader.scores(rows.take(frame, people[each], columns))
        for each in some[len(known) :]
    ]
    return np.concatenate([*known, *asked])


def accuracy(scores: NDArray[np.float64], outcome: NDArray) -> float:
    """Share of right answers; of a regression the root mean squared error."""
    if scores.shape[1] == 1:
        return float(np.sqrt(np.mean((scores[:, 0] - outcome) ** 2)))
    return float(np.mean(scores.argmax(1) == outcome))


def ask(
    reader: Reader,
    frame: Frame,
    people: NDArray[np.intp],
    columns: Sequence[str],
    unknown: Sequence[str],
    examples: NDArray[np.intp],
    outcome: NDArray,
    released: NDArray[np.float64],
    knows: Sequence[Release],
    *,
    scale: float = 1.0,
    seed: int = 0,
    block: int = BLOCK,
    progress: Callable[[int], None] = lambda asked: None,
) -> Answers:
    """Asks about every completion of every person; nothing else is changed.

    Args:
      reader: of the model's answers.
      frame: all rows, as read.
      people: rows asked about, `[V]`.
      columns: that the model is given.
      unknown: the columns that are overwritten, `d` of them.
      examples: rows that have what each completion holds there, `[K, d]`.
      outcome: of each person, `[V]`.
      released: what the model answers about them as they are, `[V, C]`.
      knows: the releases that some adversary knows.
      scale: the unit of their noise.
      seed: of their noise.
      block: how many rows are asked about at a time.
      progress: is told after each block how many rows were asked about.
    """
    shape = len(people), len(examples)
    confidence, top = np.zeros(shape), np.zeros(shape)
    labels = np.zeros(shape, np.intp)
    fits = {release.name: np.zeros(shape) for release in knows}
    shown_all = {release.name: np.zeros_like(outcome, float) for release in knows}
    moves = np.zeros(len(people), bool)
    for number, some in enumerate(blocks(len(people), block)):
        given = rows.take(frame, people[some], columns)
        shown = {}
        for place, release in enumerate(knows):
            random = np.random.default_rng([seed, place, number])
            shown[release.name] = release.shown(released[some], random, scale)
            one = shown[release.name]
            shown_all[release.name][some] = (
                one[:, 0] if one.shape[1] == 1 else one.argmax(1)
            )
        first = np.zeros(0)
        for place, example in enumerate(examples):
            for name, row in zip(unknown, example, strict=True):
                if name in columns:
                    where = np.full(len(some), row)
                    given = rows.overwritten(given, name, frame, where)
            scores = reader.scores(given)
            first = scores if place == 0 else first
            moves[some] |= (scores != first).any(1)
            if scores.shape[1] == 1:
                confidence[some, place] = scores[:, 0]
            else:
                confidence[some, place] = scores[np.arange(len(some)), outcome[some]]
                labels[some, place] = scores.argmax(1)
                top[some, place] = scores.max(1)
            for release in knows:
                known = shown[release.name]
                fits[release.name][some, place] = release.fits(known, scores, scale)
            progress(len(some))
    if released.shape[1] == 1:
        right = {
            name: float(np.sqrt(np.mean((said - outcome) ** 2)))
            for name, said in shown_all.items()
        }
    else:
        right = {
            name: float(np.mean(said == outcome)) for name, said in shown_all.items()
        }
    return Answers(outcome, released, confidence, labels, top, fits, right, moves)


def blocks(size: int, block: int) -> list[NDArray[np.intp]]:
    """0..size-1 in pieces of at most `block`."""
    return np.array_split(np.arange(size), max(1, -(-size // block)))


def likelihoods(
    members: Answers, knows: Sequence[str]
) -> dict[str, Callable[[Answers], NDArray]]:
    """By attack with a prior, how likely it holds what it knows, `[V, K]` logarithms.

    Args:
      members: how well the model does on them is known to the adversary.
      knows: the releases whose attacks are wanted, and maybe `outcome`.
    """
    known = {name: _fit(name) for name in knows if name != "outcome"}
    if "outcome" not in knows:
        return known
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


def _fit(name: str) -> Callable[[Answers], NDArray]:
    return lambda answers: answers.fits[name]


def _log(shares: NDArray) -> NDArray:
    return np.log(np.maximum(shares, _FLOOR))


def posterior(likelihood: NDArray, prior: NDArray, values: int) -> NDArray[np.float64]:
    """Bayes' rule in logarithms of completions `[V, K]`, summed to values `[V, S]`.

    A completion of prior 0 stays possible.
    """
    joint = softmax(likelihood + _log(prior), axis=1)
    return joint.reshape(len(joint), values, -1).sum(2)


def csmia(answers: Answers, values: int, seed: int) -> NDArray[np.float64]:
    """Shares of the values by CSMIA's three cases, `[V, S]`; ties broken at random."""
    shape = len(answers.label), values, -1
    right = (answers.label == answers.outcome[:, None]).reshape(shape)
    top = answers.top.reshape(shape)
    often = right.sum(2)
    sure, unsure = np.where(right, top, 0.0).sum(2), (1.0 - top).sum(2)
    best = often.max(1, keepdims=True)
    share = np.where(best > 0, np.where(often == best, sure, 0.0), unsure)
    share = np.where(share.max(1, keepdims=True) > 0, share, 1.0)
    tie = np.random.default_rng(seed).uniform(size=share.shape)
    best = share == share.max(1, keepdims=True)
    beliefs = share / share.sum(1, keepdims=True)
    chosen = np.where(best, tie, -1.0).argmax(1)
    # The tie's winner is ahead by less than any difference that the model makes.
    beliefs[np.arange(len(beliefs)), chosen] *= 1.0 + 1e-9
    return beliefs
