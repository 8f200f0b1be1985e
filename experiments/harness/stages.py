"""What is finished is not done again: results of stages, kept in the workdir."""

import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_HELD: dict[pathlib.Path, int] = {}  # descriptors, open until this process ends
_UNIMPORTANT = {"workdir", "data_dir", "profile", "resume"}


def claim(workdir: pathlib.Path, flags: Mapping[str, Any], resume: bool) -> None:
    """Makes the workdir this process's, until it ends.

    Raises:
      ValueError: if another process runs there, or if an unfinished or finished run
        with other flags lies there.
    """
    _lock(workdir)
    mine = {k: v for k, v in flags.items() if k not in _UNIMPORTANT}
    record = workdir / "flags.json"
    if not resume:
        for name in ("checkpoints", "results"):
            shutil.rmtree(workdir / name, ignore_errors=True)
    elif record.is_file():
        theirs = json.loads(record.read_text())
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                raise ValueError(
                    f"{workdir} holds a run with --{name}={theirs.get(name)}, not "
                    f"{mine.get(name)}: give another --workdir, or --noresume to "
                    "start over there."
                )
    (workdir / "results").mkdir(exist_ok=True)
    _write(record, json.dumps(mine, indent=2).encode())


def _lock(workdir: pathlib.Path) -> None:
    path = workdir.resolve() / "in_use"
    if path in _HELD:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ValueError(
            f"Another run works in {workdir}: wait until it has ended, or give another "
            "--workdir."
        ) from error
    _HELD[path] = descriptor


def once(
    workdir: pathlib.Path, name: str, compute: Callable[[], Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    """Returns the arrays that `compute` returns, from the workdir if it has them.

    Raises:
      ValueError: if the file is damaged.
    """
    path = workdir / "results" / f"{name}.npz"
    if not path.is_file():
        arrays = {k: np.asarray(v) for k, v in compute().items()}
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(partial, path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {k: archive[k] for k in archive.files}
    except Exception as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it to compute it again."
        ) from error


def _write(path: pathlib.Path, content: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
