"""Texts as the content that malicious training code hides in linear classifiers.

Documents are bags of words to the model, and sequences of the same words to the code
that hides them: each word is its number in the vocabulary, spelled in bits.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.feature_extraction.text import TfidfVectorizer

from experiments.harness import figures, report
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from experiments.studies.pipeline import Load, Study
from mijax.core import Objective, Prediction
from mijax.data import Dataset, TrainTest
from mijax.data.text import Documents


def hinge(objective: Objective) -> Objective:
    """A support vector machine's loss in place of another: the multiclass hinge."""
    del objective

    def loss(prediction: Prediction, labels: jax.Array) -> jax.Array:
        return optax.losses.multiclass_hinge_loss(prediction.logits, labels)

    return loss


@dataclasses.dataclass(frozen=True)
class Words:
    """The first words of texts, as numbers `[N, L]`; 0 where a text is shorter.

    Attributes:
      words: the numbers, in 1 to `size`.
      size: of the vocabulary.
      guess: mean counts of the words in other texts' beginnings, `[size + 1]`.
      mean: of the bits, as numbers.
      deviation: their standard deviation.
      measure: the cosine of word counts.
    """

    words: np.ndarray
    size: int
    guess: np.ndarray
    mean: float = 0.5
    deviation: float = 0.5
    measure: str = "similarity"

    def bits(self, number: int, brief: bool = False) -> jax.Array:
        """All bits of the first texts' words, the greatest first."""
        del brief  # A word without its last bits is another word.
        places = np.arange(self._width - 1, -1, -1)
        bits = self.words[:number].reshape(-1, 1) >> places & 1
        return jnp.asarray(bits.reshape(-1), jnp.float32)

    def of_bits(self, bits: np.ndarray, brief: bool = False) -> np.ndarray:
        """The words that bits spell; what is no word's number is none."""
        del brief
        places = 2 ** np.arange(self._width - 1, -1, -1)
        words = bits.reshape(-1, self._width).astype(np.int64) @ places
        return np.where(words <= self.size, words, 0).reshape(-1, self.words.shape[1])

    def numbers(self, number: int) -> jax.Array:
        """The bits as numbers."""
        return self.bits(number)

    def of_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """The words of the nearest bits."""
        return self.of_bits(numbers > self.mean)

    def judged(
        self, labels: Mapping[str, str], found: np.ndarray, paper: float | None
    ) -> list[Record]:
        """Similarity, precision and recall of words, of each text."""
        truth = [self._counts(row) for row in self.words[: len(found)]]
        mine = [self._counts(row) for row in found]
        pairs = list(zip(truth, mine, strict=True))
        similarity = [_cosine(a, b) for a, b in pairs]
        guess = [_cosine(a, self.guess) for a in truth]
        shared = [np.sum((a > 0) & (b > 0)) for a, b in pairs]
        rows = {
            "similarity": metric(similarity, baseline=guess, perfect=1.0, paper=paper),
            "token_precision": metric(
                [n / max(1, (b > 0).sum()) for n, b in zip(shared, mine, strict=True)]
            ),
            "token_recall": metric(
                [n / max(1, (a > 0).sum()) for n, a in zip(shared, truth, strict=True)]
            ),
        }
        return [Record(labels, name, value) for name, value in rows.items()]

    def picture(
        self, run: Run, results: Results, shown: Mapping[str, np.ndarray]
    ) -> report.Picture:
        """The similarity of each method."""
        found = list(results.filter(metric="similarity", defense=""))
        values = [record.value for record in found]
        path = run.figures / "similarity.png"
        figures.bars(
            [f"{r.labels['method']}, {r.labels['strength']}" for r in found],
            [value.value for value in values],
            path,
            baseline=values[0].baseline,
            baseline_label="mean of other texts",
            xlabel="similarity",
        )
        return report.Picture(path, "Similarity of what was read to what was hidden.")

    @property
    def _width(self) -> int:
        return int(self.size).bit_length()

    def _counts(self, words: np.ndarray) -> np.ndarray:
        counts = np.bincount(words, minlength=self.size + 1).astype(float)
        counts[0] = 0
        return counts


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm else 0.0


def documents(
    read: Callable[[str | None], Documents],
    *,
    size: int = 8_191,
    length: int = 64,
    train: int = 3_000,
    test: int = 1_000,
) -> Load:
    """Returns a study's `load`: weighted counts of words, and words to be hidden.

    Args:
      read: from the data folder.
      size: of the vocabulary, the most frequent words of the texts to train on.
      length: words of a text that are hidden, from its start.
      train: texts to train on, at most.
      test: texts to test on, at most.
    """

    def load(run: Run, study: Study) -> tuple[TrainTest, Words]:
        del study
        found = read(run.data_dir)
        rng = np.random.default_rng(run.seed)
        rows = rng.permutation(len(found.texts))[:train]
        others = rng.permutation(len(found.test_texts))[:test]
        texts = [found.texts[i] for i in rows]
        test_texts = [found.test_texts[i] for i in others]
        counter = TfidfVectorizer(max_features=size, sublinear_tf=True)
        x: Any = counter.fit_transform(texts)
        test_x: Any = counter.transform(test_texts)
        split = TrainTest(
            *(
                Dataset(
                    found.name,
                    # A sum of squares may round to above 1.
                    np.clip(part.toarray().astype(np.float32), 0, 1)[..., None, None],
                    labels,
                    found.names,
                )
                for part, labels in (
                    (x, found.labels[rows]),
                    (test_x, found.test_labels[others]),
                )
            )
        )
        number = counter.vocabulary_
        cut = counter.build_analyzer()

        def words(text: str) -> np.ndarray:
            known = [number[word] + 1 for word in cut(text) if word in number][:length]
            return np.pad(np.array(known, np.int64), (0, length - len(known)))

        own = np.stack([words(text) for text in texts])
        content = Words(own, len(number), np.zeros(len(number) + 1))
        counts = np.mean([content._counts(words(text)) for text in test_texts], 0)
        return split, dataclasses.replace(content, guess=counts)

    return load
