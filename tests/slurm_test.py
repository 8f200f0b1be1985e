"""Sweeps on a real Slurm: a cluster of one node, started here (see `.ci/slurm`)."""

import os
import pathlib
import subprocess
import sys
import time

import devices_test
import one_node_slurm
import pytest

from launch import runs

pytestmark = [pytest.mark.slurm, pytest.mark.process]
ROOT = pathlib.Path(__file__).parents[1]
TINY = "tests.tiny_experiment"


@pytest.fixture(scope="module")
def cluster():
    if lacks := one_node_slurm.missing():
        pytest.fail(lacks)
    with one_node_slurm.running() as started:
        yield started


@pytest.fixture
def sweep(cluster, tmp_path):
    """Launches `count` runs of `seconds` each; returns the folder and the command."""

    def launch(count, seconds, *words):
        path = tmp_path / "planned.py"
        path.write_text(
            "from launch.grid import each, product\n"
            "def sweep():\n"
            f"    slow = [{{'steps': 10, 'pause': {seconds / 10}}}]\n"
            f"    return product(each('seed', range({count})), slow)\n"
        )
        folder = tmp_path / "runs"
        flags = (f"--experiment={TINY}", f"--sweep={path}", f"--workdir={folder}")
        return folder, ("sweep", *flags, "--executor=slurm", "--timeout_min=5", *words)

    return launch


@pytest.fixture
def call(cluster):
    def command(module, *words):
        return subprocess.run(
            [sys.executable, "-m", f"launch.{module}", *map(str, words)],
            cwd=ROOT,
            env=os.environ | cluster.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return command


def wait_for(condition, patience=240):
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


def begun(folder, steps):
    """A run that is being computed and has taken some steps, if there is one."""
    for run in runs.listed(folder):
        path = folder / run.name / "checkpoint.json"
        if path.is_file() and runs.state(folder / run.name) == runs.RUNNING:
            step = int(path.read_text().strip("[").partition(",")[0])
            if steps <= step < 9:
                return run
    return None


def all_done(folder):
    every = runs.listed(folder)
    return all(runs.state(folder / run.name) == runs.DONE for run in every)


def finishes(folder):
    paths = folder.glob("*/finishes.txt")
    return [len(path.read_text().split()) for path in paths]


def test_an_array_outlives_a_killed_task_and_a_restarted_node(cluster, sweep, call):
    folder, command = sweep(8, 4.0)
    ended = call(*command)
    assert ended.returncode == 0, ended.stderr
    assert "8 runs submitted" in ended.stdout
    again = call(*command)
    assert "0 runs submitted" in again.stdout, again.stdout + again.stderr

    killed = wait_for(lambda: begun(folder, 3))
    job = runs.jobs(folder)[killed.name]
    cluster.call("scancel", "--signal=KILL", job)
    wait_for(lambda: runs.state(folder / killed.name) == runs.KILLED)
    cluster.call("scontrol", "requeue", job)

    wait_for(lambda: begun(folder, 2))
    cluster.stop("slurmd")
    shown = call("status", f"--workdir={folder}").stdout
    assert "queued" in shown
    time.sleep(2)
    cluster.start_node()

    wait_for(lambda: all_done(folder))
    assert finishes(folder) == [1] * 8
    log = (folder / killed.name / "log.txt").read_text().splitlines()
    assert log[0] == "begins at step 0"
    assert len(log) == 2 and int(log[1].split()[-1]) >= 3
    wait_for(lambda: runs.attempts(folder / killed.name)[-1].get("code") == 0)
    assert "8 done" in call("status", f"--workdir={folder}").stdout
    assert "0 runs submitted" in call(*command).stdout


def test_a_preempted_run_is_queued_again_and_resumes(cluster, sweep, call):
    folder, command = sweep(1, 5.0)
    assert call(*command).returncode == 0
    run = wait_for(lambda: begun(folder, 2))
    # What Slurm sends before it takes a node back.
    job = runs.jobs(folder)[run.name]
    cluster.call("scancel", "--signal=USR2", job)
    wait_for(lambda: all_done(folder))
    log = (folder / run.name / "log.txt").read_text().splitlines()
    assert len(log) == 2 and int(log[1].split()[-1]) >= 2
    assert finishes(folder) == [1]


def test_cancelled_jobs_leave_the_queue_and_resume_when_launched(cluster, sweep, call):
    folder, command = sweep(4, 3.0)
    assert call(*command).returncode == 0
    wait_for(lambda: begun(folder, 2))
    ended = call("cancel", f"--workdir={folder}")
    assert "4 Slurm jobs" in ended.stdout, ended.stdout + ended.stderr
    wait_for(lambda: not cluster.call("squeue", "--noheader").stdout)
    assert not all_done(folder)
    assert "4 runs submitted" in call(*command, "--array_parallelism=2").stdout
    wait_for(lambda: all_done(folder))
    assert finishes(folder) == [1] * 4


def test_what_slurm_refuses_is_said_in_one_line(sweep, call):
    _, command = sweep(2, 0.1, "--partition=nowhere")
    ended = call(*command)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]  # sbatch has spoken before
    assert last.startswith("error: Slurm refuses the jobs") and "partition" in last


def test_two_processes_find_what_one_does(cluster, tmp_path):
    one = devices_test.found_by_one()
    case = pathlib.Path(__file__).with_name("devices_case.py")
    command = [sys.executable, str(case), str(tmp_path / "found.npz"), "distributed"]
    ended = subprocess.run(
        ["srun", "--ntasks=2", "--overcommit", *command],
        env=os.environ
        | cluster.environment
        | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    assert "process 0 of 2" in ended.stdout and "process 1 of 2" in ended.stdout
    devices_test.check_found(tmp_path / "found.npz", one, devices=2, processes=2)
