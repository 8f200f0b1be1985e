"""Texts as sequences of characters, and their cut into training records."""

import dataclasses
import lzma
import os
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
    inside = None if data_dir is None else os.path.join(data_dir, "text")
    folder = inside if inside and os.path.isdir(inside) else data_dir
    path = files.checked(files.find(_SHAKESPEARE, folder), _SHA256)
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
