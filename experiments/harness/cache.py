"""Where runs keep what is the same in each of them, such as features of real images."""

import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def folder(workdir: pathlib.Path) -> pathlib.Path:
    """Returns $MIJAX_CACHE, or mijax's folder in the user's cache.

    Where neither can be written it is a folder of the run's own.
    """
    chosen = os.environ.get("MIJAX_CACHE")
    try:
        user = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        path = pathlib.Path(chosen).expanduser() if chosen else user / "mijax"
        path.mkdir(parents=True, exist_ok=True)
        if os.access(path, os.W_OK):
            return path
    except (OSError, RuntimeError):  # No home, or one that is not the user's.
        pass
    return workdir / "cache"


def once(
    workdir: pathlib.Path,
    *,
    name: str,
    inputs: Any,
    compute: Callable[[], Any],
) -> np.ndarray:
    """Returns an array that follows from its inputs, from disk if it was made before.

    Args:
      workdir: of the run.
      name: what the file's name begins with.
      inputs: a pytree of arrays and bytes, by whose hash the file is named.
      compute: makes the array.
    """
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(inputs):
        if not isinstance(leaf, bytes):
            leaf = np.asarray(leaf)
            digest.update(repr((leaf.shape, leaf.dtype.str)).encode())
            leaf = leaf.tobytes()
        digest.update(leaf)
    path = folder(workdir) / f"{name}-{digest.hexdigest()[:24]}.npy"
    if path.is_file():
        return np.load(path, allow_pickle=False)
    array = np.asarray(compute())
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.save(file, array)
    os.replace(partial, path)
    return array
