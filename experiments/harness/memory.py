"""Whether a compiled program fits the device, before it runs."""

import os
from collections.abc import Callable

import jax

_SPARE = 0.95  # of what is free: allocators keep a rest


def need(program: jax.stages.Compiled) -> int:
    """Bytes that a program holds at its peak: arguments, results, and between."""
    analysis = program.memory_analysis()
    if analysis is None:
        return 0
    return (
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
        + analysis.temp_size_in_bytes
    )


def limit() -> int | None:
    """Bytes that a program may hold on each device; None where none says."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(_SPARE * stats["bytes_limit"])
    if device.platform == "cpu" and hasattr(os, "sysconf"):
        return int(_SPARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return None


def check(program: jax.stages.Compiled, name: str = "The program") -> None:
    """Refuses a program that would not fit.

    Raises:
      ValueError: if it needs more than the device has.
    """
    if (most := limit()) is not None and need(program) > most:
        raise ValueError(f"{name} {_too_large(need(program), most)}")


def fitting(
    compile_for: Callable[[int], jax.stages.Compiled],
    number: int,
    most: int | None = None,
) -> tuple[int, jax.stages.Compiled]:
    """Finds how many examples at a time fit: all, or the most by halves that do.

    Args:
      compile_for: from how many at a time to the compiled program of all.
      number: of all.
      most: bytes; the device's limit.

    Returns:
      How many, and the program.

    Raises:
      ValueError: if not even one at a time fits.
    """
    most = limit() if most is None else most
    size = number
    while True:
        program = compile_for(size)
        bytes_needed = need(program)
        if most is None or bytes_needed <= most:
            if size < number:
                print(
                    f"{number} at a time would not fit in {most / 2**30:.3g} GiB: "
                    f"taking {size} at a time.",
                    flush=True,
                )
            return size, program
        if size == 1:
            raise ValueError(f"One example at a time {_too_large(bytes_needed, most)}")
        size = -(-size // 2)


def _too_large(bytes_needed: int, most: int) -> str:
    return (
        f"needs {bytes_needed / 2**30:.3g} GiB and the device has "
        f"{most / 2**30:.3g}: take fewer victims, restarts or steps, a smaller "
        "network, or a larger device."
    )
