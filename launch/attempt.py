"""What a job does: it computes those of its runs that are not done and not being done.

The experiment is a process of its own, so that this one can tell how it ended, pass a
cluster's warning on, and outlive its crash.
"""

import contextlib
import ctypes
import dataclasses
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from submitit.helpers import DelayedSubmission

from launch import runs
from launch.runs import Run


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A job's callable; submitit pickles it, and submits it again after preemption.

    Attributes:
      sweep: the sweep's folder.
      pack: the runs to compute, in one process if they are several.
    """

    sweep: pathlib.Path
    pack: tuple[Run, ...]

    def checkpoint(self) -> DelayedSubmission:
        """What to submit when the job is preempted: the same, it resumes by itself."""
        return DelayedSubmission(self)

    def __call__(self) -> None:
        """Computes the runs."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.ExitStack() as stack:
            mine, locks = [], []
            for run in self.pack:
                folder = self.sweep / run.name
                folder.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(runs.held(folder / "lock"))
                if lock is None:
                    print(f"{run.name} is computed by another process", flush=True)
                elif runs.is_done(folder):
                    print(f"{run.name} is done", flush=True)
                else:
                    mine.append(run)
                    locks.append(lock)
            if len(mine) == 1:
                folder = self.sweep / mine[0].name
                with (folder / "log.txt").open("a") as log:
                    self._compute(mine, mine[0].command(self.sweep), log, locks)
            elif mine:
                names = [run.name for run in mine]
                module = "launch.pack"
                command = [sys.executable, "-m", module, str(self.sweep), *names]
                self._compute(mine, command, None, locks)

    def _compute(
        self,
        mine: Sequence[Run],
        command: Sequence[str],
        log: TextIO | None,
        locks: Sequence[TextIO],
    ) -> None:
        folders = [self.sweep / run.name for run in mine]
        for folder in folders:
            runs.begin(folder)
        start = time.monotonic()
        code = -signal.SIGKILL
        try:
            code = _call(command, log, locks)
        finally:
            for folder in folders:
                if "begun" in runs.attempts(folder)[-1]:  # A pack's runs end apart.
                    runs.end(folder, code, time.monotonic() - start)


def _call(command: Sequence[str], log: TextIO | None, locks: Sequence[TextIO]) -> int:
    """Runs a command that inherits the locks and dies with this process."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=None if log is None else subprocess.STDOUT,
        pass_fds=[lock.fileno() for lock in locks],
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    ) as process:
        try:
            return process.wait()
        except BaseException:
            process.kill()
            raise


def _die_with_parent() -> None:
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
