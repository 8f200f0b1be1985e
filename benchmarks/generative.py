"""PPA's and PLG-MI's step on a processor: beside PyTorch, one victim at a time, memory.

    python -m benchmarks.generative
    python -m benchmarks.generative --batch=16 --width=16 --methods=ppa

The networks are `benchmarks.accelerator`'s, of random weights; VGG16 has `--width`
channels in its first layer (64 in full), and so has the generator. For each method:

- our step, all candidates in one program, and PyTorch's, eager, with frozen weights and
  the same first losses, at its best of one thread and all; the medians of turns that
  alternate, and their ratio;
- the same candidates as the victims of one program, one after the other;
- what the compiled attack needs beside its arguments, at 10 and at 100 steps.
"""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import accelerator, peers, timing
from experiments.harness import memory
from mijax.models.vgg import VGG16

_CLASSES = 1000


def measure(method: str, sizes: accelerator.Sizes, repeats: int) -> dict[str, Any]:
    """One row of the table."""
    case = accelerator.viewed_case(method, sizes)
    ours, _ = timing.compiled(case.function, *case.arguments)
    key, known = case.arguments
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(sizes.gmi_batch))

    def alone(keys: Any, known: Any) -> Any:
        def one(key: Any, label: Any) -> Any:
            own = dataclasses.replace(known, labels=label[None])
            return case.function(key[None], own)

        return jax.lax.map(lambda each: one(*each), (keys, known.labels))

    serial, _ = timing.compiled(alone, keys, known)
    theirs = at_its_best(case.theirs(False))
    row: dict[str, Any] = {
        "attack": method,
        "candidates": sizes.gmi_batch,
        "loss difference": accelerator.difference(
            np.asarray(ours(*case.arguments)), theirs()
        ),
    }
    times = timing.in_turn(
        {
            "mijax": lambda: jax.block_until_ready(ours(*case.arguments)),
            "torch": theirs,
            "one by one": lambda: jax.block_until_ready(serial(keys, known)),
        },
        repeats,
    )
    for label, samples in times.items():
        seconds = timing.median(samples, sizes.gmi_steps)
        row |= {
            f"{label} wall ms": 1e3 * seconds.wall,
            f"{label} cpu ms": 1e3 * seconds.cpu,
        }
        if label != "mijax":
            faster = timing.ratio(samples, times["mijax"])
            row |= {
                f"{label} wall ratio": faster.wall,
                f"{label} cpu ratio": faster.cpu,
            }
    for steps in (10, 100):
        longer = accelerator.viewed_case(method, sizes._replace(gmi_steps=steps))
        program = jax.jit(longer.function).lower(*longer.arguments).compile()
        row[f"MiB at {steps} steps"] = memory.need(program) / 2**20
    return row


def at_its_best(run: Callable[[], Any]) -> Callable[[], Any]:
    """PyTorch's run in one thread, or in as many as there are cores if it is faster."""
    torch = peers.required("torch", "pip install torch")

    def with_threads(number: int) -> Callable[[], Any]:
        def threaded() -> Any:
            torch.set_num_threads(number)
            return run()

        return threaded

    runs = {str(n): with_threads(n) for n in sorted({1, timing.cores()})}
    trial = timing.in_turn(runs, 1)
    return runs[min(trial, key=lambda name: trial[name][0].wall)]


def main() -> None:
    """Measures both and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=8, help="candidates")
    parser.add_argument("--width", type=int, default=64, help="of networks")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--methods", default="ppa,plg_mi", help="those to measure")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    given = parser.parse_args()
    sizes = accelerator.PAPER._replace(
        gmi_batch=given.batch,
        gmi_steps=given.steps,
        prior_width=given.width,
        vgg=VGG16(_CLASSES, width=given.width),
    )
    jax.config.update("jax_default_matmul_precision", "float32")
    print(timing.device(), flush=True)
    for method in given.methods.split(","):
        for name, value in measure(method, sizes, given.repeats).items():
            print(f"{name:24} {value}", flush=True)


if __name__ == "__main__":
    main()
