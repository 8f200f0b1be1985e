"""Shows how the runs of a sweep stand, and the last line of each failure.

python -m launch.status --workdir=runs/NAME
"""

import collections
import pathlib
import sys
from collections.abc import Mapping

from absl import app, flags

from launch import cluster, runs
from launch.runs import Run


def queue(sweep: pathlib.Path) -> dict[str, str]:
    """The user's jobs on Slurm, if any run of the sweep was ever submitted to it."""
    return cluster.jobs() if runs.jobs(sweep) else {}


def text(sweep: pathlib.Path, states: Mapping[Run, str]) -> str:
    """The counts, then a line for each run that needs a look."""
    counts = collections.Counter(states.values())
    lines = [
        f"{sweep}: {len(states)} runs",
        *(f"  {counts[state]:6,} {state}" for state in runs.STATES if counts[state]),
    ]
    for run, state in states.items():
        if state in (runs.FAILED, runs.KILLED, runs.DAMAGED):
            folder = sweep / run.name
            lines += [f"{state}: {folder}  {run}", f"    {runs.last_line(folder)}"]
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Prints the state of `--workdir`."""
    del arguments
    sweep = pathlib.Path(flags.FLAGS.workdir).expanduser()
    try:
        listed = runs.listed(sweep)
    except ValueError as error:
        sys.exit(f"error: {error}")
    try:
        jobs = queue(sweep)
    except ValueError as error:
        print(f"{error} What is queued there is shown as waiting.", file=sys.stderr)
        jobs = {}
    print(text(sweep, runs.states(sweep, listed, jobs)))


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Folder of the sweep.", required=True)
    app.run(main)
