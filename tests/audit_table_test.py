"""The audit of a user's model: planted memory is found, and none where none is."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from experiments.attribute_inference import auditing
from mijax.data import tables

ROOT = pathlib.Path(__file__).parents[1]
ROWS = 600


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A CSV in which the field, `smokes`, is a coin, and the outcome another."""
    rng = np.random.default_rng(0)
    columns = {
        "age": rng.integers(18, 90, ROWS),
        "sex": rng.choice(["f", "m"], ROWS),
        "smokes": rng.choice(["no", "yes"], ROWS),
        "risk": rng.choice(["high", "low"], ROWS),
        "trained": np.repeat([1, 0], ROWS // 2),
    }
    path = tmp_path_factory.mktemp("audit") / "people.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path, columns


def load(path, sensitive="smokes", target="risk", members="trained", **options):
    return auditing.load(
        f"csv:{path}", None, [sensitive], target, members, options.get("without", [])
    )


def audited(path, predict):
    table, members = load(path)
    rows = tables.Rows(np.flatnonzero(members), np.flatnonzero(~members))
    found, setting = auditing.audit(table, "smokes", rows, predict, seed=0)
    return auditing.judge(found, "smokes"), table, setting, found


def test_finds_the_memory_of_a_model_that_remembers(people):
    path, columns = people
    known = np.column_stack(
        [columns["age"], columns["sex"] == "m", columns["smokes"] == "yes"]
    )
    member = columns["trained"] == 1
    model = DecisionTreeClassifier(random_state=0)
    model.fit(known[member], columns["risk"][member])

    def predict(given):
        assert set(given) == {"age", "sex", "smokes"}
        x = [given["age"], given["sex"] == "m", given["smokes"] == "yes"]
        return model.predict_proba(np.column_stack(x))

    lines, table, setting, found = audited(path, predict)
    for row in ("map", "map_confidence", "csmia"):
        assert lines[f"attribute_gain/smokes-{row}-members"].low > 0
        assert abs(lines[f"attribute_gain/smokes-{row}-others"].value) < 0.12
        assert lines[f"advantage/smokes-{row}"].low > 0
        assert ": memory of members" in " ".join(auditing.verdict(lines, "smokes"))
    groups = auditing.by_group(table, setting, found, "smokes", ["sex"])
    assert [row[0] for row in groups.rows] == ["sex: f", "sex: m"]
    assert sum(row[1] for row in groups.rows) == ROWS // 2


def test_finds_nothing_in_a_model_that_ignores_the_field(people):
    path, _ = people

    def predict(given):
        high = (given["age"] % 2)[:, None]
        return np.concatenate([high, 1 - high], 1)

    lines, *_ = audited(path, predict)
    for row in ("map", "map_confidence"):
        for side in ("members", "others"):
            line = lines[f"attribute_gain/smokes-{row}-{side}-beside_imputation"]
            assert line.value == 0  # the prior comes back exactly
            assert lines[f"attribute_gain/smokes-{row}-{side}"].low < 0
    assert "adds nothing" in auditing.verdict(lines, "smokes")[1]


def test_what_the_outcome_says_is_not_laid_to_the_model():
    """Of members the outcome says all, and the attack no more; of others nothing."""
    truth = np.tile([0, 1], 100)
    blind, sure = np.zeros_like(truth), truth
    found = {"train.truth": truth, "test.truth": truth}
    for side, informed in (("train", sure), ("test", blind)):
        for row, guess in (
            ("mode", blind),
            ("imputation", blind),
            ("imputation_with_outcome", informed),
            ("map", informed),
        ):
            found[f"{side}.{row}.guess"] = guess
            found[f"{side}.{row}.beliefs"] = np.eye(2)[guess]
    lines = auditing.judge(found, "smokes")
    assert lines["attribute_gain/smokes-map-members"].value == 0
    assert lines["attribute_gain/smokes-map-members-beside_imputation"].low > 0.4
    assert lines["advantage/smokes-map"].value == 0
    accuracy = lines["attribute_accuracy/smokes-map-others"]
    assert accuracy.baseline == 0.5 and accuracy.leakage == 0
    assert ": no memory of members" in auditing.verdict(lines, "smokes")[-1]


def test_labels_and_numbers_are_answers_too(people):
    path, _ = people

    def label(given):
        return np.where(given["smokes"] == "yes", "high", "low")

    lines, *_ = audited(path, label)
    assert "attribute_gain/smokes-csmia-members" in lines

    table, members = load(path, target="age")
    rows = tables.Rows(np.flatnonzero(members), np.flatnonzero(~members))
    found, _ = auditing.audit(
        table, "smokes", rows, lambda given: 50 + (given["smokes"] == "yes"), 0
    )
    assert "train.map.guess" in found and "train.csmia.guess" not in found


def test_a_file_is_opened_only_if_it_is_trusted(people, tmp_path):
    _, columns = people
    model = DecisionTreeClassifier(max_depth=2)
    model.fit(columns["age"][:, None], columns["risk"])
    path = tmp_path / "model.joblib"
    joblib.dump(model, path)
    with pytest.raises(ValueError, match="--trust_model_file"):
        auditing.open_model(str(path), trust=False)
    predict = auditing.open_model(str(path), trust=True)
    answer = predict({"age": columns["age"].astype(float)})
    np.testing.assert_array_equal(
        answer.argmax(1) == 0, model.predict(columns["age"][:, None]) == "high"
    )
    with pytest.raises(ValueError, match="'sex' holds text"):
        predict({"sex": columns["sex"].astype(object)})
    joblib.dump([1, 2], path)
    with pytest.raises(ValueError, match="list, which does not predict"):
        auditing.open_model(str(path), trust=True)
    with pytest.raises(FileNotFoundError, match="no such file"):
        auditing.open_model(str(tmp_path / "none.joblib"), trust=True)
    with pytest.raises(ValueError, match="cannot be imported"):
        auditing.open_model("nothing_here:predict", trust=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sensitive": "smoke"}, "no column 'smoke'"),
        ({"sensitive": "risk"}, "both sensitive and the target"),
        ({"sensitive": "age"}, "cut it into categories first"),
        ({"target": "dose"}, "no column 'dose'"),
        ({"members": "member"}, "no column 'member'"),
        ({"members": "sex"}, "holds 'f'"),
        ({"members": "smokes"}, "sensitive or the target as well"),
        ({"without": ["id"]}, "no column 'id'"),
    ],
)
def test_refuses_columns_that_cannot_be(people, options, message):
    with pytest.raises(ValueError, match=message):
        load(people[0], **options)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda given: np.ones((len(given["age"]), 3)), "must be probabilities"),
        (lambda given: np.full(len(given["age"]), "middling"), "predicts 'middling'"),
        (lambda given: ["high"], r"answers \(1,\) for 600 rows: it must"),
        (lambda given: given["dose"], r"<lambda> fails on 600 rows: KeyError: 'dose'"),
    ],
)
def test_refuses_answers_that_fit_no_target(people, answer, message):
    table, _ = load(people[0])
    encoder = tables.Encoder.fit(table, one_hot=False, standardize=False)
    ask = auditing.answering(table, encoder, answer)
    with pytest.raises(ValueError, match=message):
        ask(encoder.encode(table))


def test_a_model_that_fails_within_a_callback_fails_in_one_line(people, caplog):
    calls = []

    def predict(given):
        calls.append(1)
        if len(calls) > 1:
            raise KeyError("dose")
        return np.full(len(given["age"]), "high")

    with pytest.raises(ValueError, match=r"^The model .*predict fails .*'dose'$"):
        audited(people[0], predict)
    assert not caplog.records


def test_numbers_of_another_shape_are_refused(people):
    table, _ = load(people[0], target="age")
    encoder = tables.Encoder.fit(table, one_hot=False, standardize=False)
    for answer in (np.ones((ROWS, 2)), np.full(ROWS, "old")):
        ask = auditing.answering(table, encoder, lambda given, answer=answer: answer)
        with pytest.raises(ValueError, match="it must be one number a row"):
            ask(encoder.encode(table))


def rewritten(people, tmp_path, **changed):
    """The same people with some columns written otherwise."""
    columns = people[1] | changed
    path = tmp_path / "people.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def test_integers_may_be_written_with_decimals(people, tmp_path):
    high = np.where(people[1]["risk"] == "high", "1.0", "0.0")
    trained = people[1]["trained"].astype(float)
    path = rewritten(people, tmp_path, risk=high, trained=trained)
    table, members = load(path)
    np.testing.assert_array_equal(members, trained == 1)
    encoder = tables.Encoder.fit(table, one_hot=False, standardize=False)
    for answer in (high, high.astype(float), high.astype(float).astype(int)):
        ask = auditing.answering(table, encoder, lambda given, answer=answer: answer)
        np.testing.assert_array_equal(
            ask(encoder.encode(table)).argmax(1), high == "1.0"
        )


def test_a_field_that_all_members_share_is_refused_by_name(people, tmp_path):
    smokes = np.where(people[1]["trained"] == 1, "no", people[1]["smokes"])
    path = rewritten(people, tmp_path, smokes=smokes)
    with pytest.raises(ValueError, match="'smokes' is 'no' in all 300 training rows"):
        load(path)


def test_a_model_that_takes_other_columns_is_told_in_one_line(people):
    table, _ = load(people[0])

    def predict(given):
        return given["sex"].astype(float)

    with pytest.raises(ValueError, match=r"could not convert.* sex \(text\)") as told:
        auditing.check_model(table, predict)
    assert "\n" not in str(told.value)


def test_candidates_stay_within_the_schema(people):
    table, _ = load(people[0])
    encoder = tables.Encoder.fit(table)
    np.testing.assert_array_equal(encoder.candidates("smokes", ["yes"]), [[1]])
    with pytest.raises(ValueError, match="'smokes' is never 'often'"):
        encoder.candidates("smokes", ["no", "often"])
    with pytest.raises(ValueError, match="no categorical feature"):
        encoder.candidates("age")


@pytest.mark.process
def test_runs_as_a_user_runs_it(people, tmp_path):
    path, _ = people
    (tmp_path / "mine.py").write_text(
        "def predict(columns):\n    return ['high' if s == 'yes' else 'low' "
        "for s in columns['smokes']]\n"
    )
    command = [sys.executable, "-m", "experiments.audit_table", f"--data=csv:{path}"]
    command += ["--sensitive=smokes", "--target=risk", "--members=trained"]
    command += ["--model=mine:predict", f"--workdir={tmp_path / 'run'}"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["metrics"]["attribute_gain/smokes-map-members"]["n"] == ROWS // 2
    page = (tmp_path / "run" / "report.html").read_text()
    assert "600 of 600 rows" in page and "smokes by group" in page
