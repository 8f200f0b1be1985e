"""Profiles an attack's kernels: what bounds each, and how near it comes to that.

    python -m experiments.profile --attack=gmi
    python -m experiments.profile --attack=inverting_gradients --victims=64 --trace

Each kernel is compiled ahead of time, and compiled once more from the cache that all
experiments keep beside their workdirs. Its floating-point operations and bytes are
those of the compiled program's cost analysis, a loop's body counted once for each
iteration; what the machine can do is measured in the same run, as a matrix product and
as a copy. The bound is the longer of both times (the roofline), and the share says how
much of the time that took. Bytes are those of each operation apart: what stays in a
cache moves fewer, so that a share may pass 1.

In the workdir it leaves `profile.json`, `table.txt`, `figures/roofline.png`, with
`--hlo` the optimized HLO of each kernel, and with `--trace` a trace for TensorBoard
(XProf) or Perfetto, in which the attack's phases are named.
"""

import dataclasses
import functools
import json
import pathlib
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import linen as nn
from jax import Array

import mijax.priors
from experiments.harness import figures, memory, report
from experiments.harness import flags as common
from mijax import federation
from mijax.attacks import gmi, inverting_gradients, map_inference, mi_face
from mijax.core import Target
from mijax.knowledge import (
    Candidates,
    Oracle,
    PartialRecord,
    SharedUpdate,
    WhiteBox,
    normal,
)
from mijax.models.conv_net import ConvNet
from mijax.models.face_evolve import FaceEvolve
from mijax.models.mlp import MLP

_MATRIX = {"cpu": 2048}  # rows of the product; elsewhere 8192, which fills the chip
_COPIED = {"cpu": 2**28}  # bytes, far above any cache; elsewhere 2 GiB


class Kernel(NamedTuple):
    """A program to profile.

    Attributes:
      of_steps: from a number of iterations to a function of `arguments`.
      arguments: arrays.
      steps: iterations of its loop; 0 if it has none.
    """

    of_steps: Callable[[int], Callable[..., Any]]
    arguments: tuple[Any, ...]
    steps: int = 0


class Ceilings(NamedTuple):
    """What the machine can do: FLOP/s of a product, bytes/s of a copy."""

    flops: float
    bandwidth: float


def of_attack(attack: Any, knowledge: Any, config: Any, steps: int) -> Kernel:
    """The kernel of a whole attack, `steps` iterations long."""

    def of_steps(steps: int) -> Callable[..., Any]:
        def run(key: Array, knowledge: Any, config: Any) -> Any:
            config = dataclasses.replace(config, steps=steps)
            return attack.attack(key, knowledge, config)

        return run

    return Kernel(of_steps, (jax.random.key(0), knowledge, config), steps)


def of_function(function: Callable[..., Any], *arguments: Any) -> Kernel:
    """The kernel of a function without a loop."""
    return Kernel(lambda steps: function, arguments)


def _target(module: nn.Module, shape: tuple[int, ...]) -> Target:
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, *shape)))
    return Target.from_linen(module, variables, shape)


def gmi_kernels(victims: int, steps: int) -> dict[str, Kernel]:
    """GMI against the demo's target, of random weights, and its networks forward."""
    prior = mijax.priors.load("faces64")
    target = _target(FaceEvolve(62, 8, (1, 1, 1, 1), 128), prior.shape)
    labels = jnp.arange(victims, dtype=jnp.int32) % target.num_classes
    knowledge = WhiteBox(target, labels, prior)
    z = prior.sample(jax.random.key(1), victims)
    x = prior.images(z)
    return {
        "attack": of_attack(gmi, knowledge, gmi.Config(restarts=1), steps),
        "generator": of_function(type(prior).images, prior, z),
        "target": of_function(Target.predict, target, x),
        "critic": of_function(type(prior).score, prior, x),
    }


def mi_face_kernels(victims: int, steps: int) -> dict[str, Kernel]:
    """MI-Face against an MLP of AT&T's size, of random weights."""
    target = _target(MLP(40, widths=(300,)), (56, 46, 1))
    labels = jnp.arange(victims, dtype=jnp.int32) % target.num_classes
    knowledge = WhiteBox(target, labels)
    x = jax.random.uniform(jax.random.key(1), (victims, 56, 46, 1))
    return {
        "attack": of_attack(mi_face, knowledge, mi_face.Config(), steps),
        "target": of_function(Target.predict, target, x),
    }


def inverting_gradients_kernels(victims: int, steps: int) -> dict[str, Kernel]:
    """Inverting Gradients against a ConvNet of random weights, one image a client."""
    shape = (32, 32, 3)
    target = _target(ConvNet(10, width=16), shape)
    x = jax.random.uniform(jax.random.key(1), (victims, 1, *shape))
    labels = jnp.arange(victims, dtype=jnp.int32)[:, None] % 10
    recipe = federation.Recipe()
    share = functools.partial(federation.share, jax.random.key(2), recipe)
    update = share(target, x, labels).change
    knowledge = SharedUpdate(target, update, 1, recipe, labels=labels)
    config = inverting_gradients.Config(tv_weight=1e-2)
    return {
        "attack": of_attack(inverting_gradients, knowledge, config, steps),
        "clients": of_function(share, target, x, labels),
    }


def map_inference_kernels(victims: int, steps: int) -> dict[str, Kernel]:
    """MAP inference of a field of seven values, by an MLP of random weights.

    A victim is a thousand records here: one is no work.
    """
    del steps  # It has no loop.
    records = 1000 * victims
    values, others = 7, 18
    key = jax.random.key(0)
    target = _target(MLP(1, widths=(128,)), (values + others,))
    known = jax.random.normal(key, (records, values + others))
    field = Candidates.of(np.arange(values), np.eye(values))
    outcome = jax.random.normal(key, (records,))
    error = normal(1.0)
    knowledge = PartialRecord(Oracle.of(target), known, field, outcome, error)
    return {
        "attack": of_function(map_inference.attack, key, knowledge),
        "target": of_function(Target.predict, target, known),
    }


KERNELS: dict[str, Callable[[int, int], dict[str, Kernel]]] = {
    "gmi": gmi_kernels,
    "inverting_gradients": inverting_gradients_kernels,
    "map_inference": map_inference_kernels,
    "mi_face": mi_face_kernels,
}
"""What is profiled: `(victims, steps) -> kernels`, the whole attack first."""


def compiled(kernel: Kernel) -> tuple[jax.stages.Compiled, float]:
    """Compiles a kernel; returns it, and the seconds without those of tracing."""
    lowered = jax.jit(kernel.of_steps(kernel.steps)).lower(*kernel.arguments)
    start = time.perf_counter()
    return lowered.compile(), time.perf_counter() - start


def cost(kernel: Kernel) -> tuple[float, float]:
    """FLOPs and bytes of a kernel, by the cost analysis of its compiled program.

    The analysis counts a loop's body once, so that one of two iterations less one of
    none is an iteration. Loops within an iteration still count once.
    """

    def analyzed(steps: int) -> np.ndarray:
        lowered = jax.jit(kernel.of_steps(steps)).lower(*kernel.arguments)
        analysis = lowered.compile().cost_analysis() or {}
        names = "flops", "bytes accessed"
        return np.array([analysis.get(name, 0.0) for name in names])

    if not kernel.steps:
        flops, size = analyzed(0)
    else:
        once = analyzed(0)
        flops, size = once + kernel.steps * (analyzed(2) - once)
    return float(flops), float(size)


def seconds_of(run: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each of some runs, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def ceilings(repeats: int) -> Ceilings:
    """Measures the machine's float32 matrix product and its copy."""
    backend = jax.default_backend()
    rows, size = _MATRIX.get(backend, 8192), _COPIED.get(backend, 2**31)
    a, b = jax.random.normal(jax.random.key(0), (2, rows, rows))
    product = jax.jit(jnp.matmul).lower(a, b).compile()
    took = seconds_of(lambda: jax.block_until_ready(product(a, b)), repeats)
    flops = 2 * rows**3 / statistics.median(took)

    # Into a buffer that is there already: fresh memory is slow when first touched.
    x = jnp.ones(size // 4)
    into = {"buffer": jnp.zeros(size // 4)}
    copied = jax.jit(lambda x, y: jnp.copy(x), donate_argnums=1, keep_unused=True)
    copied = copied.lower(x, into["buffer"]).compile()

    def copy() -> None:
        into["buffer"] = jax.block_until_ready(copied(x, into.pop("buffer")))

    return Ceilings(flops, 2 * size / statistics.median(seconds_of(copy, repeats)))


def measure(kernel: Kernel, repeats: int) -> dict[str, float]:
    """Measures one kernel: the first columns of the table."""
    program, compile_seconds = compiled(kernel)
    jax.clear_caches()
    _, again_seconds = compiled(kernel)
    arguments = jax.device_put(kernel.arguments)
    times = seconds_of(lambda: jax.block_until_ready(program(*arguments)), repeats)
    flops, size = cost(kernel)
    return {
        "compile s": compile_seconds,
        "again s": again_seconds,
        "run ms": 1e3 * statistics.median(times),
        "from ms": 1e3 * min(times),
        "to ms": 1e3 * max(times),
        "GFLOP": flops / 1e9,
        "GB": size / 1e9,
        "memory MiB": memory.need(program) / 2**20,
    }


def rates(measures: Mapping[str, float], limits: Ceilings) -> dict[str, float]:
    """What a kernel reached beside what the machine can do."""
    seconds = measures["run ms"] / 1e3
    flops, size = 1e9 * measures["GFLOP"], 1e9 * measures["GB"]
    bound = max(flops / limits.flops, size / limits.bandwidth)
    return {
        "GFLOP/s": flops / seconds / 1e9,
        "GB/s": size / seconds / 1e9,
        "bound ms": 1e3 * bound,
        "share": bound / seconds,
    }


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Sets kernels in aligned columns."""
    head = ["kernel", *next(iter(rows.values()))]
    body = [[name, *(f"{v:.3g}" for v in row.values())] for name, row in rows.items()]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True))
        for line in [head, *body]
    )


def keep_compiled(folder: pathlib.Path) -> None:
    """Starts a cache of compiled programs that holds nothing yet."""
    shutil.rmtree(folder, ignore_errors=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def main() -> None:
    """Profiles the kernels of `--attack`."""
    given = flags.FLAGS
    workdir = report.prepare_workdir(given.workdir, free_mib=256)
    keep_compiled(workdir / "compiled")
    kernels = KERNELS[given.attack](given.victims, given.steps)
    before = ceilings(given.repeats)
    measured = {name: measure(k, given.repeats) for name, k in kernels.items()}
    # Of both measurements the better: other work on the machine can only slow it.
    limits = Ceilings(*map(max, before, ceilings(given.repeats)))
    rows = {
        name: measures | rates(measures, limits) for name, measures in measured.items()
    }
    about = {
        "attack": given.attack,
        "victims": given.victims,
        "steps": given.steps,
        "device": report.device(),
        "commit": report.commit(),
        "versions": report.versions(),
        "matrix product GFLOP/s": limits.flops / 1e9,
        "copy GB/s": limits.bandwidth / 1e9,
    }
    for name, kernel in kernels.items():
        program, _ = compiled(kernel)
        if given.hlo:
            (workdir / "hlo").mkdir(exist_ok=True)
            (workdir / "hlo" / f"{name}.txt").write_text(program.as_text() or "")
        if given.trace:
            arguments = jax.device_put(kernel.arguments)
            with jax.profiler.trace(str(workdir / "trace" / name)):
                jax.block_until_ready(program(*arguments))
    head = (
        f"{given.attack}, {given.victims} victims, {given.steps} steps, "
        f"{about['device']}: matrix product {limits.flops / 1e9:.4g} GFLOP/s, "
        f"copy {limits.bandwidth / 1e9:.3g} GB/s"
    )
    text = f"{head}\n{table(rows)}\n"
    (workdir / "table.txt").write_text(text)
    (workdir / "profile.json").write_text(
        json.dumps(about | {"kernels": rows}, indent=2)
    )
    figures.roofline(
        {
            name: (row["GFLOP"] / max(row["GB"], 1e-12), 1e9 * row["GFLOP/s"])
            for name, row in rows.items()
        },
        workdir / "figures" / "roofline.png",
        flops=limits.flops,
        bandwidth=limits.bandwidth,
    )
    print(text)
    print(f"profile: {workdir / 'profile.json'}", flush=True)


if __name__ == "__main__":
    flags.DEFINE_enum("attack", "gmi", sorted(KERNELS), "What to profile.")
    flags.DEFINE_integer("victims", 16, "Attacked at a time.", lower_bound=1)
    flags.DEFINE_integer("steps", 10, "Iterations of the attack.", lower_bound=2)
    flags.DEFINE_integer("repeats", 7, "Times to run each.", lower_bound=2)
    flags.DEFINE_bool("trace", False, "Write a trace of one run of each kernel.")
    flags.DEFINE_bool("hlo", False, "Write the optimized HLO of each kernel.")
    flags.DEFINE_string("workdir", "runs/profile", "Where results land.")
    common.run(main)
