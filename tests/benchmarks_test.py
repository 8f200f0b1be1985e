"""The joint table of benchmarks: every contender once, and what is missing is said."""

import json
import pathlib
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import accelerator, peers, run

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


@pytest.mark.process
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
@pytest.mark.slow
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


# On any machine: the smallest of each kind of network.
TINY = accelerator.SMALL._replace(image=8, vgg=None, face_evolve=None)
CASES = {
    "dlg": lambda: accelerator.dlg_case(2, TINY),
    "map_inference": lambda: accelerator.map_inference_case(TINY),
    "wgan_gp": lambda: accelerator.wgan_gp_case(TINY),
}
CEILINGS = accelerator.Ceilings(flops=1e9, bandwidth=1e9)


@pytest.mark.parametrize(
    "name",
    [
        "map_inference",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("dlg", "wgan_gp")),
    ],
)
def test_a_case_of_the_accelerator_is_measured(name):
    case = CASES[name]()
    row, losses = accelerator.measure(case, CEILINGS, repeats=1)
    assert losses.ndim == 2 and np.isfinite(losses).all()
    assert json.loads(json.dumps(row)) == row
    assert row["ms"] > 0 and row["of roofline"] > 0 and row["memory MiB"] > 0
    # The longer of both times bounds it.
    rates = row["GFLOP/s"], row["GB/s"]
    assert row["of roofline"] == pytest.approx(max(rates))
    assert row["bound"] == ("FLOPs" if rates[0] >= rates[1] else "bytes")


@pytest.mark.slow
def test_the_small_sizes_run_from_end_to_end(tmp_path, capsys):
    path = tmp_path / "accelerator.json"
    accelerator.main(["--small", "--repeats=1", "--seconds=900", f"--output={path}"])
    rows = json.loads(path.read_text())["cases"]
    assert [row["case"] for row in rows] == list(accelerator.cases(accelerator.SMALL))
    assert all(row["of roofline"] > 0 for row in rows)
    assert "roofline" in capsys.readouterr().out


def test_flops_are_those_of_the_product():
    lowered = jax.jit(jnp.matmul).lower(jnp.ones((64, 32)), jnp.ones((32, 16)))
    flops, size = accelerator.cost(lowered, lowered.compile())
    assert flops == pytest.approx(2 * 64 * 32 * 16, rel=0.01)
    assert size == pytest.approx(4 * (64 * 32 + 32 * 16 + 64 * 16), rel=0.01)


def test_other_losses_are_no_comparison():
    ours = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    assert accelerator.difference(ours, np.array([[1.0, 2.0]])) == 0
    with pytest.raises(ValueError, match="not the same computation"):
        accelerator.difference(ours, np.array([[1.0, 2.1]]))
    with pytest.raises(ValueError, match="not the same computation"):
        accelerator.difference(ours, np.array([[1.0, np.nan]]))


def test_a_phase_that_fails_or_takes_too_long_is_left_out(tmp_path):
    report = accelerator.Report({}, str(tmp_path / "report.json"))
    row = {"case": "a case", "unit": "step", "ms": 1.0}
    report.rows.append(row)

    def forever():
        while True:
            pass

    def broken():
        raise RuntimeError("no such kernel")

    assert report.attempt(row, "mijax", 60, lambda: 3) == 3
    assert report.attempt(row, "torch eager", 0.05, forever) is None
    assert report.attempt(row, "torch.compile", 60, broken) is None
    assert report.attempt(row, "too late", 0, lambda: 3) is None
    written = json.loads((tmp_path / "report.json").read_text())["cases"][0]
    assert "out of time" in written["left out"]["torch eager"]
    assert written["left out"]["torch.compile"] == "RuntimeError: no such kernel"
    assert "out of time" in written["left out"]["too late"]
    text = accelerator.table(report.rows)
    assert "torch.compile: left out, RuntimeError: no such kernel" in text


def test_the_contract_runs_within_its_time(monkeypatch):
    import contract_cases

    attack = types.SimpleNamespace(attack=lambda key, known, config: known * config)
    drifting = types.SimpleNamespace(
        attack=lambda key, known, config: (
            known + isinstance(known + 0, jax.core.Tracer) * config
        )
    )

    def case(name, attack):
        knowing = lambda which, wrap: jnp.ones(2)
        return types.SimpleNamespace(
            name=name, attack=attack, config=3.0, knowing=knowing
        )

    cases = [case("steady", attack), case("drifting", drifting)]
    monkeypatch.setattr(contract_cases, "CASES", cases)
    found = accelerator.contract(float("inf"))
    assert found["agreed"] == 1 and list(found["failed"]) == ["drifting"]
    assert accelerator.contract(0)["out of time"] == ["steady", "drifting"]


@pytest.mark.process
def test_the_accelerator_needs_little():
    code = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in (
            "tensorflow_datasets", "matplotlib", "sklearn", "PIL", "tqdm", "torch"
        ):
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Absent())
import benchmarks.accelerator
import mijax.attacks, mijax.defenses, mijax.models.trees, mijax.priors.wgan_gp
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
