"""Pytrees: dataclasses whose numbers are leaves, and whose structure is static."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

T = TypeVar("T")


def static(**options: Any) -> Any:
    """Declares a field of a `pytree` that is structure (a function, a size)."""
    return dataclasses.field(metadata={"static": True}, **options)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def pytree(cls: type[T]) -> type[T]:
    """Makes a frozen dataclass whose fields are leaves, but for the `static` ones."""
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def hyper_parameters(cls: type[T]) -> type[T]:
    """Makes a `pytree` that refuses numbers that are NaN or infinite, by name.

    Static sizes are whole numbers, and static functions can be called.
    """
    own: Callable[[Any], None] = getattr(cls, "__post_init__", lambda self: None)

    def check(self: Any) -> None:
        values = [(f, getattr(self, f.name)) for f in dataclasses.fields(self)]
        for field, value in values:
            numbers = concrete(value)
            if numbers is not None and not np.all(np.isfinite(numbers)):
                raise ValueError(f"{field.name} is {value}: it must be finite.")
            size = field.metadata.get("static") and type(field.default) is int
            if size and not isinstance(value, int | np.integer):
                raise ValueError(
                    f"{field.name} is {value!r}: it must be a whole number."
                )
            if isinstance(value, str) and not field.metadata.get("static"):
                raise ValueError(f"{field.name} is {value!r}: it must be a number.")
        own(self)
        for field, value in values:
            function = field.metadata.get("static") and callable(field.default)
            if function and not callable(value):
                raise ValueError(f"{field.name} is {value!r}: it must be a function.")

    setattr(cls, "__post_init__", check)  # noqa: B010
    return pytree(cls)


def concrete(value: Any) -> np.ndarray | None:
    """Returns a NumPy array, or None if the value is traced or not a number."""
    if isinstance(value, float):
        return np.asarray(value)
    if not isinstance(value, np.ndarray | np.generic | jax.Array):
        return None
    if isinstance(value, Tracer):
        return None
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return None
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return None  # Other hosts hold the rest.
    return jax.device_get(value)


def in_chunks(function: Callable[[Any], T], rows: Any, size: int) -> T:
    """Maps a function of many rows over all of them, `size` at a time.

    Args:
      function: from a tree of rows, leaves `[B, ...]`, to another.
      rows: leaves `[N, ...]`.
      size: how many at a time; the last ones may be fewer.
    """
    number = jax.tree.leaves(rows)[0].shape[0]
    if number <= size:
        return function(rows)
    chunks = -(-number // size)
    even = number // chunks

    def chunk(start: Any) -> T:
        return function(
            jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, even), rows)
        )

    whole = chunks * even
    found = jax.lax.map(chunk, np.arange(0, whole, even))
    found = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
    if whole == number:
        return found
    rest = function(jax.tree.map(lambda x: x[whole:], rows))
    return jax.tree.map(lambda *x: jnp.concatenate(x), found, rest)
