"""Runs computed as one program: the same results, each with its own fate."""

import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch import pack, runs
from launch.runs import Run

ROOT = pathlib.Path(__file__).parents[2]
PACKED = "tests.packed_experiment"
# Sums of a batched product may be taken in another order.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def test_a_program_is_the_same_whatever_its_numbers():
    def scaled(number, closed_over, literal):
        return pack.trace(lambda x: literal * x + closed_over, (number,))

    one = scaled(jnp.float32(1), jnp.arange(3.0), 2.0)
    other = scaled(jnp.float32(5), jnp.arange(3.0) + 1, 2.0)
    assert one.digest == other.digest
    assert one.digest != scaled(jnp.float32(1), jnp.arange(3.0), 3.0).digest
    assert one.digest != scaled(jnp.float32(1), jnp.arange(4.0), 2.0).digest
    (result,) = other(*other.constants, jnp.float32(5))
    np.testing.assert_array_equal(result, [11, 12, 13])


class Waiting:
    """A member that waits at a program."""

    def __init__(self, *arguments):
        self.traced = pack.trace(self.function, arguments)
        leaves = [*self.traced.constants, *jax.tree.leaves(arguments)]
        self.waits_at = self.traced, leaves
        self.answer = None

    @staticmethod
    def function(key, x, table):
        return {"drawn": x + jax.random.normal(key), "picked": table[1:] * 2}


def test_what_differs_is_stacked_and_what_does_not_is_computed_once():
    table = jnp.arange(4.0)
    members = [Waiting(jax.random.key(seed), 3.0, table) for seed in range(3)]
    pack.compute_together(members)
    for seed, member in enumerate(members):
        (drawn, picked), seconds = member.answer
        expected = Waiting.function(jax.random.key(seed), 3.0, table)
        np.testing.assert_allclose(drawn, expected["drawn"], rtol=1e-6)
        np.testing.assert_array_equal(picked, expected["picked"])
        assert set(seconds) == {"compile", "run"}
    alike = [Waiting(jax.random.key(0), 3.0, table) for _ in range(2)]
    pack.compute_together(alike)
    assert alike[0].answer[0][0] is alike[1].answer[0][0]


def flags(seed, rate, *more):
    return Run(PACKED, (*more, f"--mi_face.learning_rate={rate}", f"--seed={seed}"))


def call(command):
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300
    )


def recovered(folder):
    with np.load(folder / "results" / "attack.npz") as arrays:
        return arrays["x"], arrays["loss"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A pack of three, of whom one fails, and one has trained its target before."""
    folder = tmp_path_factory.mktemp("sweep")
    pack_of = [flags(0, 1.0), flags(1, 10.0), flags(0, 99.0, "--fails_above=50.0")]
    runs.add(folder, pack_of)
    for run in pack_of:
        (folder / run.name).mkdir()
        runs.begin(folder / run.name)
    alone = folder / "alone"
    for run in pack_of[:2]:
        call(run.command(alone))
    trained = alone / pack_of[1].name / "checkpoints"
    shutil.copytree(trained, folder / pack_of[1].name / "checkpoints")
    names = [run.name for run in pack_of]
    call([sys.executable, "-m", "launch.pack", str(folder), *names])
    return folder, pack_of


@pytest.mark.process
def test_a_pack_recovers_what_single_runs_do(sweep):
    folder, pack_of = sweep
    for run in pack_of[:2]:
        x, loss = recovered(folder / run.name)
        x_alone, loss_alone = recovered(folder / "alone" / run.name)
        np.testing.assert_allclose(x, x_alone, **TOLERANCE)
        np.testing.assert_allclose(loss, loss_alone, **TOLERANCE)
        mine, theirs = (
            runs.result(f / run.name)["flags"] for f in (folder, folder / "alone")
        )
        assert {k: v for k, v in mine.items() if k != "workdir"} == {
            k: v for k, v in theirs.items() if k != "workdir"
        }
    assert np.abs(recovered(folder / pack_of[0].name)[1] - loss).min() > 1e-3


@pytest.mark.process
def test_each_run_of_a_pack_has_a_log_and_a_fate_of_its_own(sweep):
    folder, pack_of = sweep
    states = [runs.state(folder / run.name) for run in pack_of]
    assert states == [runs.DONE, runs.DONE, runs.FAILED]
    logs = [(folder / run.name / "log.txt").read_text() for run in pack_of]
    assert "target: 40/40" in logs[0] and "seed 0 is done" in logs[0]
    assert "target: continuing after step 40" in logs[1]
    assert "seed 1 is done" in logs[1] and "seed 0" not in logs[1]
    last = runs.last_line(folder / pack_of[2].name)
    assert last == "error: This learning rate fails."
