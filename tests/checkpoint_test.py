"""Checkpoints come back bit for bit, or say why not."""

import errno
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import train_until_killed

from experiments.harness import checkpoint
from mijax.core import pytree

# Orbax's futures outlive the event loop where a file is damaged.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytree
class Networks:
    weights: dict
    step: jax.Array


def tree(width=3):
    return Networks(
        {
            "dense": jax.random.normal(jax.random.key(0), (4, width)),
            "half": jnp.arange(6, dtype=jnp.bfloat16),
        },
        jnp.int32(7),
    )


def equal(a, b):
    return jax.tree.all(
        jax.tree.map(lambda x, y: x.dtype == y.dtype and np.array_equal(x, y), a, b)
    )


class TestRoundTrip:
    def test_the_same_bits_in_the_same_classes(self, tmp_path):
        checkpoint.save(tmp_path / "new", 5, tree())
        back = checkpoint.restore(tmp_path / "new", 5, tree())
        assert isinstance(back, Networks) and equal(back, tree())

    def test_keeps_the_last_two(self, tmp_path):
        assert checkpoint.latest(tmp_path) is None
        assert checkpoint.latest(tmp_path / "absent") is None
        for step in (2, 9, 10):
            changed = jax.tree.map(lambda leaf, step=step: leaf + step, tree())
            checkpoint.save(tmp_path, step, changed)
        assert checkpoint.latest(tmp_path) == 10
        assert not (tmp_path / "2").exists()
        for step in (9, 10):
            changed = jax.tree.map(lambda leaf, step=step: leaf + step, tree())
            assert equal(checkpoint.restore(tmp_path, step, tree()), changed)


class TestRefusals:
    def test_another_architecture(self, tmp_path):
        checkpoint.save(tmp_path, 1, tree())
        with pytest.raises(
            ValueError, match=r"another architecture.*\[4, 3\].*\[4, 5\]"
        ):
            checkpoint.restore(tmp_path, 1, tree(width=5))
        with pytest.raises(ValueError, match=r"another architecture.*absent"):
            checkpoint.restore(tmp_path, 1, {"other": jnp.zeros(3)})

    def test_every_truncated_file_is_refused_or_harmless(self, tmp_path):
        checkpoint.save(tmp_path / "whole", 1, tree())
        files = [p for p in (tmp_path / "whole").rglob("*") if p.is_file()]
        refused = 0
        for number, file in enumerate(p.relative_to(tmp_path / "whole") for p in files):
            folder = tmp_path / str(number)
            shutil.copytree(tmp_path / "whole", folder)
            size = (folder / file).stat().st_size
            os.truncate(folder / file, size // 2)
            try:
                assert equal(checkpoint.restore(folder, 1, tree()), tree()), file
            except ValueError as error:
                assert "cannot be read" in str(error) and str(folder) in str(error)
                refused += 1
        assert refused >= 2

    def test_an_absent_step(self, tmp_path):
        checkpoint.save(tmp_path, 1, tree())
        with pytest.raises(ValueError, match=r"2 cannot be read"):
            checkpoint.restore(tmp_path, 2, tree())

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(ValueError, match=r"Cannot write a checkpoint.*--workdir"):
            checkpoint.save(tmp_path / "file" / "folder", 1, tree())

    def test_a_full_disk_loses_nothing(self, tmp_path, monkeypatch):
        checkpoint.save(tmp_path, 1, tree())

        def full(*args, **kwargs):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(ocp.CheckpointManager, "save", full)
            with pytest.raises(ValueError, match=r"No space left.*Earlier steps"):
                checkpoint.save(tmp_path, 2, tree())
        assert checkpoint.latest(tmp_path) == 1
        assert equal(checkpoint.restore(tmp_path, 1, tree()), tree())

    def test_a_disk_that_is_nearly_full_is_seen_before_writing(
        self, tmp_path, monkeypatch
    ):
        checkpoint.save(tmp_path, 1, tree())
        usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda path: usage)
            with pytest.raises(ValueError, match=r"1,024 KiB are left.*Earlier steps"):
                checkpoint.save(tmp_path, 2, tree())
        assert checkpoint.latest(tmp_path) == 1


def kill_at_random(folder, kills, rng, what="train"):
    """Trains in a process that is killed at random moments, `kills` times."""
    script = pathlib.Path(train_until_killed.__file__)
    path = os.pathsep.join([str(script.parents[1]), os.environ.get("PYTHONPATH", "")])
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, str(script), what, str(folder)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(rng.randint(2, 4)):  # The first lines say that it has begun.
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert checkpoint.latest(folder)


@pytest.mark.process
@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_training_resumes_to_the_same_bits(optimized, tmp_path, kills):
    kill_at_random(tmp_path / "killed", kills, random.Random(kills))
    steps = checkpoint.latest(tmp_path / "killed") + 10
    resumed = train_until_killed.train(tmp_path / "killed", steps)
    whole = train_until_killed.train(tmp_path / "whole", steps, chunk=steps)
    assert equal(resumed, whole)


@pytest.mark.process
@pytest.mark.slow
def test_a_killed_federation_resumes_by_rounds_to_the_same_bits(optimized, tmp_path):
    kill_at_random(tmp_path / "killed", 3, random.Random(1), "federate")
    rounds = checkpoint.latest(tmp_path / "killed") + 8
    resumed = train_until_killed.federate(tmp_path / "killed", rounds)
    whole = train_until_killed.federate(tmp_path / "whole", rounds)
    assert resumed.round == rounds and equal(resumed.state, whole.state)
