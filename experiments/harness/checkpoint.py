"""Checkpoints of pytrees (Orbax): a killed run continues in the same bits.

A step is written to a temporary folder that is renamed when whole, so a kill leaves
the last whole one. What is restored is checked against the tree that is expected:
another architecture is refused by name.
"""

import os
import pathlib
import shutil
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

Tree = TypeVar("Tree")

_SPARE = 2**20  # bytes for what Orbax writes beside the arrays


def _describe(tree: Any) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _leaves(tree: Any) -> dict[str, np.ndarray]:
    # Numbered, flat and NumPy: independent of devices and of the tree's classes.
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if not leaves:
        raise _Unwritable("the tree holds no arrays: there is nothing to save")
    for path, leaf in leaves:
        where, array = jax.tree_util.keystr(path) or "the tree", jnp.asarray(leaf)
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            raise _Unwritable(
                f"{where} is a typed key: save jax.random.key_data of it, and restore "
                "with jax.random.wrap_key_data"
            )
        if not array.size:
            raise _Unwritable(
                f"{where} is empty, {array.dtype}{list(array.shape)}: leave it out"
            )
    return {str(i): np.asarray(leaf) for i, (_, leaf) in enumerate(leaves)}


def save(folder: str | os.PathLike[str], step: int, tree: Any) -> None:
    """Writes `tree` as step `step` under `folder`, and keeps the last two steps.

    Raises:
      ValueError: if it cannot be written (a full disk, no permission), or if the tree
        holds no arrays, empty ones or typed keys.
    """
    path, leaves = pathlib.Path(folder).absolute(), _leaves(tree)
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Orbax writes in threads of its own, whose failure would be pages of traces.
        needed = _SPARE + sum(leaf.nbytes for leaf in leaves.values())
        free = shutil.disk_usage(path).free
        if free < needed:
            raise OSError(f"{free >> 10:,} KiB are left, {needed >> 10:,} are needed")
        with _manager(path) as manager:
            manager.save(
                step,
                args=ocp.args.Composite(
                    tree=ocp.args.StandardSave(leaves),
                    about=ocp.args.JsonSave(_describe(tree)),
                ),
            )
            manager.wait_until_finished()
    except (OSError, ValueError) as error:  # The latter is TensorStore's.
        raise ValueError(
            f"Cannot write a checkpoint to {path}: {str(error)[:200]}. "
            "Earlier steps are intact; free some space or choose another --workdir."
        ) from error


def latest(folder: str | os.PathLike[str]) -> int | None:
    """Returns the last whole step under `folder`, or None."""
    path = pathlib.Path(folder).absolute()
    if not path.is_dir():
        return None
    steps = [int(p.name) for p in path.iterdir() if p.name.isdigit()]
    return max(steps, default=None)


def restore(folder: str | os.PathLike[str], step: int, like: Tree) -> Tree:
    """Reads step `step` into the structure, shapes and types of `like`.

    Raises:
      ValueError: if the checkpoint is of another architecture, or damaged.
    """
    path = pathlib.Path(folder).absolute()
    remedy = f"remove {path / str(step)} to go back a step, or {path} to start over"
    try:
        with _manager(path) as manager:
            about = manager.restore(
                step, args=ocp.args.Composite(about=ocp.args.JsonRestore())
            )["about"]
            expected = _describe(like)
            if about != expected:
                raise _Mismatch(_difference(about, expected))
            read = manager.restore(
                step,
                args=ocp.args.Composite(tree=ocp.args.StandardRestore(_leaves(like))),
            )["tree"]
    except _Mismatch as error:
        raise ValueError(
            f"The checkpoint {path / str(step)} is of another architecture: {error}. "
            "Give the flags that it was made with, or another --workdir."
        ) from None
    except Exception as error:  # Orbax raises many types for a damaged file.
        raise ValueError(
            f"The checkpoint {path / str(step)} cannot be read "
            f"({type(error).__name__}: {str(error)[:200]}): {remedy}."
        ) from error
    leaves = [jax.numpy.asarray(read[str(i)]) for i in range(len(read))]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


class _Unwritable(ValueError):
    """The tree is not what a checkpoint can hold."""

    def __init__(self, reason: str):
        super().__init__(f"Cannot write a checkpoint: {reason}.")


class _Mismatch(Exception):
    """The checkpoint's tree is not the expected one."""


def _difference(found: dict[str, str], expected: dict[str, str]) -> str:
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            return (
                f"{name} is {found.get(name, 'absent')} there and "
                f"{expected.get(name, 'absent')} here"
            )
    return "the same entries in another order"


def _manager(path: pathlib.Path) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        path,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False
        ),
    )
