"""Black boxes that fail in mid-run: what they answered is kept, and asked only once."""

import contextlib
import hashlib
import logging
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from mijax.core.answers import DIGEST, Answers
from mijax.knowledge import black_box

_LOGGER = logging.getLogger("jax._src.callback")


class Kept:
    """A callable of `from_callable` that writes each answer to a file at once.

    After a rate limit, a time-out or Ctrl-C, run the same attack with the same key and
    file again: it asks what is not answered yet, finds what an undisturbed run finds,
    and counts as many queries. Images asked twice are answered from the file as well.

        kept = Kept(ask_the_server, "answers.bin")
        knowledge = Scores.from_callable(kept, labels, shape, num_classes)
        with asking():
            found = attack(key, knowledge, config)

    If the model changes, give another file.

    Attributes:
      asked: how many images the function was asked about.
    """

    def __init__(
        self,
        function: Callable[[np.ndarray], Any],
        path: str | os.PathLike[str],
        at_most: int = 1,
    ):
        """Reads the file, if there is one; of a torn end, what is whole.

        Args:
          function: of `images [B, *shape]`, as `from_callable` takes it.
          path: of the file.
          at_most: images a call of the function, whose answers a failure loses.

        Raises:
          ValueError: the file is not of answers or cannot be made, or `at_most` is not
            positive.
        """
        if at_most < 1:
            raise ValueError(f"at_most is {at_most}: it must be 1 or more.")
        self._function, self._at_most = function, at_most
        self._path = pathlib.Path(path).expanduser()
        self._answers = Answers(self._path)
        self.asked = 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """What the function answers about images, or has answered."""
        keys = [
            hashlib.blake2b(
                repr((row.shape, row.dtype.str)).encode() + row.tobytes(),
                digest_size=DIGEST,
            ).digest()
            for row in x
        ]
        new = {key: i for i, key in enumerate(keys) if key not in self._answers}
        places = list(new.values())
        for start in range(0, len(places), self._at_most):
            rows = places[start : start + self._at_most]
            answers = self._ask(x[rows])
            if answers.shape[:1] != (len(rows),):
                return answers  # Refused by whoever asked.
            self._answers.add([keys[i] for i in rows], answers)
        return np.array([self._answers[key] for key in keys])

    def _ask(self, x: np.ndarray) -> np.ndarray:
        try:
            answers = np.asarray(self._function(x))
        except BaseException as error:
            raise ValueError(
                f"The black box {black_box.said(error)} after {len(self._answers)} "
                f"answers, which are kept in {self._path}: run the same again, and it "
                "is asked for the others alone."
            ) from error
        self.asked += len(x)
        return answers


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Makes what goes wrong in a black box one error, without the traces of JAX.

    Raises:
      ValueError: a callable failed or answered amiss.
      RuntimeError: the query budget is spent.
    """
    black_box.failures.clear()
    before, _LOGGER.disabled = _LOGGER.disabled, True
    try:
        yield
        jax.effects_barrier()
    except jax.errors.JaxRuntimeError:
        if not black_box.failures:
            raise
    except KeyboardInterrupt as error:  # While no callable was asked.
        black_box.failures.append(black_box.in_a_sentence(error))
    finally:
        _LOGGER.disabled = before
    if black_box.failures:
        first = black_box.failures[0]
        raise type(first)(*first.args) from None
