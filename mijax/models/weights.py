"""Weights in .npz files: Flax variables by their path, and PyTorch's by their names.

Nothing is unpickled. A file that does not fit the network raises one error that names
the architecture and the first entries that are wrong.
"""

import contextlib
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

_SHOWN = 3

# What PyTorch calls the leaves of Flax's modules.
_TORCH_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def shapes(module: nn.Module, image_shape: tuple[int, ...]) -> Any:
    """Returns the shapes and types of a module's variables, without allocating them.

    Args:
        module: any Linen module that takes one batch of images.
        image_shape: the shape of one image, `[H, W, C]`.

    Returns:
        The tree that `module.init` would return, of `jax.ShapeDtypeStruct`.
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), image)


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Reads every array of an .npz file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated, is not an .npz or holds pickled objects.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (
            EOFError,
            OSError,
            TypeError,  # A single array, an .npy, is no archive.
            ValueError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise ValueError(
                f"{path} is not a whole .npz file of plain arrays ({error}). It may be "
                "truncated: copy or make it again."
            ) from error


def save(path: str | Path, variables: Any, dtype: Any = np.float32) -> None:
    """Writes a tree of variables as a flat .npz with names such as params/conv/kernel.

    The file appears whole or not at all; the same variables make the same bytes.

    Args:
        path: the file; its folder must exist.
        variables: a tree of dictionaries of arrays.
        dtype: how floating-point leaves are stored: float32, or float16 for half the
            size at 3 significant digits. Other leaves are stored as they are.

    Raises:
        ValueError: if a leaf is not finite, or does not fit the range of `dtype`.
    """
    arrays = {}
    for name, leaf in traverse_util.flatten_dict(variables, sep="/").items():
        array = np.asarray(leaf)
        if jnp.issubdtype(array.dtype, jnp.floating):
            with np.errstate(over="ignore"):
                array = array.astype(dtype)
            if not np.isfinite(array).all():
                raise ValueError(
                    f"{name} is not finite as {np.dtype(dtype).name}: nothing was "
                    f"written to {path}."
                )
        arrays[name] = array
    partial = Path(f"{path}.partial")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def load(path: str | Path, like: Any, architecture: str) -> Any:
    """Reads what `save` wrote.

    Args:
        path: the file.
        like: the tree that is expected, of arrays or of `shapes`. Leaves are returned
            in its types, so that float16 storage is read as float32.
        architecture: what `like` is, in words, for the error message.

    Returns:
        A tree as `like`, of arrays.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or names, shapes or values are not those of
            `like`.
    """
    leaves: dict[str, Any] = traverse_util.flatten_dict(like, sep="/")
    arrays = read(path)
    _check(arrays, {n: tuple(leaf.shape) for n, leaf in leaves.items()}, architecture)
    return traverse_util.unflatten_dict(
        {name: jnp.asarray(arrays[name], leaf.dtype) for name, leaf in leaves.items()},
        sep="/",
    )


def from_torch(
    arrays: Mapping[str, np.ndarray],
    like: Any,
    torch_name: Callable[[str], str],
    architecture: str,
    maps: Mapping[str, tuple[int, int, int]] = MappingProxyType({}),
) -> Any:
    """Arranges PyTorch's arrays as a Flax module's variables.

    Convolution kernels go from OIHW to HWIO, and linear ones from OI to IO. The
    inputs of a dense layer behind a flattened map go from CHW to HWC.

    Args:
        arrays: PyTorch's names and arrays; `num_batches_tracked` is left out.
        like: the module's variables or `shapes`.
        torch_name: from a module's path, such as block_0/conv, to PyTorch's prefix.
        architecture: what `like` is, in words, for the error message.
        maps: by the path of each dense layer that is fed a flattened map or image, the
            shape `(H, W, C)` of that; `(1, 1, F)` for one that is fed a vector.

    Returns:
        A tree as `like`, of arrays.

    Raises:
        ValueError: if names, shapes or values are not those that `like` needs, or if
            `maps` lacks a layer whose inputs no other layer makes.
    """
    leaves: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(like)
    names = {
        path: f"{torch_name('/'.join(path[1:-1]))}.{_TORCH_LEAVES[path[-1]]}"
        for path in leaves
    }
    expected = {names[p]: _torch_shape(leaf.shape) for p, leaf in leaves.items()}
    arrays = {
        name: array
        for name, array in arrays.items()
        if not name.endswith("num_batches_tracked")
    }
    _check(arrays, expected, architecture)
    _check_maps(leaves, maps)

    def arranged(path: tuple[str, ...]) -> np.ndarray:
        array, shape = arrays[names[path]], maps.get("/".join(path[1:-1]))
        if shape and path[-1] == "kernel":
            height, width, channels = shape
            array = array.reshape(-1, channels, height, width)
            array = np.moveaxis(array, 1, -1).reshape(len(array), -1)
        return _from_torch_layout(array)

    return traverse_util.unflatten_dict(
        {path: jnp.asarray(arranged(path), leaf.dtype) for path, leaf in leaves.items()}
    )


def _check_maps(
    leaves: Mapping[tuple[str, ...], Any], maps: Mapping[str, tuple[int, int, int]]
) -> None:
    """Refuses dense layers whose inputs may be in an order that nothing tells."""
    kernels = {
        "/".join(path[1:-1]): leaf.shape
        for path, leaf in leaves.items()
        if path[-1] == "kernel"
    }
    made = {shape[-1] for shape in kernels.values()}
    for name, shape in maps.items():
        if len(kernels.get(name, ())) != 2 or kernels[name][0] != math.prod(shape):
            raise ValueError(
                f"maps holds {name!r}: {shape}, but the network has "
                f"{kernels.get(name, 'no such layer')}: name a dense layer of H*W*C "
                "inputs."
            )
    for name, shape in kernels.items():
        if len(shape) == 2 and shape[0] not in made and name not in maps:
            raise ValueError(
                f"The dense layer {name!r} takes {shape[0]} inputs, which no layer "
                "makes: it is fed a flattened map, and PyTorch flattens in another "
                f"order. Give maps={{{name!r}: (H, W, C)}}."
            )


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-3:-1], *shape[:-2]) if len(shape) > 1 else tuple(shape)


def _from_torch_layout(array: np.ndarray) -> np.ndarray:
    # [O, I, *spatial] -> [*spatial, I, O].
    return np.moveaxis(array, (1, 0), (-2, -1)) if array.ndim > 1 else array


def _check(
    arrays: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
    architecture: str,
) -> None:
    """Raises one ValueError that names the first entries that do not fit."""
    wrong = [f"{name} is missing" for name in expected if name not in arrays]
    wrong += [f"{name} is not expected" for name in arrays if name not in expected]
    for name in (name for name in expected if name in arrays):
        array = arrays[name]
        if array.shape != expected[name]:
            wrong.append(f"{name} has shape {array.shape}, not {expected[name]}")
        elif array.dtype.kind not in "fiub":
            wrong.append(f"{name} holds {array.dtype}, not numbers")
        elif not np.isfinite(array).all():
            wrong.append(f"{name} is not finite")
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ValueError(
            f"These weights are not those of {architecture}: "
            f"{'; '.join(wrong[:_SHOWN])}{more}."
        )
