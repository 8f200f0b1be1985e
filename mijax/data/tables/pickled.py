"""Reads the columns of a data frame that pandas pickled, and runs nothing of it.

A pickle is a program. This reader knows the few classes that a frame is made of, has a
stand-in for each that only remembers what it was given, and refuses every other name:
neither pandas nor anything that the file could name is imported.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray


class _Remembered:
    """Stands for an object: what it was made of, and the state it was given."""

    def __init__(self, *made_of: Any):
        self.made_of = made_of
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _index(kind: type, made_of: dict[str, Any]) -> dict[str, Any]:
    del kind
    return made_of


_ALLOWED = {
    ("pandas.core.frame", "DataFrame"): _Remembered,
    ("pandas.core.internals.managers", "BlockManager"): _Remembered,
    ("pandas.core.indexes.base", "Index"): _Remembered,
    ("pandas.core.indexes.range", "RangeIndex"): _Remembered,
    ("pandas.core.indexes.base", "_new_Index"): _index,
    ("numpy.core.multiarray", "_reconstruct"): multiarray._reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("builtins", "slice"): slice,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise ValueError(
                f"The pickle asks for {module}.{name}, which no table is made of: it "
                "is not opened."
            ) from None


def columns(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Returns the columns of a pickled frame, name to `[N]`.

    Raises:
      ValueError: the file asks for anything but numbers, text and their arrangement,
        or is no frame of pandas 0.25 to 1.
    """
    with Path(path).open("rb") as file:
        frame = _Reader(file).load()
    try:
        *_, layout = frame.state["_data"].state
        layout = layout["0.14.1"]
        names = layout["axes"][0]["data"]
        found = {}
        for block in layout["blocks"]:
            place = block["mgr_locs"]
            rows = np.arange(len(names))[place]
            for row, values in zip(rows, block["values"], strict=True):
                found[row] = values
        return {str(name): found[row] for row, name in enumerate(names)}
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{path} is no data frame that this reads: {error}") from error
