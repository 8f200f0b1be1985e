"""Several runs in one process: what they compute alike is one program, vmapped.

    python -m launch.pack SWEEP RUN RUN ...     # launch.sweep --pack=16 starts this

The runs take turns: each goes on by itself, with flags, arguments and output of its
own, until it calls a program of `experiments.harness.programs`. When all wait at one,
those that wait at the same program (the same StableHLO, so that nothing that a run
closes over is
lost) are computed as one, each argument that differs stacked, and each goes on with its
part. A run that fails, or that finds a stage done before, just does not take part.

Results are those of single runs to within rounding (a batched product may add in
another order), which a search without a line search, DLG's, makes larger. What is the
same in all runs (a target, if only the attack's numbers differ) is computed once.
"""

import collections
import contextlib
import dataclasses
import hashlib
import importlib
import pathlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.extend import core

from experiments.harness import flags as common
from experiments.harness import programs
from launch import check, runs
from launch.runs import Run


@dataclasses.dataclass(frozen=True)
class Traced:
    """A program as it was traced, with all that it closes over as its arguments.

    Attributes:
      jaxpr: of `[*constants, *arguments]`.
      constants: the arrays that it closes over.
      structure: of the result.
      digest: the same for the same program, whatever the numbers.
    """

    jaxpr: Any
    constants: list[Any]
    structure: Any
    digest: str

    def __call__(self, *leaves: Any) -> list[Any]:
        """Computes the program."""
        count = len(self.constants)
        closed = core.ClosedJaxpr(self.jaxpr, leaves[:count])
        return core.jaxpr_as_fun(closed)(*leaves[count:])


def trace(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Traced:
    """Traces a program."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    traced = Traced(closed.jaxpr, closed.consts, jax.tree.structure(shape), "")
    leaves = [*closed.consts, *jax.tree.leaves(arguments)]
    lowered = jax.jit(traced.__call__).lower(*leaves).as_text()
    return dataclasses.replace(
        traced, digest=hashlib.sha256(lowered.encode()).hexdigest()
    )


class Member:
    """A run of the pack, in a thread of its own that runs only when it has its turn.

    Attributes:
      run: which.
      waits_at: the program that it waits for, with its arguments; None otherwise.
      answer: what that program returned, or what went wrong with it.
      code: how the run ended; None before.
    """

    def __init__(self, sweep: pathlib.Path, run: Run, main: Callable[[], None]):
        self.run = run
        self._main = main
        self.waits_at: tuple[Traced, list[Any]] | None = None
        self.answer: Any = None
        self.code: int | None = None
        self._folder = sweep / run.name
        self._turn, self._ended = threading.Semaphore(0), threading.Semaphore(0)
        self._traced: dict[Any, Traced] = {}
        self._start = time.monotonic()
        self._log = (self._folder / "log.txt").open("a")
        threading.Thread(target=self._live, daemon=True).start()

    def take_turn(self) -> None:
        """Lets the run go on until it waits at a program, or ends."""
        sys.argv = [
            check.entry(self.run.module),
            f"--workdir={self._folder}",
            *self.run.words,
        ]
        values = flags.FLAGS
        values.unparse_flags()
        for name in values:
            values[name].unparse()
        values(sys.argv)
        with (
            contextlib.redirect_stdout(self._log),
            contextlib.redirect_stderr(self._log),
        ):
            self._turn.release()
            self._ended.acquire()
            self._log.flush()

    def join(
        self,
        program: programs.Program,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> tuple[Any, dict[str, float]]:
        """Waits for the program's result (called by the run, in its thread)."""
        own = program, programs.form(arguments)
        if own not in self._traced:
            self._traced[own] = trace(function, arguments)
        traced = self._traced[own]
        self.waits_at = traced, [*traced.constants, *jax.tree.leaves(arguments)]
        self._ended.release()
        self._turn.acquire()
        self.waits_at = None
        if isinstance(self.answer, Exception):
            raise self.answer
        leaves, seconds = self.answer
        return jax.tree.unflatten(traced.structure, leaves), seconds

    def _live(self) -> None:
        self._turn.acquire()
        code = 1
        try:
            with programs.joined(self.join):
                common.guarded(self._main)(sys.argv[:1])
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
            if code != error.code:
                print(error)
        except BaseException:
            traceback.print_exc()
        runs.end(self._folder, code, time.monotonic() - self._start)
        self.code = code
        self._ended.release()


def compute_together(members: Sequence[Member]) -> None:
    """Answers members that wait at the same program."""
    waiting = [member.waits_at for member in members if member.waits_at]
    traced = waiting[0][0]
    columns = list(zip(*(leaves for _, leaves in waiting), strict=True))
    alike = [all(_same(column[0], leaf) for leaf in column[1:]) for column in columns]
    operands = [
        column[0] if same else jnp.stack([jnp.asarray(leaf) for leaf in column])
        for column, same in zip(columns, alike, strict=True)
    ]
    batched = not all(alike)
    start = time.monotonic()
    try:
        compiled = _compiled(traced, alike, len(members), operands)
        middle = time.monotonic()
        results = jax.block_until_ready(compiled(*operands))
    except Exception as error:  # A program that fails, fails its runs alone.
        for member in members:
            member.answer = error
        return
    seconds = {"compile": middle - start, "run": time.monotonic() - middle}
    share = {name: value / len(members) for name, value in seconds.items()}
    for number, member in enumerate(members):
        part = [leaf[number] for leaf in results] if batched else results
        member.answer = part, share


_PROGRAMS: dict[Any, jax.stages.Compiled] = {}


def _compiled(
    traced: Traced, alike: Sequence[bool], number: int, operands: Sequence[Any]
) -> jax.stages.Compiled:
    key = traced.digest, tuple(alike), number
    if key not in _PROGRAMS:
        axes = tuple(None if same else 0 for same in alike)
        batched = traced.__call__ if all(alike) else jax.vmap(traced.__call__, axes)
        _PROGRAMS[key] = jax.jit(batched).lower(*operands).compile()
    return _PROGRAMS[key]


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    return np.array_equal(np.asarray(a), np.asarray(b))


def compute_pack(sweep: pathlib.Path, pack: Sequence[Run]) -> None:
    """Computes runs in turns, until all have ended."""
    main = importlib.import_module(check.entry(pack[0].module)).main
    live = [Member(sweep, run, main) for run in pack]
    while live:
        for member in live:
            if member.waits_at is None or member.answer is not None:
                member.take_turn()
                member.answer = None
        live = [member for member in live if member.code is None]
        groups = collections.defaultdict(list)
        for member in live:
            assert member.waits_at is not None
            groups[member.waits_at[0].digest].append(member)
        if groups:
            compute_together(max(groups.values(), key=len))


if __name__ == "__main__":
    SWEEP, *NAMES = sys.argv[1:]
    LISTED = {run.name: run for run in runs.listed(pathlib.Path(SWEEP))}
    compute_pack(pathlib.Path(SWEEP), [LISTED[name] for name in NAMES])
