"""Machines that lack something: one line each, and few images are enough."""

import pwd

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.harness import flags, resumable
from mijax.data import prepared


def test_an_absent_device_is_one_line(monkeypatch, capsys):
    def fail():
        raise AssertionError  # As JAX does where JAX_PLATFORMS=cuda finds no plugin.

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(SystemExit) as ended:
        flags.guarded(jax.devices)(["program"])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2
    assert line.startswith("error: JAX_PLATFORMS=cuda cannot be used")


def test_an_error_of_another_kind_is_shown_whole():
    def wrong():
        raise RuntimeError("a mistake of the program's")

    with pytest.raises(RuntimeError, match="a mistake of"):
        flags.guarded(wrong)(["program"])


def test_without_a_home_the_folder_has_to_be_named(monkeypatch, tmp_path):
    def unknown(user):
        raise KeyError(user)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("MIJAX_CACHE", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ValueError, match="set MIJAX_CACHE to one"):
        prepared.cache()
    monkeypatch.setenv("MIJAX_CACHE", str(tmp_path))
    assert prepared.cache() == tmp_path


def test_fewer_images_than_a_batch_are_one_batch(tmp_path):
    def step(key, state, batch):
        return state + batch.sum(), {"size": jnp.asarray(batch.shape[0])}

    total = resumable.train(
        jax.random.key(0),
        jnp.float32(0),
        step,
        np.arange(5, dtype=np.float32),
        name="sum",
        folder=tmp_path,
        batch_size=64,
        steps=3,
    )
    assert total == 3 * 10
