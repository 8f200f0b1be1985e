"""Reviews as bags of words: numbers of words, 0 where a review is shorter."""

import collections
import dataclasses
import lzma
import os
import re
from pathlib import Path

import numpy as np

from mijax.data.sources import first_existing
from mijax.data.tables import files

_FILE = "imdb_train_5000.tsv.xz"
_SHA256 = "587549ddc50fc8863e731f4f002476a5bfe5d377595f00e90c379c14bb3994f2"


@dataclasses.dataclass(frozen=True)
class Reviews:
    """N reviews of up to L words.

    Attributes:
      name: what the data set is called.
      words: the number of each word, `[N, L]` int32 from 1 on; 0 pads.
      labels: 1 for a good review, `[N]` int32.
      vocabulary: the words, of which number n is at n - 1.
    """

    name: str
    words: np.ndarray
    labels: np.ndarray
    vocabulary: tuple[str, ...]


def imdb(
    data_dir: str | os.PathLike[str] | None, *, length: int, vocabulary: int
) -> Reviews:
    """Loads 5,000 reviews of films, the training half of a cut of IMDB.

    Args:
      data_dir: a folder with the file, or with a folder `text` that holds it.
      length: L, the first words of each review.
      vocabulary: how many of the commonest words are kept; others are left out.

    Raises:
      FileNotFoundError: the file is in neither place.
      ValueError: it is not the expected one, or a number is not positive.

    References:
      Maas et al. Learning word vectors for sentiment analysis. ACL 2011.
      https://aclanthology.org/P11-1015
    """
    if min(length, vocabulary) < 1:
        raise ValueError(
            f"length is {length} and vocabulary {vocabulary}: both must be 1 or more."
        )
    folder = Path(data_dir).expanduser() if data_dir is not None else None
    found = first_existing(folder and folder / "text" / _FILE)
    path = files.checked(found or files.find(_FILE, data_dir), _SHA256)
    with lzma.open(path, "rt", encoding="utf-8") as text:
        rows = [line.rstrip("\n").split("\t") for line in text]
    return of(
        "IMDB", [row[-1] for row in rows], [int(row[0]) for row in rows],
        length=length, vocabulary=vocabulary,
    )  # fmt: skip


def of(
    name: str, texts: list[str], labels: list[int], *, length: int, vocabulary: int
) -> Reviews:
    """Numbers the commonest words of texts; see `imdb`."""
    split = [re.findall(r"[a-z']+", text.lower()) for text in texts]
    counts = collections.Counter(word for words in split for word in words)
    # By number, then by name: the order must not depend on that of the texts.
    common = sorted(counts, key=lambda word: (-counts[word], word))[:vocabulary]
    number = {word: i for i, word in enumerate(common, 1)}
    numbers = np.zeros((len(texts), length), np.int32)
    for row, words in zip(numbers, split, strict=True):
        known = [number[word] for word in words if word in number][:length]
        row[: len(known)] = known
    return Reviews(name, numbers, np.asarray(labels, np.int32), tuple(common))
