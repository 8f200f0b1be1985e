"""Trains a model in chunks with a checkpoint between, so that a kill loses little."""

import functools
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
import optax
from jax import Array

from experiments.harness import checkpoint, programs
from mijax.core import Target
from mijax.federation import Federation, Round, simulate
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
    data = jax.tree.map(jax.numpy.asarray, data)
    batch_size = min(batch_size, len(jax.tree.leaves(data)[0]))

    @functools.cache
    def advance(number: int) -> programs.Program:
        def some_steps(key: Array, state: State, data: Any, first: Array) -> Any:
            return fit(
                key, state, step, data, batch_size=batch_size, steps=number, first=first
            )

        return programs.program(some_steps, donate_argnums=(1,))

    def run(number: int, state: State, done: int) -> tuple[State, Any]:
        return advance(number)(key, state, data, done)[0]

    return _in_chunks(
        run,
        state,
        name=name,
        folder=folder,
        steps=steps,
        chunk=chunk,
        after_chunk=after_chunk,
    )


def rounds(
    key: Array,
    federation: Federation,
    *,
    name: str,
    folder: pathlib.Path,
    rounds: int,
    chunk: int = 50,
) -> Federation:
    """Runs `simulate` from the last checkpoint in `folder`, and says how it goes.

    Args:
      key: of the whole training.
      federation: before the first round; its data are in no checkpoint.
      name: what is trained, for the progress line.
      folder: of this training's checkpoints alone.
      rounds: in all.
      chunk: rounds between checkpoints.

    Raises:
      ValueError: as `train`.
    """

    @functools.cache
    def advance(number: int) -> programs.Program:
        def some_rounds(key: Array, begun: Federation, state: Any) -> tuple[Any, Any]:
            after, moved = simulate(key, begun.at(state), rounds=number, record=_length)
            return after.state, {"update": moved}

        return programs.program(some_rounds, donate_argnums=(2,))

    def run(number: int, state: Any, done: int) -> tuple[Any, Any]:
        del done  # The state knows its round.
        return advance(number)(key, federation, state)[0]

    state = _in_chunks(
        run, federation.state, name=name, folder=folder, steps=rounds, chunk=chunk
    )
    return federation.at(state)


def _length(target: Target, seen: Round) -> Array:
    """The mean length of what the clients of a round share."""
    del target
    return jax.numpy.mean(jax.vmap(optax.tree.norm)(seen.change))


def _in_chunks(
    advance: Callable[[int, State, int], tuple[State, Any]],
    state: State,
    *,
    name: str,
    folder: pathlib.Path,
    steps: int,
    chunk: int,
    after_chunk: Callable[[int, State], None] | None = None,
) -> State:
    """Calls `advance`, `(number, state, done) -> (state, metrics)`, to the end."""
    done = checkpoint.latest(folder) or 0
    if done:
        state = checkpoint.restore(folder, done, state)
        print(f"{name}: continuing after step {done:,}", flush=True)
    else:
        state = jax.tree.map(jax.numpy.copy, state)  # The chunk gives its buffers up.
    start, begun = time.monotonic(), done
    while done < steps:
        number = min(chunk, steps - done)
        state, metrics = advance(number, state, done)
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
