"""Programs that are compiled and timed: the heavy work of experiments."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import memory
from mijax import batching

Program = Callable[..., tuple[Any, dict[str, float]]]


def program(
    function: Callable[..., Any], *, donate_argnums: tuple[int, ...] = ()
) -> Program:
    """Returns a program of a pure function, compiled once for arguments of one form.

    Args:
      function: of pytrees of arrays; what it closes over is part of the program.
      donate_argnums: arguments whose buffers are given up, where they can be.

    Returns:
      A function that returns the result, and the seconds of `compile` and `run`.

    Raises:
      ValueError: when first called, if the program would not fit the device.
    """
    compiled: dict[Any, jax.stages.Compiled] = {}

    def call(*arguments: Any) -> tuple[Any, dict[str, float]]:
        arguments = jax.device_put(arguments)
        compiling, own = 0.0, form(arguments)
        if own not in compiled:
            start = time.monotonic()
            jitted = jax.jit(function, donate_argnums=donate_argnums)
            compiled[own] = jitted.lower(*arguments).compile()
            memory.check(compiled[own])
            compiling = time.monotonic() - start
        return _run(compiled[own], arguments, compiling)

    return call


def over_victims(attack: batching.Attack, number: int) -> Program:
    """Returns an attack on many victims: on all devices, as many at a time as fit.

    Args:
      attack: of `(key, knowledge, config)`, as `mijax.batching` takes it.
      number: of victims.

    Returns:
      As `program` does.

    Raises:
      ValueError: when first called, if not even one victim at a time fits a device.
    """
    mesh = batching.over_devices()
    share = -(-number // mesh.size)
    compiled: dict[Any, jax.stages.Compiled] = {}

    def of_size(size: int) -> batching.Attack:
        some = batching.in_chunks(attack, size) if size < share else attack
        return batching.across(some, mesh) if mesh.size > 1 else some

    def call(*arguments: Any) -> tuple[Any, dict[str, float]]:
        arguments = batching.everywhere(arguments, mesh)

        def compile_for(size: int) -> jax.stages.Compiled:
            return jax.jit(of_size(size)).lower(*arguments).compile()

        compiling, own = 0.0, form(arguments)
        if own not in compiled:
            start = time.monotonic()
            compiled[own] = memory.fitting(compile_for, share)[1]
            compiling = time.monotonic() - start
        return _run(compiled[own], arguments, compiling)

    return call


_BATCH = 64  # examples at a time


def batched(function: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Applies a compiled function of `[B, ...]` to any number of examples."""
    compiled = jax.jit(function)

    def apply(x: np.ndarray) -> np.ndarray:
        number = len(x)
        padded = np.concatenate([x, np.repeat(x[-1:], -number % _BATCH, 0)])
        parts = padded.reshape(-1, _BATCH, *x.shape[1:])
        return np.concatenate([np.asarray(compiled(p)) for p in parts])[:number]

    return apply


def form(arguments: Any) -> Any:
    """What a program is compiled for: all of its arguments but their numbers."""
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple((jnp.shape(x), jnp.result_type(x)) for x in leaves)


def _run(
    compiled: jax.stages.Compiled, arguments: tuple[Any, ...], compiling: float
) -> tuple[Any, dict[str, float]]:
    start = time.monotonic()
    with jax.transfer_guard("disallow"):
        result = jax.block_until_ready(compiled(*arguments))
    return result, {"compile": compiling, "run": time.monotonic() - start}
