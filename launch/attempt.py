"""What a job does: it computes its run, unless that is done or being done.

The experiment is a process of its own, so that this one can tell how it ended, pass a
cluster's warning on, and outlive its crash.
"""

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
      run: what to compute, in a process of its own.
    """

    sweep: pathlib.Path
    run: Run

    def checkpoint(self) -> DelayedSubmission:
        """What to submit when the job is preempted: the same, it resumes by itself."""
        return DelayedSubmission(self)

    def __call__(self) -> None:
        """Computes the run."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        folder = self.sweep / self.run.name
        folder.mkdir(parents=True, exist_ok=True)
        with runs.held(folder / "lock") as lock:
            if lock is None:
                print(f"{self.run.name} is computed by another process", flush=True)
            elif runs.is_done(folder):
                print(f"{self.run.name} is done", flush=True)
            else:
                self._compute(folder, lock)

    def _compute(self, folder: pathlib.Path, lock: TextIO) -> None:
        runs.begin(folder)
        start = time.monotonic()
        code = -signal.SIGKILL
        try:
            with (folder / "log.txt").open("a") as log:
                code = _call(self.run.command(self.sweep), log, lock)
        finally:
            runs.end(folder, code, time.monotonic() - start)


def _call(command: Sequence[str], log: TextIO, lock: TextIO) -> int:
    """Runs a command that inherits the lock and dies with this process."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=[lock.fileno()],
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
