"""Stops a sweep: its launcher, its runs on this machine, and its jobs on Slurm.

    python -m launch.cancel --workdir=runs/NAME

What is done stays; what was stopped resumes when the sweep is launched again.
"""

import pathlib
import sys

from absl import app, flags

from launch import cluster, runs, status


def cancel(sweep: pathlib.Path) -> str:
    """Stops everything, and says what.

    Raises:
      ValueError: if the folder is no sweep's, or Slurm cannot be asked.
    """
    listed = runs.listed(sweep)
    launcher = runs.interrupt(sweep / "launcher.lock")
    here = sum(runs.interrupt(sweep / run.name / "lock") for run in listed)
    queued = status.queue(sweep)
    mine = dict.fromkeys(runs.jobs(sweep).values())
    jobs = [job for job in mine if job in queued]
    cluster.cancel(jobs)
    first = "the launcher, " if launcher else ""
    return f"stopped {first}{here} runs on this machine and {len(jobs)} Slurm jobs."


def main(arguments: list[str]) -> None:
    """Stops the sweep in `--workdir`."""
    del arguments
    try:
        print(cancel(pathlib.Path(flags.FLAGS.workdir).expanduser()))
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Folder of the sweep.", required=True)
    app.run(main)
