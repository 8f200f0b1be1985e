"""One run of a sweep: its folder, who computes it, and how it ended.

A run is a module and the flags it is given, as they are typed. A hash of both names its
folder, so a run that two sweeps share, or that one sweep is asked for twice, is the
same run. In its folder lie

- what the experiment writes, `result.json` last: it is done where that can be read;
- `log.txt`: all that it printed, of every attempt;
- `attempts.jsonl`: a line where an attempt began, and one where it ended;
- `lock`: held by the process that computes it, so that no two do, whoever starts them.
"""

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

_DIGITS = 12  # of the hash: 10,000 runs share none by chance (1e-7)
_PATIENCE = 10  # tries at a lock, a tenth of a second apart: a look at it is shorter

DONE, RUNNING, QUEUED, WAITING = "done", "running", "queued", "waiting"
FAILED, KILLED, DAMAGED = "failed", "killed", "damaged"
STATES = DONE, RUNNING, QUEUED, WAITING, KILLED, DAMAGED, FAILED


class Run(NamedTuple):
    """A module and its flags.

    Attributes:
      module: run as `python -m module`.
      words: `--name=value`, sorted.
    """

    module: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """The hash that names the run's folder."""
        text = json.dumps([self.module, sorted(self.words)])
        return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]

    def command(self, sweep: pathlib.Path) -> list[str]:
        """The words that run it alone."""
        workdir = f"--workdir={sweep / self.name}"
        return [sys.executable, "-m", self.module, workdir, *self.words]

    def __str__(self) -> str:
        """The flags, without their dashes."""
        return " ".join(word.removeprefix("--") for word in self.words) or "(no flags)"


def result(folder: pathlib.Path) -> dict[str, Any]:
    """Reads the `result.json` of a folder.

    Raises:
      ValueError: if it is not a result: truncated, say.
      FileNotFoundError: if there is none.
    """
    path = folder / "result.json"
    try:
        read = json.loads(path.read_text())
        return {name: read[name] for name in ("experiment", "flags", "records")} | read
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a result ({error}): launch the sweep again to make it anew."
        ) from error


def is_done(folder: pathlib.Path) -> bool:
    """Whether a folder holds a result that can be read."""
    try:
        return bool(result(folder))
    except (ValueError, FileNotFoundError):
        return False


def state(folder: pathlib.Path) -> str:
    """Which of `STATES` a run's folder is in; `QUEUED` is for its executor to say."""
    try:
        result(folder)
        return DONE
    except FileNotFoundError:
        rest = WAITING
    except ValueError:
        rest = DAMAGED
    if is_held(folder / "lock"):
        return RUNNING
    lines = attempts(folder)
    if rest == DAMAGED or not lines:
        return rest
    return FAILED if lines[-1].get("code", -1) >= 0 else KILLED


def attempts(folder: pathlib.Path) -> list[dict[str, Any]]:
    """What was written down of all attempts; a line cut short by a crash is skipped."""
    try:
        lines = (folder / "attempts.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    read = []
    for line in lines:
        with contextlib.suppress(ValueError):
            read.append(json.loads(line))
    return read


def last_line(folder: pathlib.Path) -> str:
    """The last line of a run's log that says anything."""
    try:
        lines = (folder / "log.txt").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "(no log)"
    return next((line.strip() for line in reversed(lines) if line.strip()), "(no log)")


def begin(folder: pathlib.Path) -> None:
    """Writes down that this process begins an attempt."""
    job = os.environ.get("SLURM_JOB_ID", "")
    _note(folder, begun=_now(), host=socket.gethostname(), pid=os.getpid(), job=job)


def end(folder: pathlib.Path, code: int, seconds: float) -> None:
    """Writes down how an attempt ended; a negative code is that of a signal."""
    _note(folder, ended=_now(), code=code, seconds=round(seconds, 2))


def _note(folder: pathlib.Path, **line: Any) -> None:
    # One write to a file opened for appending: lines of two processes do not mix.
    text = json.dumps(line) + "\n"
    try:
        with (folder / "attempts.jsonl").open("a") as file:
            file.write(text)
    except OSError as error:  # A full disk must not take the other runs along.
        print(f"{folder}: {error}; not written: {text}", file=sys.stderr, flush=True)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


@contextlib.contextmanager
def held(path: pathlib.Path) -> Iterator[TextIO | None]:
    """Holds a lock, or yields None where another process holds it.

    The lock ends with the process that holds it and with all that inherit the file, so
    none is left over after a crash.
    """
    with path.open("a+") as file:
        for attempt in range(_PATIENCE):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if attempt < _PATIENCE - 1:
                    time.sleep(0.1)
                continue
            file.truncate(0)
            file.write(f"{os.getpid()} {socket.gethostname()}")
            file.flush()
            yield file
            return
        yield None


def is_held(path: pathlib.Path) -> bool:
    """Whether a process holds a lock."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def interrupt(path: pathlib.Path) -> bool:
    """Asks the process of this machine that holds a lock to stop; whether it could."""
    if not is_held(path):
        return False
    pid, _, host = path.read_text().partition(" ")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), signal.SIGINT)
    except ProcessLookupError:
        return False
    return True


def listed(sweep: pathlib.Path) -> list[Run]:
    """Every run that a sweep's folder was ever launched with.

    Raises:
      ValueError: if there was none.
    """
    try:
        read = json.loads((sweep / "sweep.json").read_text())
    except FileNotFoundError:
        raise ValueError(
            f"{sweep} holds no sweep.json: name the --workdir of a sweep."
        ) from None
    return [Run(run["module"], tuple(run["words"])) for run in read]


def add(sweep: pathlib.Path, runs: Sequence[Run]) -> None:
    """Adds runs to those that a sweep's folder lists."""
    path = sweep / "sweep.json"
    known = listed(sweep) if path.is_file() else []
    every: dict[Run, None] = dict.fromkeys([*known, *runs])
    lines = [{"run": run.name} | run._asdict() for run in every]
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(lines, indent=1) + "\n")
    partial.replace(path)


def jobs(sweep: pathlib.Path) -> dict[str, str]:
    """The last Slurm job that was submitted for each run, by the run's name."""
    try:
        lines = (sweep / "jobs.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(json.loads(line) for line in lines)


def submitted(sweep: pathlib.Path, new: Mapping[str, str]) -> None:
    """Writes down which job was submitted for which run."""
    with (sweep / "jobs.jsonl").open("a") as file:
        file.writelines(json.dumps(pair) + "\n" for pair in new.items())


def states(
    sweep: pathlib.Path, some: Sequence[Run], queue: Mapping[str, str]
) -> dict[Run, str]:
    """The state of each run; one whose job is in Slurm's queue is queued."""
    submitted = jobs(sweep)

    def current(run: Run) -> str:
        found = state(sweep / run.name)
        queued = submitted.get(run.name) in queue
        return QUEUED if queued and found not in (DONE, RUNNING) else found

    return {run: current(run) for run in some}
