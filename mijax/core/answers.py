"""Answers that were paid for, in a file that a kill leaves whole."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGEST = 16  # bytes of a question's key


class Answers:
    """Answers by the keys of their questions, `DIGEST` bytes each.

    What is added is written at once, behind what is there.
    """

    def __init__(self, path: pathlib.Path):
        """Reads the file, if there is one; of a torn end, what is whole.

        Raises:
          ValueError: the file is not of answers, or cannot be made.
        """
        self._path = path
        self._known: dict[bytes, Any] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
        except OSError as error:
            raise ValueError(
                f"{path} cannot keep answers ({error.strerror}): give another file or "
                "folder"
            ) from error
        self._read()

    def _read(self) -> None:
        with self._path.open("r+b") as file:
            whole = 0
            while file.peek(1):  # type: ignore[attr-defined]
                try:
                    keys = np.load(file, allow_pickle=False)
                    answers = np.load(file, allow_pickle=False)
                except (ValueError, EOFError, OSError) as error:
                    if not whole:
                        raise ValueError(
                            f"{self._path} holds no answers of a model: delete it, or "
                            "give another folder"
                        ) from error
                    break
                self._known |= zip(map(bytes, keys), answers, strict=True)
                whole = file.tell()
            file.truncate(whole)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._known)

    def __contains__(self, key: bytes) -> bool:
        """Whether a question was answered."""
        return key in self._known

    def __getitem__(self, key: bytes) -> Any:
        """The answer to a question."""
        return self._known[key]

    def add(self, keys: Sequence[bytes], answers: NDArray[Any]) -> None:
        """Keeps the answers, `[B, ...]`, to B questions."""
        digests = np.frombuffer(b"".join(keys), np.uint8)
        with self._path.open("ab") as file:
            np.save(file, digests.reshape(-1, DIGEST), allow_pickle=False)
            np.save(file, answers, allow_pickle=False)
        self._known |= zip(keys, answers, strict=True)
