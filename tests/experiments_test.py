"""The real entry points, at the smallest sizes, in processes of their own."""

import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags as absl_flags

from experiments import judging
from experiments.harness import flags, results
from mijax.core import Target
from mijax.priors import template_decoder

ROOT = pathlib.Path(__file__).parents[1]
GMI = (
    "inversion.zhang2020_gmi",
    "--dataset=att_faces",
    "--data_dir=.",
    "--num_victims=2",
    "--gmi.steps=4",
    "--target.steps=20",
    "--evaluator.steps=20",
    "--attacks=gmi_logit",
    "--attacks=gmi_cross_entropy",
)
PRIOR = ("train_prior", "--kind=digits", "--dataset=mnist5k", "--steps=60", "--width=2")


def start(arguments, workdir):
    name, *flags = arguments
    command = [sys.executable, "-m", f"experiments.{name}", *flags]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def run(arguments, workdir):
    process = start(arguments, workdir)
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def digest(workdir):
    """The bits of everything that a run recovered or trained."""
    total = hashlib.sha256()
    for path in sorted(pathlib.Path(workdir).rglob("*.npz")):
        with np.load(path) as arrays:
            for name in sorted(set(arrays.files) - {"compile", "run"}):  # seconds
                total.update(name.encode() + arrays[name].tobytes())
    return total.hexdigest()


def test_the_surest_sample_is_the_surest():
    logits = jnp.array([[1.0, 0.0], [9.0, 0.0], [9.0, 8.5]])

    def function(params, x):
        return params[x[:, 0].astype(int)]

    target = Target.from_function(function, logits, (1,))
    drawn = np.arange(3, dtype=np.int32)[:, None]
    found = judging.surest(target, drawn, np.array([0, 1]))
    np.testing.assert_array_equal(found.ravel(), [1, 2])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("gmi")
    code, output = run(GMI, workdir)
    assert code == 0, output
    return workdir


@pytest.mark.process
def test_gmi_leaves_its_results(finished):
    result = json.loads((finished / "result.json").read_text())
    assert result["experiment"] == "zhang2020_gmi"
    assert result["n"] == 2
    assert {"compile", "run"} == set(result["seconds"])
    found = results.from_json(result["records"])
    for row in ("gmi_logit", "gmi_cross_entropy", "random_latents", "real_test"):
        assert 0 <= found.value("top1", images=row, judge="evaluator").value <= 1
        assert found.filter(metric="identity_1nn", images=row, among="private")
    assert not found.filter(images="mi_face")  # --attacks leaves it out.
    assert "data:image/png" in (finished / "report.html").read_text()
    assert (finished / "figures" / "recovered.png").is_file()


@pytest.mark.process
def test_gmi_records_the_flags_that_were_given(finished):
    flags = json.loads((finished / "result.json").read_text())["flags"]
    assert flags["gmi.steps"] == 4 and flags["gmi.learning_rate"] is None


@pytest.mark.process
@pytest.mark.slow
def test_gmi_does_nothing_twice(finished):
    before = digest(finished)
    code, output = run(GMI, finished)
    assert code == 0, output
    assert "attack:" not in output
    assert digest(finished) == before


MISTAKES = {
    "--gmi.steps=-1": "--gmi.steps=-1 is negative",
    "--gmi.step=3": "Unknown command line flag 'gmi.step'",
    "--dataset=att_face": "att_face",
    "--dataset=image_folder:/nowhere": "/nowhere",
    "--workdir=/proc/nowhere": "--workdir=/proc/nowhere cannot be written",
    "--seed=1": "--seed=0, not 1",
    "--kind=resnet152": "--kind=resnet152 has no --preset=quick",
    "--attacks=gmi_max_margin": "--attacks=gmi_max_margin is none of",
    "--num_shown=0": "num_shown",
    "--data_dir=/nowhere": "The data folder /nowhere is no folder",
}


def test_flags_that_a_study_defines_are_recorded(monkeypatch):
    values = absl_flags.FlagValues()
    for module in ("experiments.studies.words", sys.argv[0], "elsewhere"):
        name = module.split(".")[-1].replace("/", "_")
        absl_flags.DEFINE_integer(name, 3, "", flag_values=values, module_name=module)
    monkeypatch.setattr(flags, "FLAGS", values)
    found = flags.given()
    assert len(found) == 2
    assert found["words"] == 3 and "elsewhere" not in found


@pytest.mark.process
def test_a_mistake_is_one_line(finished):
    paper, *rest = GMI
    lines = [[*rest, f"--workdir={finished}", flag] for flag in MISTAKES]
    case = pathlib.Path(__file__).with_name("mistakes_case.py")
    answer = subprocess.run(
        [sys.executable, case, paper, json.dumps(lines)],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
    )
    said = json.loads(answer.stdout)
    for (flag, words), (code, output) in zip(MISTAKES.items(), said, strict=True):
        assert code != 0, flag
        assert words in output
        assert "Traceback" not in output


def killed_and_resumed(arguments, workdir, kills, longest):
    rng = random.Random(0)
    for _ in range(kills):
        process = start(arguments, workdir)
        time.sleep(rng.uniform(2, longest))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, output = run(arguments, workdir)
    assert code == 0, output
    return digest(workdir)


@pytest.mark.parametrize("text", ["up to 92 % of all", "99 % and 5 %s", "", "none"])
def test_help_is_shown_as_it_is_written(text):
    assert flags.literal(text) % "the program" == text


@pytest.mark.process
@pytest.mark.slow
def test_gmi_killed_ten_times_ends_in_the_same_bits(finished, tmp_path):
    assert killed_and_resumed(GMI, tmp_path, 10, 60) == digest(finished)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    "loss", [(), ("--loss=vae_gan", "--vae_gan.first_steps=30")], ids=str
)
def test_prior_killed_ten_times_ends_in_the_same_bits(tmp_path, loss):
    command = (*PRIOR, *loss)
    code, output = run(command, tmp_path / "whole")
    assert code == 0, output
    resumed = killed_and_resumed(command, tmp_path / "killed", 10, 40)
    assert resumed == digest(tmp_path / "whole")


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.real_data
def test_students_killed_five_times_end_in_the_same_bits(tmp_path, data_dir):
    command = (
        "train_students",
        "--student=strided",
        f"--data_dir={data_dir}",
        *("--real=400", "--drawn=64", "--steps=300"),
    )
    code, output = run(command, tmp_path / "whole")
    assert code == 0, output
    card = json.loads((tmp_path / "whole" / "face_student_strided.json").read_text())
    assert card["accuracy"].endswith("on 200 images held out")
    resumed = killed_and_resumed(command, tmp_path / "killed", 5, 40)
    assert resumed == digest(tmp_path / "whole")


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.real_data
def test_a_template_decoder_is_trained_by_its_command(tmp_path, data_dir):
    flags = f"--data_dir={data_dir} --number=400 --steps=100".split()
    code, output = run(("train_template_decoder", *flags), tmp_path)
    assert code == 0, output
    card = json.loads((tmp_path / "face_template_decoder.json").read_text())
    assert card["data"].startswith("320 images")
    decoder = template_decoder.load(tmp_path / "face_template_decoder.npz")
    assert decoder.images(decoder.center[None]).shape == (1, 64, 64, 1)
