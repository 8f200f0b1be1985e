"""The study of leakage: victims, resumed chunks, verdicts, its command."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest
import tiny
from flax import linen as nn

from experiments.harness import curves, memory, progress
from experiments.harness.curves import Curve
from experiments.harness.results import Metric, Record, Results
from experiments.harness.run import Run
from experiments.studies import clients, leakage, utility
from experiments.studies.leakage import Attack, Case, Defended, Model, Study
from mijax import data
from mijax.attacks import inverting_gradients
from mijax.attacks.leakage import initial_images
from mijax.core import Defense, Reconstruction, Target
from mijax.data import Dataset
from mijax.defenses import noise
from mijax.federation import Recipe
from mijax.models.mlp import MLP


def paper(name):
    return tiny.paper(f"leakage.{name}")


ROOT = pathlib.Path(__file__).parents[1]
GEIPING = "geiping2020_inverting_gradients"
CONFIG = inverting_gradients.Config(steps=2, tv_weight=1e-2)


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


def adversary(attack=inverting_gradients.attack, config=CONFIG, **changes):
    method = types.ModuleType("inverting_gradients")
    vars(method)["attack"] = attack
    return Attack(method, config, {"attack": "toy"}, **changes)


@pytest.fixture
def start(tmp_path):
    (tmp_path / "results").mkdir()
    return Run(tmp_path, jax.random.key(0))


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

    def test_parts_are_the_whole_in_nulls_too(self, victims):
        parts = [victims.part(index, 3) for index in range(3)]
        for whole, own in [
            (victims, parts),
            (victims.before, [part.before for part in parts]),
        ]:
            for name in ("x", "labels", "similar"):
                together = np.concatenate([getattr(part, name) for part in own])
                np.testing.assert_array_equal(together, getattr(whole, name))

    def test_refuses_more_victims_than_images(self):
        with pytest.raises(ValueError, match="40 victims of 2 images are more"):
            clients.choose(images(), 40, 2, 0)


class TestRecovery:
    def test_chunks_change_no_result(self, start, victims):
        parts = [
            leakage.recover(
                start,
                f"by_{chunk}",
                victims,
                adversary(),
                tiny.target(),
                Defended(lambda batch: noise.gaussian(0.01)),
                chunk=chunk,
            )
            for chunk in (2, 5)
        ]
        assert parts[0]["x"].shape == victims.x.shape
        assert parts[0]["trace"].shape == (5, 1, 3)
        assert set(parts[0]) == {"x", "loss", "labels", "trace"}
        assert start.seconds["compile"] > 0 and start.seconds["run"] > 0
        for field, whole in parts[1].items():
            np.testing.assert_allclose(parts[0][field], whole, atol=1e-5)

    def test_what_is_finished_is_not_done_again(self, start, victims):
        attacked = []

        def attack(key, knowledge, config) -> Reconstruction:
            jax.debug.callback(lambda: attacked.append(knowledge.victims))
            return inverting_gradients.attack(key, knowledge, config)

        def run():
            attacked.clear()
            who = adversary(attack)
            return leakage.recover(start, "cell", victims, who, tiny.target(), chunk=2)

        first = run()
        assert attacked == [2, 2, 2]
        (start.workdir / "results" / "cell-000002.npz").unlink()
        (start.workdir / "results" / "cell-000004.partial").write_bytes(b"killed")
        again = run()
        assert attacked == [2]
        np.testing.assert_array_equal(first["x"], again["x"])
        assert run()["x"].shape == first["x"].shape and attacked == []

    def test_null_of_others_is_the_client_before(self, start, victims):
        swapped = dataclasses.replace(
            victims,
            x=np.concatenate([victims.spare["x"], victims.x[:-1]]),
            labels=np.concatenate([victims.spare["labels"], victims.labels[:-1]]),
        )
        found = [
            leakage.recover(
                start, name, who, adversary(), tiny.target(), chunk=2, null=null
            )["x"]
            for name, who, null in [
                ("null", victims, leakage.others),
                ("swapped", swapped, None),
            ]
        ]
        np.testing.assert_allclose(found[0], found[1], atol=1e-5)

    @pytest.mark.parametrize("null", [leakage.others, leakage.zeros])
    def test_in_a_null_case_nothing_is_the_victims(self, start, null):
        lone, told = clients.choose(images(), 1, 2, 0), []

        def attack(key, knowledge, config) -> Reconstruction:
            shared = knowledge.update, knowledge.statistics
            seen = knowledge.labels, knowledge.similar, *shared
            jax.debug.callback(lambda *each: told.append(each), *seen)
            return inverting_gradients.attack(key, knowledge, config)

        def run(name, change, who):
            knowing = adversary(
                attack,
                knows=frozenset({"labels", "statistics"}),
                first_guess=initial_images.same_class,
            )
            given = {"recipe": Recipe(train=True), "chunk": 1, "null": change}
            leakage.recover(start, name, who, knowing, normalized(), **given)
            return told[-1]

        labels, similar, *shared = run("null", null, lone)
        np.testing.assert_array_equal(labels, lone.spare["labels"])
        np.testing.assert_array_equal(similar, lone.spare["similar"])
        assert not np.array_equal(lone.spare["x"], lone.x)
        expected = run("spare", None, dataclasses.replace(lone, **lone.spare))[2:]
        if null is leakage.zeros:
            expected = jax.tree.map(np.zeros_like, expected)
        assert len(jax.tree.leaves(shared[1])) == 2
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            tuple(shared),
            tuple(expected),
        )

    def test_each_epoch_but_the_first_has_an_order_of_its_own(self):
        orders = np.array(leakage._orders(jax.random.key(0), 3, 6)).reshape(3, 6)
        np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(6), (3, 1)))
        np.testing.assert_array_equal(orders[0], np.arange(6))
        assert len({tuple(order) for order in orders}) == 3

    @pytest.mark.parametrize("taken", [1, 2])
    def test_epochs_are_trained_in_their_orders(self, start, victims, taken):
        told = []

        def attack(key, knowledge, config) -> Reconstruction:
            jax.debug.callback(told.append, jax.tree.leaves(knowledge.update)[-1])
            return inverting_gradients.attack(key, knowledge, config)

        who = adversary(attack, knows=frozenset({"labels"}))
        recipe = Recipe(local_steps=4 // taken, local_batch=taken)
        for epochs in (1, 2):
            given = {"recipe": recipe, "epochs": epochs, "chunk": 5}
            leakage.recover(start, f"{epochs}", victims, who, tiny.target(), **given)
        same = [np.allclose(*pair, atol=1e-6) for pair in zip(*told, strict=True)]
        assert all(same) if taken == 2 else not all(same)  # A whole batch has no order.

    def test_programs_are_compiled_once(self, start, victims):
        leakage.recover(start, "1", victims, adversary(), tiny.target(1), chunk=5)
        compiled = start.seconds["compile"]
        other = dataclasses.replace(start, key=jax.random.key(1))
        leakage.recover(other, "2", victims, adversary(), tiny.target(2), chunk=5)
        assert start.seconds["compile"] == compiled  # Both runs share their seconds.

    def test_what_does_not_fit_together_is_attacked_in_turn(
        self, start, victims, monkeypatch, capsys
    ):
        searches = dataclasses.replace(CONFIG, restarts=32)  # They take the memory.
        needs, need = [], memory.need

        def recorded(program):
            needs.append(need(program))
            return needs[-1]

        def run(name):
            leakage._program.cache_clear()
            who = adversary(config=searches)
            found = leakage.recover(start, name, victims, who, tiny.target(), chunk=5)
            return found["x"]

        monkeypatch.setattr(memory, "need", recorded)
        whole = run("whole")
        monkeypatch.setattr(memory, "limit", lambda: needs[0] - 1)
        np.testing.assert_allclose(run("in_turn"), whole, atol=1e-5)
        assert "5 at a time would not fit" in capsys.readouterr().out


class TestVerdicts:
    def judged(self, victims, **found):
        records, ordered = leakage.judged(
            victims, found, {"attack": "toy"}, {"": 0.01, "exact": 1e-8}
        )
        return Results(records), ordered

    def test_truth_is_a_success_and_noise_is_none(self, victims):
        results, ordered = self.judged(victims, x=victims.x[:, ::-1])
        np.testing.assert_array_equal(ordered, victims.x)
        for criterion in ("", "exact"):
            assert results.value("success_rate", criterion=criterion).value == 1
        assert results.value("psnr").value == 100
        assert results.value("mse").leakage == 1
        assert results.value("mse").n == 10
        guess = np.random.default_rng(1).uniform(size=victims.x.shape)
        results, _ = self.judged(victims, x=guess.astype(np.float32))
        assert results.value("success_rate", criterion="").value == 0
        leaked = results.value("mse").leakage
        assert leaked is not None and leaked < 0

    def test_what_is_not_finite_is_a_failure_that_counts(self, victims):
        broken = victims.x.copy()
        broken[0] = np.nan
        results, _ = self.judged(victims, x=broken)
        success = results.value("success_rate", criterion="")
        assert success.value == 0.8 and success.n == 10
        assert results.value("mse").failed == 2

    def test_labels_are_beside_a_balanced_guess(self, victims):
        def baseline(labels, classes):
            truth = dataclasses.replace(
                victims, labels=np.array(labels), num_classes=classes
            )
            value = leakage.label_accuracy(truth, truth.labels).baseline
            assert value is not None
            return value

        # Of 0012, 1120 and 2201 all of the four are right, or three.
        np.testing.assert_allclose(baseline([[0, 1, 2, 0]], 3), 10 / 12)
        np.testing.assert_allclose(baseline([[4], [4]], 5), 1 / 5)
        labels = np.random.default_rng(0).integers(0, 10, (500, 16))
        assert 0.65 < baseline(labels, 10) < 0.75

    def test_steps_of_the_fall(self):
        trace = np.array([[8, 4, 2, 0.001, 0.0], [5, np.nan, 1, 1, 1], [3, 3, 3, 3, 3]])
        worse = np.full_like(trace, 9.0)
        both = np.stack([worse, trace], 1)
        np.testing.assert_array_equal(leakage.steps_of_the_fall(both), [3, 2, 0])


class TestPapers:
    def test_labels_that_are_told_are_not_judged(self, start, victims):
        knowing = adversary(knows=frozenset({"labels"}))
        found = leakage.recover(start, "told", victims, knowing, tiny.target(), chunk=5)
        assert "labels" not in found

    def test_who_attacks_a_defense_by_a_prior_has_one(self, victims):
        whole = Defended(labels={"defense": "none"})
        study = dataclasses.replace(paper("li2022_ggl").QUICK, defenses=(whole,))

        def names(whose):
            found = leakage.cells(study, study.cases[0], whose, False)
            return [attack.labels["adversary"] for attack, _ in found]

        faces = dataclasses.replace(victims, prior="faces64")
        anyone = ["naive", "adaptive", "bayes"]
        assert names(victims) == anyone
        assert {*names(faces)} - {*anyone} == {"generator", "trained", "trained_null"}

    def test_colored_guesses_are_for_colored_images(self, victims):
        study = paper("wei2020_cpl").PAPER
        found = leakage.cells(study, study.cases[1], victims, False)
        guesses = {attack.labels["guess"] for attack, _ in found}
        assert "dark" in guesses and "red" not in guesses

    def test_threats_follow_from_what_is_known(self):
        threats = {
            name: a.threat
            for name, a in paper(
                "geiping2020_inverting_gradients"
            ).QUICK.attacks.items()
        }
        assert threats["dlg"] == "C" and threats["inverting_gradients"] == "D"
        assert threats["shared_statistics"] == "E"

    def test_batch_normalization_is_in_training_mode_first(self):
        cases = [
            c for c in paper(GEIPING).QUICK.cases if c.labels["network"] == "resnet20"
        ]
        assert [case.train for case in cases] == [True, False] * 4

    def test_statistics_are_shared_in_training_mode_alone(self, victims):
        study = paper(GEIPING).QUICK
        for train in (True, False):
            case = dataclasses.replace(study.cases[-1], train=train)
            found = leakage.cells(study, case, victims, True)
            shared = [attack for attack, _ in found if "statistics" in attack.knows]
            assert len(shared) == train


def small_study(dataset):
    return Study(
        title="Toy",
        cases=(
            Case(dataset, Model(lambda classes: MLP(classes, (6,))), 3, 2),
            Case(dataset, Model(lambda classes: Normalized()), 3, 2, networks=3),
        ),
        attacks={"toy": Attack(inverting_gradients, CONFIG, {"attack": "toy"})},
        caption="All",
        table={"metric": ("psnr", "target_test_accuracy"), "mode": ""},
        rows=("attack", "defense", "strength"),
        columns=("metric",),
        grid=("data",),
        contrast={"defense": "gaussian"},
        curves=(),
        more=lambda *_: [Record({"attack": "expected"}, "success_rate", Metric(1.0))],
        defenses=(
            Defended(labels={"defense": "none"}),
            Defended(
                lambda batch: noise.gaussian(0.1),
                {"defense": "gaussian", "strength": "0.1"},
            ),
        ),
    )


def test_a_small_study_is_measured(start, monkeypatch):
    monkeypatch.setattr(clients, "load", lambda *_: images())
    given = types.SimpleNamespace(chunk=None, null="none")
    monkeypatch.setattr(leakage.flags, "FLAGS", given)
    start.figures.mkdir()
    page = leakage.measure(start, small_study("toy"))
    modes = {record.label("mode") for record in page.results}
    assert modes == {"", "training"}
    assert "Among gaussian the best" in page.verdict and "mean image" in page.verdict
    told = {str(name): str(line) for name, line in page.tables[0].rows}
    assert told["batch normalization"] == "training"
    assert told["post-processing"] == "none, gaussian"
    assert told["threat model of Carletti et al. (2025)"].startswith("C, parameter")
    assert page.n == 24  # Images, through two defenses, of two networks.
    drawn = sorted(path.stem for path in (start.workdir / "results").glob("*training*"))
    assert len(drawn) == 6 and drawn[1].endswith("network_1-000000")


def test_data_sets_of_other_shapes_share_no_model(start, monkeypatch):
    small = images()
    wide = dataclasses.replace(small, name="wide", images=small.images[:, :7])
    monkeypatch.setattr(clients, "load", lambda n, *_: {"toy": small, "wide": wide}[n])
    given = types.SimpleNamespace(chunk=None, null="none")
    monkeypatch.setattr(leakage.flags, "FLAGS", given)
    start.figures.mkdir()
    study = small_study("toy")
    first = dataclasses.replace(study.cases[0], model=Model(_perceptron))
    both = tuple(dataclasses.replace(first, dataset=n) for n in ("toy", "wide"))
    one = {"defenses": study.defenses[:1], "rows": ("data", *study.rows)}
    study = dataclasses.replace(study, cases=both, **one)
    page = leakage.measure(start, study)
    assert {record.label("data") for record in page.results} == {"toy", "wide", ""}


def _perceptron(classes):
    return MLP(classes, (6,))


def test_curves_stand_beside_their_baseline(tmp_path):
    def record(defense, strength, value):
        labels = {"defense": defense} | ({"strength": strength} if strength else {})
        return Record(labels, "psnr", Metric(value, 1.0, 3.0, baseline=0.5))

    results = Results(
        [record("none", "", 9.0)]
        + [record("prune", s, 2.0) for s in ("0.1", "0.5")]
        + [record("sign", "1", 2.0)]
    )
    axes = {"xlabel": "strength", "ylabel": "dB"}
    curve = Curve(
        "strength",
        {"metric": "psnr"},
        ("metric",),
        axes,
        ("defense",),
        {"defense": "none"},
    )
    (picture,) = curves.draw([curve], results, tmp_path)  # Of two numbers: none.
    assert picture.path.name == "prune_by_strength.png" and picture.path.is_file()


def test_a_defended_task_learns_less(start):
    loaded = images(120)
    brighter = loaded.images * 0.1 + loaded.labels[:, None, None, None] * 0.4
    task = data.train_test(
        dataclasses.replace(loaded, images=brighter.astype(np.float32)),
        test_fraction=0.3,
    )
    learned = utility.Task(steps=80, batch_size=40, learning_rate=0.1)

    def accuracy(name, defense):
        hits = utility.hits(start, name, tiny.target(), task, defense, learned)
        return hits.mean()

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
    "--dataset=att_faces",
    "--num_victims=3",
    *(f"--attacks={name}" for name in ("cpl_patterned_8x8", "cpl_normal", "dlg")),
    "--cpl.steps=3",
    "--dlg.steps=3",
    "--chunk=2",
)


def begin(workdir, *given):
    command = [sys.executable, "-m", "experiments", "wei2020_cpl", *SMALL, *given]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}", f"--data_dir={workdir.parent}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def run(workdir, *given):
    process = begin(workdir, *given)
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
    records = json.loads((finished / "result.json").read_text())["records"]
    lines = {
        (record["labels"]["attack"], record["labels"].get("guess")): record
        for record in records
        if record["metric"] == "mse"
    }
    assert set(lines) == {
        *(("cpl", "patterned_8x8"), ("cpl", "normal"), ("dlg", "normal")),
        *(("mean_image", None), ("prior_sample", None)),
    }
    assert lines["cpl", "normal"]["n"] == 3
    assert lines["cpl", "normal"]["baseline"] > 0
    page = (finished / "report.html").read_text()
    assert "How close to practice" in page and "--attacks=cpl_normal" in page
    assert (finished / "figures" / "recovered_att_faces.png").is_file()


@pytest.mark.process
@pytest.mark.slow
def test_refuses_flags_in_one_line(finished):
    for flag, message in [
        ("--cpl.steps=-1", "--cpl.steps=-1 is negative"),
        ("--seed=1", "--seed=0, not 1"),
    ]:
        code, output = run(finished, flag)
        assert code == 2 and message in output and "Traceback" not in output


@pytest.mark.process
@pytest.mark.slow
def test_killed_it_resumes_without_a_victim_twice(finished, tmp_path):
    workdir = tmp_path / "run"
    process = begin(workdir)
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
