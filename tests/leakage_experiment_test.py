"""The gradient-leakage experiment: victims, resumed chunks, verdicts, its command."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import tiny
from flax import linen as nn

from experiments.harness import memory, progress
from experiments.leakage import (
    clients,
    cpl,
    defended_task,
    defenses,
    nulls,
    part,
    recovery,
    verdicts,
)
from mijax import data, federation
from mijax.attacks import inverting_gradients
from mijax.core import Defense, Reconstruction, Target
from mijax.data import Dataset
from mijax.defenses import noise

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = inverting_gradients.Config(steps=2)


def images(number=60):
    rng = np.random.default_rng(0)
    return Dataset(
        "toy",
        rng.uniform(size=(number, *tiny.SHAPE)).astype(np.float32),
        (np.arange(number) % 3).astype(np.int32),
        ("a", "b", "c"),
    )


@pytest.fixture(scope="module")
def victims():
    return clients.choose(images(), 5, 2, 0)


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(4)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(tiny.CLASSES)(nn.sigmoid(x))


def normalized():
    variables = Normalized().init(jax.random.key(0), np.zeros((1, *tiny.SHAPE)))
    return Target.from_linen(Normalized(), variables, tiny.SHAPE)


def setting(name="cell", **changes):
    known = recovery.Setting(name, inverting_gradients.attack, CONFIG, tiny.target())
    return dataclasses.replace(known, **changes)


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "results").mkdir()
    return tmp_path


class TestClients:
    def test_victims_are_no_public_images(self, victims):
        def rows(x):
            return {image.tobytes() for image in x.reshape(-1, *tiny.SHAPE)}

        assert victims.x.shape == victims.similar.shape == (5, 2, *tiny.SHAPE)
        assert len(rows(victims.x)) == 10
        assert not rows(victims.x) & (rows(victims.public) | rows(victims.similar))

    def test_similar_images_are_of_the_same_class(self, victims):
        loaded = images()
        labels = dict(zip(map(bytes, loaded.images), loaded.labels, strict=True))
        similar = victims.similar.reshape(-1, *tiny.SHAPE)
        found = [labels[bytes(image)] for image in similar]
        np.testing.assert_array_equal(found, victims.labels.ravel())

    def test_of_faces_the_public_ones_are_of_other_people(self):
        faces = dataclasses.replace(
            images(),
            name="att_faces",
            labels=(np.arange(60) % 6).astype(np.int32),
            names=tuple("abcdef"),
        )
        chosen = clients.choose(faces, 6, 1, 1)
        people = dict(zip(map(bytes, faces.images), faces.labels, strict=True))
        public = {int(people[bytes(image)]) for image in chosen.public}
        assert len(public) == 3 and not public & set(chosen.labels.ravel().tolist())

    def test_the_seed_chooses(self, victims):
        again, other = (
            clients.choose(images(), 5, 2, 0),
            clients.choose(images(), 5, 2, 1),
        )
        np.testing.assert_array_equal(victims.x, again.x)
        assert not np.array_equal(victims.x, other.x)

    def test_refuses_more_victims_than_images(self):
        with pytest.raises(ValueError, match="40 victims of 2 images are more"):
            clients.choose(images(), 40, 2, 0)


class TestRecovery:
    def test_chunks_change_no_result(self, workdir, victims):
        noisy = {"defense": noise.gaussian(0.01)}
        parts = [
            recovery.recover(
                workdir,
                jax.random.key(0),
                victims,
                setting(f"by_{chunk}", **noisy),
                chunk=chunk,
            )
            for chunk in (2, 5)
        ]
        assert parts[0]["x"].shape == victims.x.shape
        assert parts[0]["trace"].shape == (5, 1, 3)
        assert {"compile", "run", "loss", "labels"} <= set(parts[0])
        for field in ("x", "loss", "labels", "trace"):
            np.testing.assert_allclose(parts[0][field], parts[1][field], atol=1e-5)

    def test_what_is_finished_is_not_done_again(self, workdir, victims):
        attacked = []

        def attack(key, knowledge, config) -> Reconstruction:
            jax.debug.callback(lambda: attacked.append(knowledge.victims))
            return inverting_gradients.attack(key, knowledge, config)

        def run():
            attacked.clear()
            cell = setting(attack=attack)
            return recovery.recover(workdir, jax.random.key(0), victims, cell, chunk=2)

        first = run()
        assert attacked == [2, 2, 2]
        middle = workdir / "results" / "cell" / "000002.npz"
        middle.unlink()
        (workdir / "results" / "cell" / "000004.partial").write_bytes(b"killed")
        again = run()
        assert attacked == [2]
        np.testing.assert_array_equal(first["x"], again["x"])
        assert run()["x"].shape == first["x"].shape and attacked == []

    def test_null_of_others_is_the_client_before(self, workdir, victims):
        swapped = dataclasses.replace(
            victims,
            x=np.concatenate([victims.spare["x"], victims.x[:-1]]),
            labels=np.concatenate([victims.spare["labels"], victims.labels[:-1]]),
        )
        found = [
            recovery.recover(
                workdir, jax.random.key(0), who, setting(name), chunk=2, null=null
            )["x"]
            for name, who, null in [
                ("null", victims, nulls.others),
                ("swapped", swapped, None),
            ]
        ]
        np.testing.assert_allclose(found[0], found[1], atol=1e-5)

    @pytest.mark.parametrize("null", [nulls.others, nulls.zeros])
    def test_in_a_null_case_nothing_is_the_victims(self, workdir, null):
        lone, told = clients.choose(images(), 1, 2, 0), []

        def attack(key, knowledge, config) -> Reconstruction:
            shared = knowledge.update, knowledge.statistics
            seen = knowledge.labels, knowledge.similar, *shared
            jax.debug.callback(lambda *each: told.append(each), *seen)
            return inverting_gradients.attack(key, knowledge, config)

        def run(name, change, who):
            cell = setting(
                name,
                attack=attack,
                target=normalized(),
                recipe=federation.Recipe(train=True, share_statistics=True),
                similar=lambda who, rows: jax.numpy.asarray(who.similar[rows]),
                labels_known=True,
            )
            key = jax.random.key(0)
            recovery.recover(workdir, key, who, cell, chunk=1, null=change)
            return told[-1]

        labels, similar, *shared = run("null", null, lone)
        np.testing.assert_array_equal(labels, lone.spare["labels"])
        np.testing.assert_array_equal(similar, lone.spare["similar"])
        assert not np.array_equal(lone.spare["x"], lone.x)
        expected = run("spare", None, dataclasses.replace(lone, **lone.spare))[2:]
        if null is nulls.zeros:
            expected = jax.tree.map(np.zeros_like, expected)
        assert len(jax.tree.leaves(shared[1])) == 2
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            tuple(shared),
            tuple(expected),
        )

    def test_zeros_are_attacked_as_a_null_case(self, workdir, victims):
        found = recovery.recover(
            workdir, jax.random.key(0), victims, setting(), chunk=5, null=nulls.zeros
        )
        assert np.isfinite(found["x"]).all()

    def test_programs_are_compiled_once(self, workdir, victims):
        def run(name, key, seed):
            cell = setting(name, target=tiny.target(seed))
            return recovery.recover(
                workdir, jax.random.key(key), victims, cell, chunk=5
            )["compile"]

        run("first", 0, 1)
        assert run("second", 1, 2) == 0

    def test_what_does_not_fit_together_is_attacked_in_turn(
        self, workdir, victims, monkeypatch, capsys
    ):
        searches = dataclasses.replace(CONFIG, restarts=32)  # They take the memory.
        needs, need = [], memory.need

        def recorded(program):
            needs.append(need(program))
            return needs[-1]

        def run(name):
            monkeypatch.setattr(recovery, "_PROGRAMS", {})
            cell, key = setting(name, config=searches), jax.random.key(0)
            return recovery.recover(workdir, key, victims, cell, chunk=5)["x"]

        monkeypatch.setattr(memory, "need", recorded)
        whole = run("whole")
        monkeypatch.setattr(memory, "limit", lambda: needs[0] - 1)
        np.testing.assert_allclose(run("in_turn"), whole, atol=1e-5)
        assert "5 at a time would not fit" in capsys.readouterr().out


class TestVerdicts:
    def test_truth_is_a_success_and_noise_is_none(self, victims):
        baseline, _ = verdicts.compare(
            victims, np.broadcast_to(victims.public.mean(0), victims.x.shape)
        )
        shuffled = victims.x[:, ::-1]
        lines = verdicts.lines(victims, shuffled, "truth", baseline)
        assert lines["success_rate/truth"].value == 1
        assert lines["psnr/truth"].value == 100
        assert lines["mse/truth"].leakage == 1
        assert lines["mse/truth"].n == 10
        noise = np.random.default_rng(1).uniform(size=victims.x.shape)
        lines = verdicts.lines(victims, noise.astype(np.float32), "noise", baseline)
        assert lines["success_rate/noise"].value == 0
        assert lines["mse/noise"].leakage < 0

    def test_what_is_not_finite_is_a_failure_that_counts(self, victims):
        broken = victims.x.copy()
        broken[0] = np.nan
        lines = verdicts.lines(victims, broken, "broken", None)
        assert lines["success_rate/broken"].value == 0.8
        assert lines["success_rate/broken"].n == 10
        assert lines["mse/broken"].failed == 2

    def test_labels_are_beside_a_balanced_guess(self, victims):
        def baseline(labels, classes):
            truth = dataclasses.replace(
                victims, labels=np.array(labels), num_classes=classes
            )
            line = verdicts.label_lines(truth, truth.labels, "cell")
            value = line["label_accuracy/cell"].baseline
            assert value is not None
            return value

        # Of 0012, 1120 and 2201 all of the four are right, or three.
        np.testing.assert_allclose(baseline([[0, 1, 2, 0]], 3), 10 / 12)
        np.testing.assert_allclose(baseline([[4], [4]], 5), 1 / 5)
        labels = np.random.default_rng(0).integers(0, 10, (500, 16))
        assert 0.65 < baseline(labels, 10) < 0.75

    def test_labels_that_were_told_are_not_scored(self, victims):
        found = {"x": victims.x, "labels": victims.labels, "loss": np.zeros(5)}
        found |= {"compile": 0.0, "run": 0.0}
        baseline, _ = verdicts.compare(victims, victims.x)
        whole = part.Part()
        whole.add(victims, setting("told", labels_known=True), found, baseline)
        whole.add(victims, setting("read"), found, baseline)
        assert whole.value("label_accuracy/told") is None
        assert whole.value("label_accuracy/read") == 1

    def test_steps_of_the_fall(self):
        trace = np.array([[8, 4, 2, 0.001, 0.0], [5, np.nan, 1, 1, 1], [3, 3, 3, 3, 3]])
        np.testing.assert_array_equal(verdicts.steps_of_the_fall(trace), [3, 2, 0])


def test_who_attacks_a_defense_by_a_prior_has_one(victims):
    assert list(defenses.adversaries(victims, defenses.Sizes())) == [
        "naive",
        "adaptive",
    ]
    faces = dataclasses.replace(victims, prior="faces64")
    generator = defenses.adversaries(faces, defenses.Sizes())["generator"]
    assert generator.auxiliary["prior"].shape == (*victims.shape[:2], 1)


def test_refuses_names_that_it_does_not_know():
    with pytest.raises(ValueError, match="kinds=sing: give some of none"):
        defenses.Sizes(kinds=("sing",))
    with pytest.raises(ValueError, match="seeds=: give some of patterned"):
        cpl.Sizes(seeds=())
    assert list(defenses.Sizes(kinds=("sign",)).chosen) == ["none", "sign"]


def test_a_defended_task_learns_less(workdir):
    loaded = images(120)
    brighter = loaded.images * 0.1 + loaded.labels[:, None, None, None] * 0.4
    task = data.train_test(
        dataclasses.replace(loaded, images=brighter.astype(np.float32)),
        test_fraction=0.3,
    )

    def accuracy(name, defense):
        return defended_task.accuracy(
            workdir,
            name,
            jax.random.key(0),
            tiny.target(),
            task,
            defense,
            rate=0.1,
            batch_size=40,
            steps=80,
        ).mean()

    free = accuracy("free", Defense())
    drowned = accuracy("drowned", noise.gaussian(100.0))
    assert free > 0.9 > 0.7 > drowned
    assert accuracy("free", None) == free  # It is on disk.


def test_progress_in_a_log(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0.0)
    chunks = list(progress.track("ab", "cell", sizes=[4, 2], done=4, unit="victims"))
    assert chunks == ["a", "b"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cell: 8/10 victims") and "s left" in lines[0]
    assert lines[1].startswith("cell: 10/10 victims") and "0 s left" in lines[1]


# The command ----------------------------------------------------------------------


SMALL = (
    "--figure=cpl",
    "--dataset=att_faces",
    "--cpl.victims=3",
    "--cpl.seeds=patterned_8x8,normal",
    "--cpl.attack.steps=3",
    "--cpl.rival.steps=3",
    "--chunk=2",
)


def start(workdir, *given):
    command = [sys.executable, "-m", "experiments.gradient_leakage", *SMALL, *given]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}", f"--data_dir={workdir.parent}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def run(workdir, *given):
    process = start(workdir, *given)
    output, _ = process.communicate(timeout=900)
    return process.returncode, output


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("leakage") / "run"
    code, output = run(workdir)
    assert code == 0, output
    return workdir


@pytest.mark.process
@pytest.mark.slow
def test_leaves_a_result_beside_its_baselines(finished):
    metrics = json.loads((finished / "result.json").read_text())["metrics"]
    assert "mse/att_faces/cpl_uniform" not in metrics
    for method in ("cpl_patterned_8x8", "cpl_normal", "dlg_normal"):
        line = metrics[f"mse/att_faces/{method}"]
        assert line["n"] == 3 and line["baseline"] > 0
    for name in ("mean_image", "prior_sample"):
        assert f"ssim/att_faces/{name}" in metrics
    page = (finished / "report.html").read_text()
    assert "first guess" in page and "float32" in page
    assert "--cpl.seeds=patterned_8x8,normal" in page
    assert (finished / "figures" / "cpl_att_faces.png").is_file()


@pytest.mark.process
@pytest.mark.slow
def test_refuses_flags_in_one_line(finished):
    for flag, words in [
        ("--cpl.attack.steps=-1", "--cpl.attack.steps=-1 is negative"),
        ("--seed=1", "--seed=0, not 1"),
    ]:
        code, output = run(finished, flag)
        assert code == 2 and words in output and "Traceback" not in output


@pytest.mark.process
@pytest.mark.slow
def test_killed_it_resumes_without_a_victim_twice(finished, tmp_path):
    workdir = tmp_path / "run"
    process = start(workdir)
    while len(list(workdir.rglob("*.npz"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*.npz")}
    code, output = run(workdir)
    assert code == 0, output
    for path in finished.rglob("results/**/*.npz"):
        other = workdir / path.relative_to(finished)
        with np.load(path) as whole, np.load(other) as resumed:
            for field in ("x", "loss", "trace"):
                np.testing.assert_array_equal(whole[field], resumed[field])
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())
