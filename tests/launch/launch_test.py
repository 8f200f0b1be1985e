"""Sweeps of an experiment of no time: launched, killed, stopped, and mistaken."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from launch import attempt, cluster, grid, plan, runs
from launch.runs import Run

ROOT = pathlib.Path(__file__).parents[2]
TINY = "tests.tiny_experiment"


def command(module, *words):
    return [sys.executable, "-m", f"launch.{module}", *map(str, words)]


def call(module, *words, **options):
    options = {"cwd": ROOT, "capture_output": True, "text": True} | options
    return subprocess.run(command(module, *words), timeout=300, **options)


@pytest.fixture
def sweep(tmp_path):
    """Writes a sweep file; returns the flags that launch it into `tmp_path/runs`."""

    def write(body):
        path = tmp_path / "planned.py"
        path.write_text(
            "from launch.grid import concatenation, each, product, together\n"
            f"def sweep():\n    return {body}\n"
        )
        workdir = tmp_path / "runs"
        return (f"--experiment={TINY}", f"--sweep={path}", f"--workdir={workdir}")

    return write


def finishes(folder):
    """How often each run was computed to its end, by its name."""
    paths = pathlib.Path(folder).glob("*/finishes.txt")
    return {path.parent.name: len(path.read_text().split()) for path in paths}


def records(folder):
    return {
        path.parent.name: json.loads(path.read_text())["records"]
        for path in pathlib.Path(folder).glob("*/result.json")
    }


def states(folder):
    listed = runs.listed(pathlib.Path(folder))
    return sorted(runs.states(pathlib.Path(folder), listed, {}).values())


# The algebra, and what a run is ------------------------------------------------------


def test_sweeps_are_closed_under_their_operations():
    seeds, rates = grid.each("seed", [0, 1]), grid.each("rate", [0.1, 0.2])
    assert grid.product(seeds, rates) == [
        {"seed": 0, "rate": 0.1},
        {"seed": 0, "rate": 0.2},
        {"seed": 1, "rate": 0.1},
        {"seed": 1, "rate": 0.2},
    ]
    pairs = [{"seed": 0, "rate": 0.1}, {"seed": 1, "rate": 0.2}]
    assert grid.together(seeds, rates) == pairs
    assert grid.concatenation(seeds, rates) == [*seeds, *rates]
    assert grid.product() == [{}]
    assert grid.product(grid.concatenation(pairs, []), grid.each("steps", [5])) == [
        pair | {"steps": 5} for pair in pairs
    ]


def test_sweeps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\[1, 2\] runs cannot go together"):
        grid.together(grid.each("seed", [0]), grid.each("rate", [1, 2]))
    for mix in (grid.product, grid.together):
        with pytest.raises(ValueError, match="--seed is set by two"):
            mix(grid.each("seed", [0]), grid.each("seed", [1]))


@pytest.mark.process
def test_a_run_is_its_flags_however_they_are_spelled():
    same = [{"seed": 1, "rate": 0.5}, {"rate": "5e-1", "seed": "1"}]
    names = {plan.checked(TINY, [element])[0].name for element in same}
    others = [{"seed": 1}, {"seed": 1, "rate": 0.25}, {"seed": 1, "losses": "rate=0.5"}]
    names |= {run.name for run in plan.checked(TINY, others)}
    assert len(names) == 1 + len(others)
    assert Run("other", ("--seed=1",)).name not in names


@pytest.mark.process
def test_flags_reach_the_experiment_as_typed():
    element = {"losses": ["a", "b"], "seed": 3, "defense": None}
    (run,) = plan.checked(TINY, [element])
    assert run.words == ("--losses=a", "--losses=b", "--seed=3")
    assert plan.checked(TINY, [{}])[0].words == ()


@pytest.mark.process
def test_numpy_numbers_are_typed_as_they_are_printed():
    element = {"seed": np.int64(3), "rate": np.float32(0.1), "losses": np.array(["a"])}
    (run,) = plan.checked(TINY, [element])
    assert run.words == ("--losses=a", "--rate=0.1", "--seed=3")


# Sweeps on this machine --------------------------------------------------------------


@pytest.mark.process
def test_a_sweep_skips_what_is_done_and_keeps_what_failed(sweep, tmp_path):
    flags = sweep(
        'concatenation(each("seed", [0, 1]),'
        ' each("mishap", ["error", "full_disk"]), each("steps", [2]))'
    )
    folder = tmp_path / "runs"
    ended = call("sweep", *flags, "--array_parallelism=2")
    assert ended.returncode == 1
    assert "3 done, 2 failed." in ended.stdout
    assert finishes(folder).keys() == records(folder).keys()
    assert set(finishes(folder).values()) == {1} and len(finishes(folder)) == 3

    shown = call("status", f"--workdir={folder}").stdout
    assert "3 done" in shown and "2 failed" in shown
    assert "refused: this run was told to fail" in shown
    assert "No space left on device" in shown

    again = call("sweep", *flags)
    assert again.returncode == 1 and "failed  " not in again.stdout
    assert set(finishes(folder).values()) == {1}
    logs = {path: path.read_text() for path in folder.glob("*/log.txt")}
    retried = call("sweep", *flags, "--retry_failed")
    assert "3 done, 2 failed." in retried.stdout
    grown = [p for p, text in logs.items() if len(p.read_text()) > len(text)]
    assert len(grown) == 2 and all(p.read_text().startswith(logs[p]) for p in grown)


def disturbed(flags, words, kills, longest):
    """Kills launchers with -9 at random moments, then lets one finish."""
    rng = random.Random(0)
    for _ in range(kills):
        process = subprocess.Popen(
            command("sweep", *flags, *words),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(0.5, longest))
        process.send_signal(signal.SIGKILL)
        process.wait()
    ended = call("sweep", *flags, *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "kills", "longest"),
    [
        (6, 3, 2.0),
        pytest.param(200, 10, 15.0, marks=pytest.mark.slow),
    ],
)
def test_launchers_killed_at_random_compute_all_once(
    sweep, tmp_path, number, kills, longest
):
    flags = sweep(f'product(each("seed", range({number})), each("pause", [0.1]))')
    words = ["--array_parallelism=2"]
    disturbed(flags, words, kills, longest)
    assert list(finishes(tmp_path / "runs").values()) == [1] * number
    whole = tmp_path / "whole"
    assert call("sweep", *flags, *words, f"--workdir={whole}").returncode == 0
    assert len(records(whole)) == number
    assert records(tmp_path / "runs") == records(whole)


@pytest.mark.process
def test_what_was_killed_resumes_from_its_checkpoint(sweep, tmp_path):
    flags = sweep('[{"steps": 8, "pause": 0.15}]')
    folder = tmp_path / "runs"
    process = subprocess.Popen(command("sweep", *flags), cwd=ROOT)
    wait_for(lambda: list(folder.glob("*/checkpoint.json")))
    (run,) = runs.listed(folder)
    worker = runs.attempts(folder / run.name)[-1]["pid"]
    subprocess.run(["kill", "-9", str(worker)], check=True)
    assert process.wait(timeout=60) == 1
    assert states(folder) == [runs.KILLED]
    assert "killed" in call("status", f"--workdir={folder}").stdout
    assert call("sweep", *flags).returncode == 0
    log = (folder / run.name / "log.txt").read_text()
    assert log.count("begins at step") == 2 and log.count("begins at step 0") == 1


def wait_for(condition, patience=60):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.mark.process
def test_a_second_launcher_leaves_and_cancel_stops_the_first(sweep, tmp_path):
    flags = sweep('product(each("seed", [0, 1]), each("pause", [20.0]))')
    folder = tmp_path / "runs"
    process = subprocess.Popen(
        command("sweep", *flags), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: list(folder.glob("*/log.txt")))
    second = call("sweep", *flags)
    assert second.returncode == 1
    assert second.stderr.startswith("error: Another launcher has")
    wait_for(lambda: runs.RUNNING in states(folder))
    ended = call("cancel", f"--workdir={folder}")
    assert "stopped the launcher" in ended.stdout
    _, errors = process.communicate(timeout=30)
    assert "Cancelled: give the same command to go on" in errors
    wait_for(lambda: runs.RUNNING not in states(folder))
    assert states(folder) == [runs.KILLED, runs.WAITING]
    assert "stopped 0 runs" in call("cancel", f"--workdir={folder}").stdout


@pytest.mark.process
def test_a_dry_run_tells_the_runs_and_the_cost_and_does_nothing(sweep, tmp_path):
    flags = sweep('product(each("seed", [0, 1, 2]), each("defense", ["none"]))')
    words = ("--dry_run", "--timeout_min=30", "--gpus_per_node=4")
    ended = call("sweep", *flags, *words)
    assert ended.stdout.count("waiting") == 3 and "defense=none seed=2" in ended.stdout
    assert "3 of 3 runs to do: at most 1.5 hours" in ended.stdout
    assert "6.0 GPU hours" in ended.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.process
def test_a_damaged_result_is_made_again(sweep, tmp_path):
    flags = sweep('[{"seed": 1}]')
    assert call("sweep", *flags).returncode == 0
    (path,) = (tmp_path / "runs").glob("*/result.json")
    whole = path.read_text()
    path.write_text(whole[:30])
    assert states(tmp_path / "runs") == [runs.DAMAGED]
    assert call("sweep", *flags).returncode == 0
    assert path.read_text() == whole


# Mistakes ----------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.parametrize(
    ("experiment", "body", "message"),
    [
        (TINY, '[{"step": 3}]', "Unknown command line flag 'step'"),
        (TINY, '[{"seed": 1}, {"seed": "x"}]', "run 1 of the sweep, {'seed': 'x'}"),
        (TINY, '[{"defense": "all"}]', "'all'"),
        (TINY, '[{"workdir": "/"}]', "--workdir is for the sweep to choose"),
        (TINY, '[{"rate": 0.1}, {"rate": "1e-1"}]', "Runs 0 and 1 of the sweep are"),
        (TINY, "1 / 0", "line 3 raised ZeroDivisionError: division by zero"),
        (TINY, "together([], [{}])", "line 3 raised ValueError: sweeps of [0, 1]"),
        (TINY, "[]", "it must return a list of dictionaries"),
        (TINY, "{'seed': 1}", "it must return a list of dictionaries"),
        (TINY, '[{"seed": print}]', "no number, text or list"),
        ("nothing", "[{}]", "there is no experiment experiments.nothing"),
        ("json.tool", "[{}]", "json.tool has no --workdir"),
    ],
)
def test_a_mistake_in_a_sweep_is_one_line(sweep, tmp_path, experiment, body, message):
    flags = sweep(body)
    ended = call("sweep", *flags, f"--experiment={experiment}")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert message in ended.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.process
def test_other_mistakes_are_one_line(sweep, tmp_path):
    flags = sweep("[{}]")
    for words, message in (
        (("sweep", *flags, "--sweep=nowhere.py"), "there is no such file"),
        (("sweep", *flags, "seed=1"), "'seed=1' is no flag"),
        (("sweep", *flags, f"--workdir={tmp_path}/50%j"), "50%j holds a %"),
        (("status", f"--workdir={tmp_path}"), "holds no sweep.json"),
        (("cancel", f"--workdir={tmp_path}"), "holds no sweep.json"),
    ):
        ended = call(*words)
        assert ended.returncode == 1
        assert ended.stderr.startswith("error: ") and message in ended.stderr
        assert ended.stderr.count("\n") == 1
    (tmp_path / "planned.py").write_text("runs = []\n")
    assert "has no function `sweep`" in call("sweep", *flags).stderr


@pytest.mark.process
def test_an_absent_or_silent_slurm_is_said_in_one_line(sweep, tmp_path, monkeypatch):
    flags = sweep("[{}]")
    ended = call("sweep", *flags, "--executor=slurm", env={"PATH": str(tmp_path)})
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert "error: Slurm is not reachable from here: there is no" in ended.stderr
    squeue = tmp_path / "squeue"
    squeue.write_text(
        "#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1"
    )
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ValueError, match="Unable to contact slurm controller"):
        cluster.jobs()
    squeue.write_text("#!/bin/sh\nsleep 30")
    monkeypatch.setattr(cluster, "_PATIENCE", 0.2)
    with pytest.raises(ValueError, match="got no answer in"):
        cluster.jobs()


# One run's folder --------------------------------------------------------------------


@pytest.mark.process
def test_a_lock_is_one_process_at_a_time_and_ends_with_it(tmp_path):
    path = tmp_path / "lock"
    hold = (
        "import pathlib, sys, time; from launch import runs\n"
        "with runs.held(pathlib.Path(sys.argv[1])) as lock:\n"
        "    print(lock is not None, flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", hold, str(path)]
    assert not runs.is_held(path)
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "True\n"
        assert runs.is_held(path)
        with runs.held(path) as lock:
            assert lock is None
        holder.kill()
    assert not runs.is_held(path)
    with runs.held(path) as lock:
        assert lock is not None


@pytest.mark.process
def test_a_job_does_not_do_what_is_done_or_being_done(tmp_path, capsys):
    done, busy = Run(TINY, ("--seed=1",)), Run(TINY, ("--seed=2",))
    for run in (done, busy):
        (tmp_path / run.name).mkdir()
    result = {"experiment": "tiny", "flags": {}, "records": []}
    (tmp_path / done.name / "result.json").write_text(json.dumps(result))
    words = [
        sys.executable,
        "-c",
        "import fcntl, sys, time; file = open(sys.argv[1], 'a');"
        "fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); time.sleep(60)",
        str(tmp_path / busy.name / "lock"),
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        attempt.Attempt(tmp_path, done)()
        attempt.Attempt(tmp_path, busy)()
        holder.kill()
    printed = capsys.readouterr().out
    assert f"{done.name} is done" in printed
    assert f"{busy.name} is computed by another process" in printed
    assert runs.attempts(tmp_path / busy.name) == []


def test_what_a_crash_cut_short_is_read_up_to_there(tmp_path):
    assert runs.attempts(tmp_path) == []
    runs.begin(tmp_path)
    runs.end(tmp_path, -9, 1.0)
    with (tmp_path / "attempts.jsonl").open("a") as file:
        file.write('{"begun": "20')
    assert [line.get("code") for line in runs.attempts(tmp_path)] == [None, -9]
    assert runs.state(tmp_path) == runs.KILLED
