"""Random keys of which each victim draws the same, whoever is drawn for beside it."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

_IMPLEMENTATION = "threefry2x32"


def independent(key: Any) -> Array:
    """Returns typed keys whose numbers follow from each key alone, of any shape.

    Under `vmap`, keys of "rbg" draw numbers that depend on the batch, and so on how
    many victims are attacked at a time: all their bits are folded into threefry's.
    Old-style keys, of `jax.random.PRNGKey`, become typed ones.

    Raises:
      ValueError: if it is no key.
    """
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        if str(jax.random.key_impl(key)) == _IMPLEMENTATION:
            return key
        data = jax.random.key_data(key)
    elif dtype == jnp.uint32 and key.shape[-1:] in ((2,), (4,)):
        data = jnp.asarray(key)
    else:
        what = f"{dtype}{list(key.shape)}" if dtype is not None else repr(key)[:40]
        raise ValueError(
            f"The key is {what}: give a random key, such as jax.random.key(0)."
        )
    keys = jax.random.wrap_key_data(data[..., :2], impl=_IMPLEMENTATION)
    fold = jnp.vectorize(jax.random.fold_in)
    for word in range(2, data.shape[-1]):
        keys = fold(keys, data[..., word])
    return keys


def key_of(seed: Any) -> Array:
    """Returns the key of a seed: of an integer, or of what is a key already."""
    if getattr(seed, "ndim", None) == 0 or isinstance(seed, int):
        dtype = getattr(seed, "dtype", jnp.int32)
        if not jnp.issubdtype(dtype, jax.dtypes.prng_key):
            return jax.random.key(seed, impl=_IMPLEMENTATION)
    return independent(seed)
