"""What a model has answered, kept in a file, so that no query is paid for twice."""

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mijax.audit import rows
from mijax.audit.rows import Frame
from mijax.core.answers import DIGEST, Answers


class Kept:
    """Asks a model only what its file of answers lacks, and writes at once.

    An answer is kept by a hash of the row, as it is asked, and of `name`: if the model
    changes and its name does not, delete the file.

    Attributes:
      asked: how many rows the model was asked about.
      found: how many answers the file gave instead.
    """

    def __init__(self, predict: Callable[[Frame], Any], name: str, path: pathlib.Path):
        """Reads the file, if there is one; of a torn end, what is whole.

        Raises:
          ValueError: the file is not of answers.
        """
        self._predict, self._name, self._known = predict, name, Answers(path)
        self.asked = self.found = 0

    @property
    def size(self) -> int:
        """How many answers the file holds."""
        return len(self._known)

    def __call__(self, asked: Frame) -> NDArray[Any]:
        """What the model answers about rows, or has answered."""
        keys = self._keys(asked)
        new = [i for i, key in enumerate(keys) if key not in self._known]
        new = list({keys[i]: i for i in new}.values())
        self.found += len(keys) - len(new)
        if new:
            given = rows.take(asked, np.array(new), rows.names(asked))
            answers = np.asarray(self._predict(given))
            if answers.shape[:1] != (len(new),):
                return answers  # Refused by whoever asked.
            if answers.dtype == object:
                answers = answers.astype(str)
            self.asked += len(new)
            self._known.add([keys[i] for i in new], answers)
        return np.array([self._known[key] for key in keys])

    def _keys(self, asked: Frame) -> list[bytes]:
        names = rows.names(asked)
        columns = [rows.column(asked, name) for name in names]
        kinds = [str(values.dtype) for values in columns]
        start = hashlib.blake2b(
            repr((self._name, names, kinds)).encode(), digest_size=DIGEST
        )

        def key(row: tuple[Any, ...]) -> bytes:
            hashed = start.copy()
            hashed.update(repr(row).encode())
            return hashed.digest()

        return [key(row) for row in zip(*(c.tolist() for c in columns), strict=True)]
