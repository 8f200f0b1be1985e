"""Slurm: what it says of our jobs, and how a sweep is submitted to it (submitit)."""

import pathlib
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from launch.attempt import Attempt

_PATIENCE = 60  # seconds for an answer
_TIMEOUTS = 20  # times that a job that ran out of time is queued again, to resume
_LARGEST_ARRAY = 1000  # where Slurm does not say


def ask(*command: str) -> str:
    """Returns what a command of Slurm prints.

    Raises:
      ValueError: if it is not installed, or the controller does not answer.
    """
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE
        )
    except FileNotFoundError:
        raise ValueError(
            f"Slurm is not reachable from here: there is no `{command[0]}`. Launch on "
            "a login node, or with --executor=local."
        ) from None
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"Slurm is not reachable from here: `{command[0]}` got no answer in "
            f"{_PATIENCE} s. Ask again when the controller is up (`scontrol ping`)."
        ) from None
    if ended.returncode != 0:
        last = (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1:]
        raise ValueError(
            f"Slurm refuses or is not reachable: `{command[0]}` says {last}. See "
            "`scontrol ping`."
        )
    return ended.stdout


def jobs() -> dict[str, str]:
    """The state of each of the user's jobs that Slurm still has, by its id."""
    printed = ask("squeue", "--noheader", "--array", "--me", "--format=%i %T")
    return dict(line.split() for line in printed.splitlines())


def cancel(jobs: Sequence[str]) -> None:
    """Cancels jobs."""
    if jobs:
        ask("scancel", *jobs)


def submit(
    sweep: pathlib.Path,
    attempts: Sequence[Attempt],
    options: Mapping[str, Any],
    additional: Mapping[str, Any],
    parallelism: int,
) -> list[str]:
    """Submits one array, or several where Slurm's largest is too small.

    Args:
      sweep: its folder, on a disk that the nodes share.
      attempts: a task each.
      options: of submitit's Slurm executor.
      additional: options of sbatch.
      parallelism: tasks at a time, over all arrays.

    Returns:
      The job of each attempt.

    Raises:
      ValueError: if Slurm refuses the jobs.
    """
    said = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"))
    largest = int(said[1]) - 1 if said else _LARGEST_ARRAY
    arrays = -(-len(attempts) // largest)
    executor = submitit.SlurmExecutor(
        folder=sweep / "jobs" / "%A", max_num_timeout=_TIMEOUTS
    )
    executor.update_parameters(
        array_parallelism=max(1, parallelism // arrays),
        additional_parameters={"requeue": True} | dict(additional),
        **options,
    )
    found = []
    try:
        for first in range(0, len(attempts), largest):
            some = attempts[first : first + largest]
            found += [job.job_id for job in executor.submit_array(some)]
    except (FailedJobError, FailedSubmissionError) as error:
        lines = [line for line in str(error).splitlines() if "error" in line.lower()]
        raise ValueError(f"Slurm refuses the jobs: {(lines or [error])[-1]}") from None
    return found
