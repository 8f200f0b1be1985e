"""Trains a model in chunks with a checkpoint between, so that a kill loses little."""

import functools
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array

from experiments.harness import checkpoint, programs
from mijax.training import Step, fit

State = TypeVar("State")


def train(
    key: Array,
    state: State,
    step: Step[State],
    data: Any,
    *,
    name: str,
    folder: pathlib.Path,
    batch_size: int,
    steps: int,
    chunk: int = 100,
    after_chunk: Callable[[int, State], None] | None = None,
) -> State:
    """Runs `fit` from the last checkpoint in `folder`, and says how it goes.

    Args:
      key: the key of the whole training.
      state: before the first step; it also says what a checkpoint must look like.
      step: of `fit`.
      data: arrays `[N, ...]`.
      name: what is trained, for the progress line.
      folder: of this training's checkpoints alone.
      batch_size: examples a step; all of them where there are fewer.
      steps: in all.
      chunk: steps between checkpoints.
      after_chunk: `(steps done, state)`, such as drawing samples.

    Raises:
      ValueError: if the checkpoint is damaged or of another architecture, or if
        training diverges.
    """
    done = checkpoint.latest(folder) or 0
    if done:
        state = checkpoint.restore(folder, done, state)
        print(f"{name}: continuing after step {done:,}", flush=True)
    else:
        state = jax.tree.map(jax.numpy.copy, state)  # The chunk gives its buffers up.
    data = jax.tree.map(jax.numpy.asarray, data)
    batch_size = min(batch_size, len(jax.tree.leaves(data)[0]))

    @functools.cache
    def advance(number: int) -> programs.Program:
        def some_steps(key: Array, state: State, data: Any, first: Array) -> Any:
            return fit(
                key, state, step, data, batch_size=batch_size, steps=number, first=first
            )

        return programs.program(some_steps, donate_argnums=(1,))

    start, begun = time.monotonic(), done
    while done < steps:
        number = min(chunk, steps - done)
        (state, metrics), _ = advance(number)(key, state, data, done)
        done += number
        means = {k: float(np.mean(v)) for k, v in metrics.items()}
        if not all(np.isfinite(list(means.values()))):
            raise ValueError(
                f"{name} diverged before step {done}: {means}. Lower the learning "
                f"rate; the last checkpoint, in {folder}, is from before."
            )
        checkpoint.save(folder, done, state)
        _say(name, done, steps, (time.monotonic() - start) / (done - begun), means)
        if after_chunk is not None:
            after_chunk(done, state)
    return state


def _say(
    name: str, done: int, steps: int, seconds: float, means: dict[str, float]
) -> None:
    terminal = sys.stdout.isatty()
    numbers = "  ".join(f"{k} {v:.3f}" for k, v in means.items())
    left = seconds * (steps - done)
    line = f"{name}: {done:,}/{steps:,}  {numbers}  {left:.0f} s left"
    end = "\n" if not terminal or done == steps else "\r"
    print(f"\x1b[2K{line}" if terminal else line, end=end, flush=True)
