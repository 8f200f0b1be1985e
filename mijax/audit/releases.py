"""What a model may release of its scores, and how well a candidate explains it.

| name | released |
| --- | --- |
| `score` | all scores |
| `score:2` | all scores to two digits |
| `top`, `top:2` | the likeliest class and its score, maybe rounded |
| `label` | the likeliest class |
| `noise:0.1` | all scores, a normal of that deviation added to each |

Of a regression the score is its number, the deviation of the noise is in deviations of
the outcome, and there is no label and no top.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

WHAT_IF = "score", "score:2", "score:1", "top:2", "noise:0.1", "label"
_EXACT = 1e-9  # scores closer than this are the same answer
_APART = 1e6  # less log-likelihood for each unit between two releases


@dataclasses.dataclass(frozen=True)
class Release:
    """One way to release scores.

    Attributes:
      name: as above.
      kind: its first part.
      number: digits, or the deviation of noise.
    """

    name: str
    kind: str
    number: float | None

    @classmethod
    def of(cls, name: str) -> "Release":
        """Reads a name.

        Raises:
          ValueError: it names no release.
        """
        kind, colon, text = name.partition(":")
        if kind in ("score", "top") and not colon:
            return cls(name, kind, None)
        if kind in ("score", "top") and text.isdecimal() and len(text) == 1:
            return cls(name, kind, int(text))
        if name == "label":
            return cls(name, kind, None)
        if kind == "noise":
            try:
                deviation = float(text)
            except ValueError:
                deviation = np.nan
            if 0 < deviation < np.inf:
                return cls(name, kind, deviation)
        raise ValueError(
            f"--knows={name} is unknown: give outcome, label, score, score:2 for "
            "scores to two digits, top:2 for the likeliest class and its score, or "
            "noise:0.1 for noisy scores"
        )

    @property
    def of_classes(self) -> bool:
        """Whether only a classifier can release it."""
        return self.kind in ("label", "top")

    def shown(
        self, scores: NDArray[np.float64], random: np.random.Generator, scale: float
    ) -> NDArray[np.float64]:
        """What is released of scores `[B, C]`, in the same shape."""
        if self.kind == "noise":
            assert self.number is not None
            return scores + scale * self.number * random.normal(size=scores.shape)
        return self._plain(scores)

    def _plain(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.of_classes:
            best = np.eye(scores.shape[1])[scores.argmax(1)]
            scores = best if self.kind == "label" else best * scores
        return scores if self.number is None else np.round(scores, int(self.number))

    def fits(
        self, shown: NDArray[np.float64], scores: NDArray[np.float64], scale: float
    ) -> NDArray[np.float64]:
        """The log-likelihood of what was shown if these are the scores, `[B]`."""
        if self.kind == "noise":
            assert self.number is not None
            return -0.5 * (((shown - scores) / (scale * self.number)) ** 2).sum(1)
        far = np.abs(self._plain(scores) - shown).max(1)
        return -_APART * np.where(far < _EXACT, 0.0, far)


def released(name: str) -> str:
    """What a release is, in words."""
    release = Release.of(name)
    said = {
        "label": "the label alone",
        "score": "the scores",
        "top": "the likeliest class and its score",
        "noise": f"the scores with noise of {release.number}",
    }[release.kind]
    if release.kind == "noise" or release.number is None:
        return said
    return f"{said}, to {release.number:.0f} digit{'s' * (release.number != 1)}"


def who_knows(attack: str) -> str:
    """The adversary of an attack, in words."""
    if attack == "neurons":
        return "who knows the outcome and holds the network's weights"
    try:
        known = released(attack.removeprefix("learned "))
    except ValueError:
        return "who knows the outcome"
    return f"who knows the outcome and what the model released, {known}"
