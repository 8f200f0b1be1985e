"""The joint table of benchmarks: every contender once, and what is missing is said."""

import json
import pathlib
import subprocess
import sys
import types

import pytest

from benchmarks import peers, run

ROOT = pathlib.Path(__file__).parents[1]


def test_contenders_of_all_kinds_join_one_table():
    steps = {
        "contender": "mijax scan",
        "target": "vgg16",
        "batch": 60,
        "wall ms/step": 12.0,
        "wall speed-up": 1.5,
        "compile s": 3.0,
    }
    seconds = {"contender": "torch", "attack": "dlg", "wall s": 2.0}
    shares = {"convolution": "3x3", "forward": 1.0}
    found = list(run.rows("gmi", {"torch": "2", "a": [steps, shares], "b": [seconds]}))
    assert [row["contender"] for row in found] == ["mijax scan", "torch"]
    assert found[0]["case"] == "vgg16 60" and found[0]["wall ms"] == 12.0
    assert (found[0]["unit"], found[1]["unit"]) == ("a step", "a run")
    assert (found[0]["ratio"], found[1]["ratio"]) == (1.5, "-")
    assert found[1]["wall ms"] == 2000.0


def test_what_is_not_there_or_fails_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "BENCHMARKS", ("nothing", "timing"))
    assert (
        "there is no benchmarks/nothing.py"
        in run.run("nothing", tmp_path, [])["missing"]
    )
    assert "ended with 0" in run.run("timing", tmp_path, [])["missing"]
    assert peers.optional("no_such_peer") is None
    with pytest.raises(SystemExit, match="not installed: pip install it"):
        peers.required("no_such_peer", "pip install it")


@pytest.mark.process
def test_gradient_leakage_times_every_batch_that_is_asked_for():
    code = """
import sys, unittest.mock
sys.modules["torch"] = unittest.mock.MagicMock(__version__="none")
from benchmarks import gradient_leakage as own
own.compare = lambda name, number, repeats: [{"row": f"{name} of {number}."}]
own.common.run(own.main)
"""

    def rows(*given):
        command = [sys.executable, "-c", code, *given]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [line.strip() for line in done.stdout.splitlines() if " of " in line]

    assert rows("--attacks=inverting_gradients", "--batches=1,8") == [
        "inverting_gradients of 1.",
        "inverting_gradients of 8.",
    ]
    assert rows() == [
        "dlg of 64.",
        "inverting_gradients of 1.",
        "inverting_gradients of 8.",
    ]


def test_the_command_writes_a_table_with_device_and_commit(tmp_path, monkeypatch):
    def measured(command, **options):
        path = next(word for word in command if word.startswith("--output="))
        row = {"contender": "mijax", "wall ms": 1.0}
        with open(path.removeprefix("--output="), "w") as file:
            json.dump({"steps": [row]}, file)
        return subprocess.CompletedProcess(command, 0, stderr="")

    monkeypatch.setattr(run.subprocess, "run", measured)
    monkeypatch.setattr(run.report, "commit", lambda: "abcdef")
    given = types.SimpleNamespace(
        workdir=str(tmp_path), benchmarks=["gmi", "convolution"], flags=[]
    )
    monkeypatch.setattr(run.flags, "FLAGS", given)
    run.main()
    text = (tmp_path / "table.txt").read_text()
    assert "backend cpu" in text and "commit abcdef" in text
    assert text.count("mijax") == 2
    given.benchmarks = ["nothing"]
    with pytest.raises(ValueError, match="choose among gmi"):
        run.main()
