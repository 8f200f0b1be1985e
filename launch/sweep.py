r"""Launches a sweep: an experiment once for each of a list of flags, here or on Slurm.

    python -m launch.sweep --experiment=zhang2020_gmi --sweep=launch/sweeps/gmi_seeds.py
    python -m launch.sweep --experiment=zhang2020_gmi \
      --sweep=launch/sweeps/gmi_seeds.py \
      --executor=slurm --partition=gpu --gpus_per_node=1 --timeout_min=120
    python -m launch.status --workdir=runs/gmi_seeds
    python -m launch.collect --workdir=runs/gmi_seeds

A sweep file holds a function `sweep` that returns a list of dictionaries of flags; see
`launch.grid`. Give the same command again after anything: what is done is skipped, what
runs or waits in a queue is left alone, what was killed resumes, and what failed stays
as it is, with its log, unless `--retry_failed`. A run's folder is named by a hash of
its flags, so a sweep may grow. Here, the launcher stays until all have ended; if it is
killed, those that run go on. On Slurm it submits arrays and leaves.
"""

import collections
import pathlib
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import submitit
import tqdm
from absl import app, flags

from launch import cluster, plan, runs
from launch.attempt import Attempt
from launch.runs import Run

_LOOK = 0.2  # seconds between two looks at the jobs of this machine

_EXPERIMENT = flags.DEFINE_string(
    "experiment",
    None,
    "NAME of experiments.NAME, or any module with such flags.",
    required=True,
)
_SWEEP = flags.DEFINE_string(
    "sweep", None, "A Python file with a function `sweep`.", required=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder; default: runs/SWEEP.")
_EXECUTOR = flags.DEFINE_enum("executor", "local", ["local", "slurm"], "Where to run.")
_PARALLELISM = flags.DEFINE_integer(
    "array_parallelism",
    None,
    "Jobs at a time; default: 1 locally, 256 on Slurm.",
    lower_bound=1,
)
_GPUS = flags.DEFINE_integer("gpus_per_node", 0, "GPUs of a job.", lower_bound=0)
_PARTITION = flags.DEFINE_string(
    "partition", None, "Slurm partition; default: Slurm's own."
)
_MINUTES = flags.DEFINE_integer(
    "timeout_min", 240, "Minutes of a job, after which it is stopped.", lower_bound=1
)
_SLURM = flags.DEFINE_multi_string("slurm", [], "An option of sbatch: account=mine.")
_RETRY = flags.DEFINE_bool("retry_failed", False, "Run again what has failed.")
_DRY = flags.DEFINE_bool("dry_run", False, "Print the runs and what they would cost.")


def launch() -> bool:
    """Launches the sweep; whether no run has failed.

    Raises:
      ValueError: if the sweep or a flag of it is wrong, or if another launcher has it.
    """
    file = pathlib.Path(_SWEEP.value).expanduser()
    sweep = pathlib.Path(_WORKDIR.value or f"runs/{file.stem}").expanduser().resolve()
    if "%" in str(sweep):
        raise ValueError(
            f"--workdir={sweep} holds a %, which Slurm would replace in the names of "
            "its logs: choose a folder without one."
        )
    planned = plan.checked(_EXPERIMENT.value, plan.elements(file))
    queue = cluster.jobs() if _EXECUTOR.value == "slurm" else {}
    if _DRY.value:
        describe(sweep, planned, runs.states(sweep, planned, queue))
        return True
    sweep.mkdir(parents=True, exist_ok=True)
    with runs.held(sweep / "launcher.lock") as lock:
        if lock is None:
            raise ValueError(
                f"Another launcher has {sweep}: it goes on, this one leaves. "
                f"See `python -m launch.status --workdir={sweep}`."
            )
        runs.add(sweep, planned)
        if _EXECUTOR.value == "slurm":
            return on_slurm(sweep, planned, queue)
        return here(sweep, planned)


def _todo(states: Mapping[Run, str]) -> list[Run]:
    ready = {runs.WAITING, runs.KILLED, runs.DAMAGED}
    if _RETRY.value:
        ready.add(runs.FAILED)
    return [run for run, state in states.items() if state in ready]


def describe(
    sweep: pathlib.Path, planned: Sequence[Run], now: Mapping[Run, str]
) -> None:
    """Prints the runs, and what those that are left would cost."""
    for run in planned:
        print(f"{run.name}  {now[run]:8}  {run}")
    left = len(_todo(now))
    hours = left * _MINUTES.value / 60
    cost = f"{left} of {len(now)} runs to do"
    cost += f": at most {hours:,.1f} hours of jobs (--timeout_min={_MINUTES.value})"
    if _GPUS.value:
        cost += f", {hours * _GPUS.value:,.1f} GPU hours"
    took = [
        line["seconds"]
        for run, state in now.items()
        if state == runs.DONE
        for line in runs.attempts(sweep / run.name)
        if line.get("code") == 0
    ]
    if took:
        mean = sum(took) / len(took)
        each = f"{mean:.1f} s a run, as the {len(took)} that are done took"
        cost += f"; about {mean * left / 3600:,.2f} hours at {each}"
    print(cost + ".")


def on_slurm(
    sweep: pathlib.Path, planned: Sequence[Run], queue: Mapping[str, str]
) -> bool:
    """Submits what is neither done nor queued, and leaves."""
    now = runs.states(sweep, planned, queue)
    todo = _todo(now)
    options: dict[str, Any] = {"time": _MINUTES.value, "job_name": sweep.name}
    options |= {"partition": _PARTITION.value} if _PARTITION.value else {}
    options |= {"gpus_per_node": _GPUS.value} if _GPUS.value else {}
    pairs = (option.partition("=") for option in _SLURM.value)
    additional = {name: value if equals else True for name, equals, value in pairs}
    if todo:
        attempts = [Attempt(sweep, run) for run in todo]
        parallelism = _PARALLELISM.value or 256
        jobs = cluster.submit(sweep, attempts, options, additional, parallelism)
        submitted = {run.name: job for run, job in zip(todo, jobs, strict=True)}
        runs.submitted(sweep, submitted)
    counts = collections.Counter(now.values())
    before = ", ".join(f"{number} {state}" for state, number in counts.items())
    print(f"{len(todo)} runs submitted; were: {before}.")
    print(f"python -m launch.status --workdir={sweep}")
    return runs.FAILED not in counts


def here(sweep: pathlib.Path, planned: Sequence[Run]) -> bool:
    """Runs what is not done on this machine, and waits for it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    slots = _PARALLELISM.value or 1
    now = runs.states(sweep, planned, {})
    waiting = collections.deque(_todo(now))
    of_others = [run for run, state in now.items() if state == runs.RUNNING]
    active: dict[int, tuple[submitit.Job[None], Run]] = {}
    bar = tqdm.tqdm(total=len(now), unit="run", disable=None)
    bar.update(sum(state == runs.DONE for state in now.values()))

    def report(run: Run) -> None:
        folder = sweep / run.name
        state = runs.state(folder)
        bar.update(state == runs.DONE)
        detail = f": {runs.last_line(folder)}" if state == runs.FAILED else ""
        tqdm.tqdm.write(f"{state:8}  {run.name}  {run}{detail}")

    try:
        while waiting or active or of_others:
            for slot, (job, run) in list(active.items()):
                if job.done():
                    del active[slot]
                    if runs.state(sweep / run.name) == runs.RUNNING:
                        of_others.append(run)  # It had begun before this launcher.
                    else:
                        report(run)
            for run in list(of_others):
                if (state := runs.state(sweep / run.name)) != runs.RUNNING:
                    of_others.remove(run)
                    if state in (runs.DONE, runs.FAILED):
                        report(run)
                    else:
                        waiting.append(run)
            free = [slot for slot in range(slots) if slot not in active]
            for slot in free[: max(0, slots - len(active) - len(of_others))]:
                if waiting:
                    run = waiting.popleft()
                    active[slot] = submit_here(sweep, run, slot), run
            sys.stdout.flush()
            time.sleep(_LOOK)
    except KeyboardInterrupt:
        for _, run in active.values():
            runs.interrupt(sweep / run.name / "lock")
        raise ValueError(
            "Cancelled: give the same command to go on from here."
        ) from None
    finally:
        bar.close()
    counts = collections.Counter(runs.states(sweep, planned, {}).values())
    print(", ".join(f"{number} {state}" for state, number in counts.items()) + ".")
    return counts[runs.DONE] == len(planned)


def submit_here(sweep: pathlib.Path, run: Run, slot: int) -> submitit.Job[None]:
    """Starts a job on this machine, with the GPUs of its slot."""
    executor = submitit.LocalExecutor(folder=sweep / run.name / "job")
    gpus = _GPUS.value
    executor.update_parameters(
        timeout_min=_MINUTES.value,
        gpus_per_node=gpus,
        visible_gpus=list(range(slot * gpus, (slot + 1) * gpus)),
    )
    return executor.submit(Attempt(sweep, run))


def main(arguments: list[str]) -> None:
    """Launches what the command line describes; a mistake ends in one line."""
    try:
        if arguments[1:]:
            raise ValueError(f"{arguments[1]!r} is no flag: sweeps are Python files.")
        ended_well = launch()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    sys.exit(0 if ended_well else 1)


if __name__ == "__main__":
    app.run(main)
