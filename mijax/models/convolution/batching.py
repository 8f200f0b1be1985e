"""What the operations are under `vmap`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

Operation = Callable[[Array, Array], Array]


def batchable(
    cpu: Operation, many_cpu: Operation, plain: Operation, *, shares_second: bool
) -> Operation:
    """Returns an operation with its own rules under `vmap`.

    XLA's rule for a batch of kernels is a grouped convolution, a naive loop on CPU.

    Args:
      cpu: the form of one problem that is fast on CPU.
      many_cpu: that of N problems, whose operands start with N.
      plain: of one problem, on accelerators.
      shares_second: whether problems that share the second operand, a kernel, are one
        problem with more maps.
    """

    @jax.custom_batching.custom_vmap
    def one(first: Array, second: Array) -> Array:
        return lax.platform_dependent(first, second, cpu=cpu, default=plain)

    @jax.custom_batching.custom_vmap
    def many(first: Array, second: Array) -> Array:
        if first.shape[0] == 1:
            return one(first[0], second[0])[None]
        return lax.platform_dependent(
            first, second, cpu=many_cpu, default=jax.vmap(plain)
        )

    @one.def_vmap
    def _(size: int, batched: list[bool], first: Array, second: Array) -> Any:
        if shares_second and not batched[1]:
            y = one(first.reshape(-1, *first.shape[2:]), second)
            return y.reshape(size, -1, *y.shape[1:]), True
        return many(*_each(size, batched, first, second)), True

    @many.def_vmap
    def _(size: int, batched: list[bool], first: Array, second: Array) -> Any:
        first, second = _each(size, batched, first, second)
        y = many(
            first.reshape(-1, *first.shape[2:]), second.reshape(-1, *second.shape[2:])
        )
        return y.reshape(size, -1, *y.shape[1:]), True

    return one


def _each(size: int, batched: list[bool], *operands: Array) -> list[Array]:
    return [
        x if is_batched else jnp.broadcast_to(x[None], (size, *x.shape))
        for x, is_batched in zip(operands, batched, strict=True)
    ]
