"""Texts: as sequences of characters, cut into training records; and with classes."""

import dataclasses
import json
import lzma
import os
import pathlib
import pydoc_data.topics

import numpy as np

from mijax.data.tables import files

PAD = 0  # the number of no symbol: it stands where a record or context is shorter

_SHAKESPEARE = "tinyshakespeare.txt.xz"
_SHA256 = "d2476529549e2da7ec5dd2530f028856808ec42fec335c232268c9c6af463bc6"


@dataclasses.dataclass(frozen=True)
class Text:
    """A text and its alphabet.

    Attributes:
      name: what it is called in messages and reports.
      content: the characters.
      alphabet: its different characters, sorted; the number of a character is its
        place here, from 1 on. 0 pads.
    """

    name: str
    content: str
    alphabet: str

    def encode(self, content: str) -> np.ndarray:
        """Returns the numbers of characters, `[N]` int32 in 1..len(alphabet).

        Raises:
          ValueError: a character is outside the alphabet.
        """
        number = {character: i for i, character in enumerate(self.alphabet, 1)}
        strange = sorted(set(content) - number.keys())
        if strange:
            raise ValueError(
                f"{content[:40]!r} holds {strange[0]!r}, which is not in the alphabet "
                f"of {self.name}: use its {len(self.alphabet)} characters, or `of` "
                "them with `also`."
            )
        return np.array([number[character] for character in content], np.int32)

    def decode(self, numbers: np.ndarray) -> str:
        """Returns the characters of numbers `[N]`; 0 is none."""
        return "".join(self.alphabet[n - 1] for n in np.asarray(numbers) if n > 0)


def of(name: str, content: str, also: str = "") -> Text:
    """Makes a text; its alphabet has the characters of `also`, too."""
    return Text(name, content, "".join(sorted({*content, *also})))


def tiny_shakespeare(data_dir: str | os.PathLike[str] | None, also: str = "") -> Text:
    """Loads 1.1 million characters of Shakespeare's plays.

    Args:
      data_dir: the folder of `tinyshakespeare.txt.xz`, or with a folder `text` of it.
      also: further characters of the alphabet, such as digits, which the plays lack.

    Raises:
      FileNotFoundError: the file is missing; the message says where to put it.
      ValueError: it is not the expected one.
    """
    path = files.checked(_text_file(_SHAKESPEARE, data_dir), _SHA256)
    return of("tiny Shakespeare", lzma.decompress(path.read_bytes()).decode(), also)


def python_manual(also: str = "") -> Text:
    """Loads what Python's `help` tells of the language, about 700,000 characters.

    It comes with every Python, so it needs no network and no data folder; another
    version of Python has another text.
    """
    topics = pydoc_data.topics.topics
    content = "\n".join(topics[name] for name in sorted(topics))
    return of("Python's language reference", content, also)


def records(numbers: np.ndarray, length: int) -> np.ndarray:
    """Cuts a text into records that follow each other, `[N // length, length]`.

    Raises:
      ValueError: the text is shorter than one record.
    """
    if length < 1 or len(numbers) < length:
        raise ValueError(
            f"length is {length}: it must be 1 to {len(numbers)}, the text's length."
        )
    return numbers[: len(numbers) // length * length].reshape(-1, length)


def right_aligned(numbers: np.ndarray, length: int) -> np.ndarray:
    """Pads numbers `[N]` on the left, `[length]`.

    Raises:
      ValueError: they are longer.
    """
    if len(numbers) > length:
        raise ValueError(
            f"{len(numbers)} characters do not fit a record of {length}: shorten them."
        )
    return np.pad(numbers, (length - len(numbers), 0), constant_values=PAD)


@dataclasses.dataclass(frozen=True)
class Documents:
    """Texts with a class each.

    Attributes:
      name: what they are called in messages and reports.
      texts: to train on.
      labels: their classes, `[N]` int32.
      test_texts: of the published test split.
      test_labels: `[M]` int32.
      names: of the classes.
    """

    name: str
    texts: tuple[str, ...]
    labels: np.ndarray
    test_texts: tuple[str, ...]
    test_labels: np.ndarray
    names: tuple[str, ...]


def newsgroups(data_dir: str | os.PathLike[str] | None) -> Documents:
    """Loads 20 Newsgroups, split by date: 11,314 and 7,532 posts.

    Args:
      data_dir: the folder of `news20_train.jsonl.xz` (a line a post: `y`, `subject`,
        `text`), `news20_test.jsonl.xz` and `news20_classes.json`, or with a folder
        `text` of them.

    Raises:
      FileNotFoundError: a file is missing; the message says where to put it.
    """

    def read(part: str) -> tuple[tuple[str, ...], np.ndarray]:
        lines = _lines(f"news20_{part}.jsonl.xz", data_dir)
        posts = [json.loads(line) for line in lines]
        texts = tuple(f"{post['subject']}\n{post['text']}" for post in posts)
        return texts, np.array([post["y"] for post in posts], np.int32)

    names = json.loads(_text_file("news20_classes.json", data_dir).read_text())
    return Documents("20 Newsgroups", *read("train"), *read("test"), tuple(names))


def imdb(data_dir: str | os.PathLike[str] | None) -> Documents:
    """Loads a cut of IMDB's reviews: 5,000 to train on and 2,500 to test.

    Args:
      data_dir: the folder of `imdb_train_5000.tsv.xz` (a line a review: class, rating,
        text) and `imdb_test_2500.tsv.xz`, or with a folder `text` of them.

    Raises:
      FileNotFoundError: a file is missing; the message says where to put it.
    """

    def read(part: str) -> tuple[tuple[str, ...], np.ndarray]:
        rows = [line.split("\t", 2) for line in _lines(f"imdb_{part}.tsv.xz", data_dir)]
        labels = np.array([int(label) for label, _, _ in rows], np.int32)
        return tuple(text for _, _, text in rows), labels

    parts = *read("train_5000"), *read("test_2500")
    return Documents("IMDB's reviews", *parts, ("negative", "positive"))


def _text_file(file: str, data_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    inside = None if data_dir is None else os.path.join(data_dir, "text")
    return files.find(file, inside if inside and os.path.isdir(inside) else data_dir)


def _lines(file: str, data_dir: str | os.PathLike[str] | None) -> list[str]:
    content = lzma.decompress(_text_file(file, data_dir).read_bytes()).decode()
    return content.rstrip("\n").split("\n")
