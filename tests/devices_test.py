"""Victims in chunks, over eight devices: what one device finds, and the same picks."""

import os
import pathlib
import subprocess
import sys
import types

import devices_case
import jax
import numpy as np
import pytest
import tiny

from experiments.harness import memory, programs
from mijax import batching
from mijax.core import Glimpse
from mijax.knowledge import WhiteBox

TESTS = pathlib.Path(__file__).parent
FIELDS = ("x", "losses", "trace", "candidates")


def found_by_one():
    """What one program on one device finds."""

    def alone(attack, number):
        compiled = jax.jit(attack)
        return lambda *arguments: (compiled(*arguments), {})

    return devices_case.attack(alone)


@pytest.fixture(scope="module")
def on_one():
    return found_by_one()


def agree(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def same_picks(candidates, x):
    """Which restart was picked for each victim."""
    distances = np.abs(candidates - x[:, None]).max((2, 3, 4))
    return distances.argmin(1)


@pytest.mark.process
def test_eight_devices_find_what_one_does(on_one, tmp_path):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": str(TESTS.parent),
    }
    command = [sys.executable, TESTS / "devices_case.py", tmp_path / "found.npz"]
    subprocess.run(command, env=environment, check=True, timeout=240)
    check_found(tmp_path / "found.npz", on_one, devices=8, processes=1)


def check_found(path, expected, devices, processes):
    with np.load(path) as found:
        assert (found["devices"], found["processes"]) == (devices, processes)
        for name in FIELDS:
            agree(found[name], getattr(expected, name))
        picks = same_picks(found["candidates"], found["x"])
        np.testing.assert_array_equal(
            picks, same_picks(expected.candidates, expected.x)
        )
        assert len(set(picks.tolist())) > 1


def test_chunks_find_what_one_program_does(on_one):
    def chunked(attack, number):
        compiled = jax.jit(batching.in_chunks(attack, 5))
        return lambda *arguments: (compiled(*arguments), {})

    found = devices_case.attack(chunked)
    for name in FIELDS:
        agree(getattr(found, name), getattr(on_one, name))


def test_as_many_victims_as_fit_are_taken_at_a_time(monkeypatch, capsys):
    needs, need = [], memory.need

    def recorded(program):
        needs.append(need(program))
        return needs[-1]

    monkeypatch.setattr(memory, "need", recorded)
    whole = devices_case.attack(programs.over_victims, seen=False)
    monkeypatch.setattr(memory, "limit", lambda: needs[0] - 1)
    found = devices_case.attack(programs.over_victims, seen=False)
    assert "13 at a time would not fit" in capsys.readouterr().out
    agree(found.x, whole.x)
    monkeypatch.setattr(memory, "limit", lambda: 1000)
    with pytest.raises(ValueError, match="One example at a time needs"):
        memory.fitting(lambda size: Needing(), 4)


class Needing:
    """A program that needs more than there is."""

    def memory_analysis(self):
        sizes = {"argument_size_in_bytes": 600, "output_size_in_bytes": 600}
        sizes |= {"alias_size_in_bytes": 0, "temp_size_in_bytes": 0}
        return types.SimpleNamespace(**sizes)


def test_the_fields_of_victims_start_with_their_axis():
    glimpse = Glimpse(np.zeros((4, *tiny.SHAPE)), see=lambda x: x)
    knowledge = WhiteBox(tiny.target(), np.zeros(4, np.int32), glimpse=glimpse)
    assert knowledge.victims == 4
    assert batching.over_devices().shape == {batching.AXIS: jax.device_count()}
