"""The study of attribute inference: baselines that cannot flatter, and a run."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from experiments.harness import observations
from experiments.harness.observations import Observation
from experiments.harness.run import Run
from experiments.studies import attributes
from experiments.studies.attributes import (
    IMPUTED,
    INFORMED,
    MODE,
    OTHERS,
    Attack,
    Network,
)
from mijax.attacks import map_inference
from mijax.data import roles, tables
from mijax.data.tables import purchases
from mijax.knowledge import normal
from mijax.models import trees

hidano2017, zhao2021 = map(tiny.paper, ("attributes.hidano2017", "attributes.zhao2021"))
ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def people():
    """`known` betrays `secret` in three of four; `coin` betrays nothing."""
    rng = np.random.default_rng(0)
    secret = rng.integers(0, 2, 800)
    columns = {
        "known": np.where(rng.random(800) < 0.75, secret, 1 - secret),
        "coin": rng.normal(size=800),
        "secret": np.array(["no", "yes"])[secret],
        "y": 2.0 * secret + rng.normal(0, 0.5, 800),
    }
    table = tables.from_columns("planted", columns, sensitive=["secret"], target="y")
    rows = tables.split_rows(table)
    return roles.People(table, ("secret",), lambda seed: rows)


@pytest.fixture(scope="module")
def study():
    return dataclasses.replace(
        hidano2017.QUICK,
        outcome=lambda table: table.outcome.astype(np.float32),
        targets={"ridge": attributes.ridge()},
        attacks={
            "map": Attack(
                map_inference,
                lambda case, victims: case.known(victims, error=normal(0.5)),
                without=(INFORMED, IMPUTED),
            )
        },
        measure=None,
    )


@pytest.fixture(scope="module")
def found(study, people):
    return attributes.attack_people(study, "planted", people, 0)


def accuracy(beliefs, truth):
    return np.mean(beliefs.argmax(1) == truth)


def test_imputations_are_no_better_on_members_than_on_non_members(study, people):
    split = attributes.split_people(study, "planted", people, "secret", 0)
    for victims in split.sides:
        assert accuracy(victims.imputed, victims.truth) == pytest.approx(0.75, abs=0.06)
        assert accuracy(victims.informed, victims.truth) > 0.93
        np.testing.assert_allclose(victims.imputed.sum(1), 1, atol=1e-6)
    assert len(np.intersect1d(split.members.row, split.others.row)) == 0


def test_an_attack_has_the_baseline_that_knows_as_much(found):
    results = observations.collect(found)
    labels = {"data": "planted", "field": "secret", "records": OTHERS}
    line = results.value("attribute_accuracy", adversary="map", **labels)
    informed = results.value("attribute_accuracy", adversary=INFORMED, **labels).value
    # The adversary knows the outcome, and so does its baseline.
    assert min(line.value, informed) > 0.93
    assert line.baseline == pytest.approx(informed)
    assert line.leakage == pytest.approx(
        (line.value - line.baseline) / (1 - line.baseline)
    )
    for adversary in (MODE, IMPUTED, INFORMED):
        own = results.filter(adversary=adversary)
        assert len(own) and all(record.value.baseline is None for record in own)
    gains = results.filter(metric="attribute_gain", **labels)
    low = {record.labels["over"]: record.value.low for record in gains}
    assert low[IMPUTED] > 0 >= low[INFORMED]
    assert {r.metric for r in results.filter(adversary="map", **labels)} == {
        f"attribute_{name}"
        for name in ("accuracy", "auc", "gain", "gmean", "mcc", "precision", "recall")
    }


def test_two_seeds_of_the_same_people_know_no_more_than_one(found):
    twice, once = (
        observations.collect(each).filter(adversary="map", records=OTHERS)
        for each in ([*found, *found], found)
    )
    for name in ("accuracy", "precision", "recall"):
        two, one = (each.value(f"attribute_{name}") for each in (twice, once))
        assert two.n == 2 * one.n
        assert two.high - two.low == pytest.approx(one.high - one.low, rel=0.03)


def test_observations_come_back_from_a_file(found, tmp_path):
    np.savez(tmp_path / "seed.npz", **observations.packed(found))
    with np.load(tmp_path / "seed.npz", allow_pickle=False) as arrays:
        back = observations.unpacked(arrays)
    for one, other in zip(found, back, strict=True):
        assert (one.labels, one.metric) == (other.labels, other.metric)
        assert one.without == other.without
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.people, other.people)


def test_who_reads_a_prediction_stands_beside_who_knows_as_much(people, monkeypatch):
    monkeypatch.setattr(hidano2017, "SHARES", {"10 %": 0.1})
    quick = hidano2017.QUICK
    corner = dataclasses.replace(quick, attacks={"corner": quick.attacks["corner"]})
    found = hidano2017.measure(corner, "planted", people, 0)
    results = observations.collect(found).filter(
        metric="attribute_accuracy", records=OTHERS
    )
    for adversary, share, without in (
        (hidano2017.PREDICTION, "10 %", MODE),
        (hidano2017.OUTCOME, "10 %", hidano2017.OUTCOME_ALONE),
        (hidano2017.BOTH_PREDICTION, "", IMPUTED),
        (hidano2017.BOTH_OUTCOME, "", INFORMED),
    ):
        line = results.value("attribute_accuracy", adversary=adversary, share=share)
        expected = results.value("attribute_accuracy", adversary=without).value
        assert line.baseline == pytest.approx(expected), adversary


def test_few_seeds_get_students_interval():
    rng = np.random.default_rng(0)
    lines = [observations.over_seeds(rng.normal(size=5)) for _ in range(400)]
    covered = np.mean([line.low <= 0 <= line.high for line in lines])
    assert covered == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(
    ("hits", "seeds", "beats"), [(52, 1, False), (52, 5, False), (90, 1, True)]
)
def test_a_gain_within_its_interval_beats_nothing(hits, seeds, beats):
    row = np.arange(100)
    seed = [
        Observation({"adversary": who}, "attribute_accuracy", row < n, row, without)
        for who, n, without in (("map", hits, (MODE,)), (MODE, 50, ()))
    ]
    results = observations.collect(seed * seeds)
    assert (results.value("attribute_gain").low > 0) == beats


def test_an_adversary_is_compared_with_one_that_is_told_apart():
    row = np.arange(4)
    seed = [
        Observation(labels | {"adversary": who}, "attribute_accuracy", row > 1, row, to)
        for who, labels, to in (
            ("map", {"field": "a", "side": "b"}, (MODE,)),
            (MODE, {"field": "a"}, ()),
            (MODE, {"side": "b"}, ()),
        )
    ]
    with pytest.raises(ValueError, match="2 adversaries called 'mode'"):
        observations.collect(seed)


def test_keys_differ():
    keys = [attributes.key(0, name) for name in ("a", "b")] + [attributes.key(1, "a")]
    assert len({str(key) for key in keys}) == 3


@pytest.mark.parametrize("classes", [True, False])
def test_a_padded_tree_answers_as_before(people, study, classes):
    split = attributes.split_people(study, "planted", people, "secret", 0)
    if classes:
        outcome = jnp.asarray((np.asarray(split.members.outcome) > 1).astype(np.int32))
        members = split.members._replace(outcome=outcome)
        split = dataclasses.replace(split, members=members)
    padded, paths = attributes.tree(4)(split)
    assert padded.params.feature.shape[1] == 1024 and padded.params.depth == 4
    assert (paths is not None) == classes
    twice, _ = trees.padded(padded, nodes=2000)
    x = split.others.x
    np.testing.assert_array_equal(twice.predict(x).logits, padded.predict(x).logits)
    if paths is not None:
        assert paths.counts.sum() == len(members.row)


def test_bins_of_numbers_and_codes_of_categories(people):
    encoder = tables.Encoder.fit(people.table)
    x = encoder.encode(people.table)
    width = np.ones(encoder.width)
    fields = encoder.binned(x, -width, width, 4)
    coin = [field.name for field in encoder.fields].index("coin")
    code, middles = fields[coin]
    np.testing.assert_allclose(middles[:, 0], [-0.75, -0.25, 0.25, 0.75])
    value = np.clip(x[:, encoder.columns["coin"].start], -1, 1)
    assert np.abs(middles[code, 0] - value).max() <= 0.25 + 1e-6
    secret = [field.name for field in encoder.fields].index("secret")
    np.testing.assert_array_equal(fields[secret][0], people.table["secret"])


def test_a_page_holds_every_record(tmp_path, monkeypatch):
    monkeypatch.setattr(zhao2021, "BITS", {1: 1, 3: 1, 6: 1})
    monkeypatch.setattr(zhao2021, "VICTIMS", 100)
    for folder in ("figures", "results"):
        (tmp_path / folder).mkdir()
    study = dataclasses.replace(
        zhao2021.QUICK,
        seeds=1,
        data={"purchases": lambda _: roles.halves(purchases.draw(), 600)},
        targets={"purchases": Network(32, 50)},
    )
    page = attributes.measure(Run(tmp_path, jax.random.key(0)), study)
    assert page.n == 100
    exact = {"adversary": zhao2021.EXACT, "bits": "3", "records": OTHERS}
    line = page.results.value("attribute_accuracy", **exact)
    assert line.n == 100 and line.baseline is not None
    near, far = (
        page.results.value("membership_auc", distance=distance).value
        for distance in ("1", "40")
    )
    assert near < far
    assert all(
        pathlib.Path(picture.path).is_file() for picture in (page.lead, *page.pictures)
    )
    assert "0 of 3 attacks on members" in page.verdict


def run(workdir, *flags):
    command = [sys.executable, "-m", "experiments", "zhao2021", f"--workdir={workdir}"]
    return subprocess.run(
        [*command, *flags], cwd=ROOT, capture_output=True, text=True, env=os.environ
    )


@pytest.mark.process
@pytest.mark.slow
def test_a_paper_is_redrawn_and_not_twice(tmp_path):
    flags = "--dataset=purchases", "--seeds=1"
    done = run(tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    records = json.loads((tmp_path / "run" / "result.json").read_text())["records"]
    areas = {
        record["labels"]["distance"]: record["value"]
        for record in records
        if record["metric"] == "membership_auc"
    }
    assert areas["1"] <= 0.6 and areas["20"] >= 0.9
    figures = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert figures == {"purchases_membership.png", "purchases_exact.png"}
    before = (tmp_path / "run" / "results" / "purchases-0.npz").stat().st_mtime_ns
    again = run(tmp_path / "run", *flags)
    assert again.returncode == 0
    after = (tmp_path / "run" / "results" / "purchases-0.npz").stat().st_mtime_ns
    assert before == after
    refused = run(tmp_path / "run", "--dataset=iwpc")
    assert refused.returncode == 2
    assert "error:" in refused.stderr.strip().splitlines()[-1]
