"""Fair times: contenders run in turn, warm, waited for, in wall and in CPU seconds."""

import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import flags
from jax import Array, lax

BATCHES = flags.DEFINE_list("batches", ["8", "60"], "How many images at a time.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Turns to take.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "A JSON file for the figures.")

# Peak single-precision TFLOP/s without tensor cores, and memory bandwidth in TB/s, as
# the vendor states them.
_PEAKS = {
    "NVIDIA A100-SXM4-80GB": (19.5, 2.04),
    "NVIDIA H100 80GB HBM3": (67.0, 3.35),
    "NVIDIA H200": (67.0, 4.8),
}
_SGEMM_SIZE = {"cpu": 1024}  # elsewhere 8192, which fills an accelerator
_FLOPS_OF_A_SAMPLE = {"cpu": 2e10}


class Seconds(NamedTuple):
    """What one run took.

    Attributes:
      wall: seconds of the clock.
      cpu: seconds of the process on all cores.
    """

    wall: float
    cpu: float


def once(run: Callable[[], Any]) -> Seconds:
    """Times `run`, which must not return before its work is done."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def in_turn(
    contenders: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, list[Seconds]]:
    """Times all contenders, one after the other, `repeats` times after a warm-up.

    Taking turns spreads what else the machine does over all of them.
    """
    for run in contenders.values():
        run()
    times: dict[str, list[Seconds]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            times[name].append(once(run))
    return times


def median(times: Sequence[Seconds], work: float = 1.0) -> Seconds:
    """The median wall and CPU seconds of one of `work` equal parts of each run."""
    wall, cpu = (
        statistics.median(column) / work for column in zip(*times, strict=True)
    )
    return Seconds(wall, cpu)


def ratio(times: Sequence[Seconds], to: Sequence[Seconds]) -> Seconds:
    """The median over turns of how many times as long `times` took as `to`."""
    pairs = [
        Seconds(a.wall / b.wall, a.cpu / b.cpu) for a, b in zip(times, to, strict=True)
    ]
    return median(pairs)


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Compiles `function` for these arguments; returns it and the seconds it took."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - start


def repeated(
    operation: Callable[..., Array], operands: Sequence[Array], flops: float
) -> tuple[Callable[[], Array], int]:
    """A run of an operation in a `scan`, long enough to time, and its iterations.

    Args:
      operation: from the operands to an array.
      operands: its arguments.
      flops: of one operation.
    """
    enough = _FLOPS_OF_A_SAMPLE.get(jax.default_backend(), 5e12)
    iterations = max(2, round(enough / flops))

    def loop(*operands: Array) -> Array:
        def body(carry: Any, _: None) -> tuple[Any, None]:
            operands, _ = carry
            # Without the barrier XLA may move the operation out of the loop.
            return lax.optimization_barrier((operands, operation(*operands))), None

        result = jax.eval_shape(operation, *operands)
        start = operands, jnp.zeros(result.shape, result.dtype)
        return lax.scan(body, start, length=iterations)[0][1]

    program, _ = compiled(loop, *operands)
    return lambda: jax.block_until_ready(program(*operands)), iterations


def sgemm() -> tuple[Callable[[], Array], float]:
    """A run of products of square float32 matrices, and its floating-point operations.

    What it reaches is what the other figures of the same run are a share of.
    """
    size = _SGEMM_SIZE.get(jax.default_backend(), 8192)
    keys = jax.random.split(jax.random.key(0))
    operands = [jax.random.normal(key, (size, size)) for key in keys]
    flops = 2.0 * size**3
    run, iterations = repeated(jnp.matmul, operands, flops)
    return run, flops * iterations


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device() -> dict[str, Any]:
    """What a figure was measured on; `peak` is null where it is not known."""
    kind = jax.devices()[0].device_kind
    return {
        "backend": jax.default_backend(),
        "device": kind,
        "machine": platform.machine(),
        "cores": cores(),
        "jax": jax.__version__,
        "matmul_precision": jax.config.values["jax_default_matmul_precision"],
        "peak": _PEAKS.get(kind),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Sets records of the same fields as an aligned plain-text table."""

    def text(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    head = list(rows[0])
    lines = [head, *([text(row[name]) for name in head] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)]
        )
        for line in lines
    )


def checked_flags() -> tuple[list[int], int]:
    """Returns the batches and the number of turns.

    Raises:
      ValueError: if a batch is not a positive number, or `write` would fail.
    """
    path = OUTPUT.value
    if path is not None and not os.access(pathlib.Path(path).parent, os.W_OK):
        raise ValueError(f"--output={path}: its folder must exist and be writable.")
    if not all(batch.isdecimal() and int(batch) for batch in BATCHES.value):
        raise ValueError(f"--batches={BATCHES.value}: give numbers, such as 8,60.")
    return [int(batch) for batch in BATCHES.value], REPEATS.value


def write(results: Mapping[str, Any]) -> None:
    """Writes results as JSON to `--output`, if it is given."""
    if OUTPUT.value is not None:
        text = json.dumps({**device(), **results}, indent=2)
        pathlib.Path(OUTPUT.value).write_text(text + "\n")
