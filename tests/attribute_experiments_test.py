"""The experiments of attribute inference: baselines that cannot flatter, and a run."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments.attribute_inference import hidano2017, verdicts, zhao2021
from experiments.attribute_inference import setting as settings
from mijax.attacks import map_inference
from mijax.data import tables
from mijax.knowledge import normal
from mijax.models import linear

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def table():
    """`known` betrays `secret` in three of four; `coin` betrays nothing."""
    rng = np.random.default_rng(0)
    secret = rng.integers(0, 2, 800)
    columns = {
        "known": np.where(rng.random(800) < 0.75, secret, 1 - secret),
        "coin": rng.normal(size=800),
        "secret": np.array(["no", "yes"])[secret],
        "y": 2.0 * secret + rng.normal(0, 0.5, 800),
    }
    return tables.from_columns("planted", columns, sensitive=["secret"], target="y")


@pytest.fixture(scope="module")
def setting(table):
    return settings.make(table, "secret", 0, lambda t: t.outcome.astype(np.float32))


def accuracy(beliefs, truth):
    return np.mean(beliefs.argmax(1) == truth)


def test_imputations_are_no_better_on_members_than_on_others(setting):
    for victims in (setting.train, setting.test):
        assert accuracy(victims.imputed, victims.truth) == pytest.approx(0.75, abs=0.06)
        assert accuracy(victims.informed, victims.truth) > 0.93
        np.testing.assert_allclose(victims.imputed.sum(1), 1, atol=1e-6)
    assert len(np.intersect1d(setting.train.record, setting.test.record)) == 0
    best = settings.ideal(setting.test, setting.encoder, "secret")
    assert np.mean(best == setting.test.truth) == 1


def test_lines_stand_beside_their_baseline(setting):
    target = linear.target(linear.ridge(setting.train.x, setting.train.outcome))
    found = settings.without_target(setting)
    for side in settings.SIDES:
        known = setting.knowledge(target, side, error=normal(0.5))
        found |= settings.inferred(
            side, "map", map_inference.attack(settings.key(0, "x"), known)
        )
    assert verdicts.rows(found, "test") == [
        "mode",
        "imputation",
        "imputation_with_outcome",
        "map",
    ]
    lines = verdicts.lines([found, found], "planted", "test", "map", value=1)
    line = lines["attribute_accuracy/planted"]
    # The adversary knows the outcome, and so does who stands beside it.
    informed = verdicts.accuracy([found], "test", "imputation_with_outcome").mean()
    assert min(line.value, informed) > 0.93
    assert line.baseline == pytest.approx(informed)
    assert line.leakage == pytest.approx(
        (line.value - line.baseline) / (1 - line.baseline)
    )
    for row in ("mode", "imputation", "imputation_with_outcome"):
        own = verdicts.lines([found], "own", "test", row)
        assert all(each.baseline is None for each in own.values())
    # Two seeds that attack the same records know no more than one.
    alone = verdicts.lines([found], "planted", "test", "map", value=1)
    for name in ("accuracy", "precision", "recall"):
        twice, once = (x[f"attribute_{name}/planted"] for x in (lines, alone))
        assert twice.n == 2 * once.n
        assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.03)
    assert set(lines) == {
        f"attribute_{name}/planted"
        for name in ("accuracy", "auc", "gmean", "mcc", "precision", "recall")
    }
    beside = verdicts.beats([found], "map", "test", "map", "imputation")
    assert "beats imputation: " in beside
    assert "does not beat" in verdicts.beats([found], "map", "test", "map")


def test_who_reads_a_prediction_stands_beside_who_knows_as_much(
    table, tmp_path, monkeypatch
):
    monkeypatch.setattr(hidano2017, "SHARES", (0.0, 0.1, 0.2))
    monkeypatch.setattr(hidano2017, "POISONS", {"corner": hidano2017.POISONS["corner"]})
    found = [hidano2017.measure(table, seed=0)]
    page = hidano2017.page({"planted": table}, {"planted": found}, tmp_path)
    for row, without in {
        "corner-share_0.1": "mode",
        "true_outcome-share_0.1": "imputation_from_outcome_alone",
        "all_known": "imputation",
        "all_known_true_outcome": "imputation_with_outcome",
    }.items():
        line = page.metrics[f"attribute_accuracy/planted-{row}"]
        expected = verdicts.accuracy(found, "test", without).mean()
        assert line.baseline == pytest.approx(expected), row


def test_few_seeds_get_students_interval():
    rng = np.random.default_rng(0)
    lines = [verdicts.over_seeds(rng.normal(size=5)) for _ in range(400)]
    covered = np.mean([line.low <= 0 <= line.high for line in lines])
    assert covered == pytest.approx(0.95, abs=0.03)


def test_a_gain_within_its_interval_beats_nothing():
    truth = np.zeros(100, int)

    def seed(hits):
        guess = (np.arange(100) >= hits).astype(int)
        record = np.arange(100)
        return {
            "test.truth": truth,
            "test.record": record,
            "test.map.guess": guess,
            "test.imputation_with_outcome.guess": (record < 50).astype(int),
        }

    for seeds in ([seed(52)], [seed(52)] * 5):
        assert "does not beat" in verdicts.beats(seeds, "map", "test", "map")
    assert "attack beats" in verdicts.beats([seed(90)], "map", "test", "map")


def test_seeds_and_keys_differ():
    assert set(settings.seeds(0, 5)).isdisjoint(settings.seeds(1, 5))
    keys = [settings.key(0, name) for name in ("a", "b")] + [settings.key(1, "a")]
    assert len({str(key) for key in keys}) == 3


def run(workdir, *flags):
    command = [sys.executable, "-m", "experiments.attribute_inference"]
    command += [f"--workdir={workdir}", "--paper=zhao2021", *flags]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ
    )


def test_a_page_holds_every_line(tmp_path, monkeypatch):
    monkeypatch.setattr(zhao2021, "STEPS", {"purchases": 50})
    monkeypatch.setattr(zhao2021, "DISTANCES", (1, 100))
    monkeypatch.setattr(zhao2021, "BITS", {2: 1})
    people = {"purchases": zhao2021.load("purchases", None)}
    found = {"purchases": [zhao2021.measure(people["purchases"], seed=0)]}
    page = zhao2021.page(people, found, tmp_path)
    assert page.n == 2 * zhao2021.VICTIMS / 2
    assert page.metrics["membership_auc/purchases-distance_100"].value > 0.9
    assert page.metrics["attribute_accuracy/purchases-bits_2-others"].n == 400
    assert all(pathlib.Path(picture.path).is_file() for picture in page.pictures)
    assert "does not beat an imputation" in page.caveats[0]
    assert "does not beat the majority" in page.caveats[1]


@pytest.mark.process
@pytest.mark.slow
def test_a_paper_is_redrawn_and_not_twice(tmp_path):
    flags = "--dataset=purchases", "--num_seeds=1"
    done = run(tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    near = metrics["membership_auc/purchases-distance_1"]["value"]
    far = metrics["membership_auc/purchases-distance_20"]["value"]
    assert near <= 0.6 and far >= 0.9
    figures = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert figures == {"purchases_membership.png", "purchases_exact.png"}
    again = run(tmp_path / "run", *flags)
    assert again.returncode == 0 and "seed 0:" not in again.stdout
    refused = run(tmp_path / "run", "--dataset=iwpc")
    assert refused.returncode == 2
    assert "error:" in refused.stderr.strip().splitlines()[-1]
