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

from mijax import audit
from mijax.audit import __main__, adversaries, models, rows, verdicts
from mijax.evaluation import imputation

ROOT = pathlib.Path(__file__).parents[2]
ROWS = 600


def people(seed=0):
    """A table in which the field, `smokes`, is a coin, and the outcome another."""
    random = np.random.default_rng(seed)
    return {
        "age": random.integers(18, 90, ROWS),
        "sex": random.choice(["f", "m"], ROWS),
        "height": random.integers(150, 200, ROWS),
        "smokes": random.choice(["no", "yes"], ROWS),
        "risk": random.choice(["high", "low"], ROWS),
        "trained": np.repeat([1, 0], ROWS // 2),
    }


class Remembers:
    """A tree of full depth that knows a value only as it was written in training."""

    def __init__(self, frame, fitted_to):
        self.columns = [c for c in frame if c not in ("risk", "trained")]
        self.known = {c: self._written(frame[c][fitted_to]) for c in self.columns}
        self.known = {c: sorted(set(values)) for c, values in self.known.items()}
        self.tree = DecisionTreeClassifier(random_state=0)
        x = self._encoded({c: frame[c][fitted_to] for c in self.columns})
        self.tree.fit(x, frame["risk"][fitted_to])

    def _written(self, values):
        if values.dtype.kind in "if":
            return []
        return [f"{type(v).__name__} {v!r}" for v in values.tolist()]

    def _encoded(self, asked):
        blocks = []
        for name, known in self.known.items():
            if known:
                written = np.array(self._written(asked[name]))
                blocks.append(written[:, None] == np.array(known))
            else:
                blocks.append(asked[name][:, None])
        return np.concatenate(blocks, 1).astype(float)

    def __call__(self, asked):
        assert set(asked) == set(self.columns)
        return self.tree.predict_proba(self._encoded(asked))


def audited(frame, model, **options):
    options = {
        "sensitive": "smokes",
        "target": "risk",
        "members": "trained",
        "groups": (),
    } | options
    return audit.table(model, frame, **options)


def gains(report):
    return {
        a.name: (a.members.mean_gain.value, a.others.mean_gain.value)
        for a in report.fields[0].attacks
    }


@pytest.fixture(scope="module")
def plain():
    frame = people()
    return audited(frame, Remembers(frame, frame["trained"] == 1), groups=["sex"])


def test_memory_is_found(plain):
    (field,) = plain.fields
    assert plain.accuracy[0] > 0.95 and field.asked_accuracy == plain.accuracy
    for attack in field.attacks:
        if attack.name in ("map", "map_confidence", "csmia"):
            assert attack.remembers, attack.name
    assert field.leaks and "the model remembers members" in field.verdict
    assert {group for group, _, _ in field.groups} == {"sex: f", "sex: m"}


@pytest.mark.parametrize(
    ("column", "written"),
    [
        ("smokes", {"no": " no", "yes": " yes"}),
        ("smokes", {"no": False, "yes": True}),
        ("smokes", {"no": "missing", "yes": "?"}),
        ("smokes", {"no": None, "yes": "yes"}),
        ("sex", {"no": False, "yes": True}),
        ("sex", {"no": "0501", "yes": "501"}),
    ],
    ids=lambda case: case if isinstance(case, str) else str(case["no"]),
)
def test_how_a_value_is_written_changes_no_verdict(plain, column, written):
    """The model is asked the file's own rows: it would know no other spelling."""
    frame = people()
    first = np.isin(frame[column], ["no", "f"])
    values = [written["no"] if one else written["yes"] for one in first]
    booleans = all(isinstance(value, bool) for value in values)
    frame[column] = np.array(values, bool if booleans else object)
    report = audited(frame, Remembers(frame, frame["trained"] == 1))
    assert report.accuracy[0] > 0.95
    for name, both in gains(report).items():
        np.testing.assert_allclose(both, gains(plain)[name], atol=0.04)


def test_missing_numbers_and_long_identifiers_are_asked_as_they_are():
    frame = people()
    frame["age"] = np.where(frame["age"] < 30, np.nan, frame["age"])
    frame["account"] = 10**12 + np.arange(ROWS)
    asked = []

    def predict(given):
        asked.append(given)
        return np.full(len(given["age"]), "high")

    audited(frame, predict)
    for given in asked:
        assert given["account"].dtype == np.int64
        inside = np.isin(given["account"], frame["account"])
        assert inside.all()
        place = given["account"] - 10**12
        np.testing.assert_array_equal(given["age"], frame["age"][place])
        np.testing.assert_array_equal(given["sex"], frame["sex"][place])


def test_one_pass_of_queries_serves_all_attacks():
    asked = []

    def predict(given):
        asked.append(len(given["age"]))
        return np.where(given["smokes"] == "yes", "high", "low")

    audited(people(), predict)
    # All as they are, then each candidate.
    assert sum(asked) == ROWS + 2 * ROWS


def test_a_model_that_changes_what_it_is_given_changes_nothing_else():
    def spoil(given):
        answers = np.where(given["smokes"] == "yes", "high", "low")
        given["smokes"][:] = "yes"
        given.clear()
        return answers

    report = audited(people(), spoil, knows="label")
    assert report.fields[0].attacks[0].others.accuracy.value == 1.0


def test_a_model_that_ignores_the_field_is_not_cleared():
    def predict(given):
        high = given["age"] % 2
        return np.stack([high, 1 - high], 1)

    (field,) = audited(people(), predict).fields
    assert field.leaks is None and field.moves == 0
    assert "not known" in field.verdict and field.warnings
    label = next(a for a in field.attacks if a.name == "label")
    assert not label.members.gain.any() and not label.others.gain.any()


def test_a_model_of_other_people_shows_no_memory():
    """A third set: in six audits at most one says memory."""
    remembered = 0
    for seed in range(6):
        frame = people(seed)
        model = Remembers(people(1000 + seed), np.ones(ROWS, bool))
        report = audited(frame, model, knows="outcome")
        remembered += any(attack.remembers for attack in report.fields[0].attacks)
    assert remembered <= 1


def test_what_was_released_tells_the_field_where_the_score_moves_with_it():
    frame = people()

    def predict(given):
        return 0.3 + 0.02 * (given["smokes"] == "yes") + given["age"] * 1e-12

    found = gains(audited(frame, predict, knows=["label", "score:2", "score:1"]))
    assert min(found["score:2"]) > 0.3  # 1.0 less what a coin gives
    assert found["score:1"] == found["label"] == (0.0, 0.0)


def test_confidences_are_told_apart_beyond_float32():
    frame = people()
    high = frame["risk"] == "high"

    def predict(given):
        low = np.where(given["smokes"] == "yes", 1e-9, 2e-8)
        return 1 - low

    report = audited(frame, predict)
    map_confidence = next(
        a for a in report.fields[0].attacks if a.name == "map_confidence"
    )
    # Of a high risk, the confidence in it is the one or the other.
    assert high.any() and report.fields[0].moves == 1.0
    assert len(np.unique(map_confidence.members.belief)) > 2


def test_the_adversaries_agree_with_closed_forms():
    answers = adversaries.Answers(
        outcome=np.array([0, 0, 0]),
        released=np.array([[0.9, 0.1]] * 3),
        confidence=np.array([[0.9, 0.6], [0.8, 0.3], [0.2, 0.4]]),
        label=np.array([[0, 0], [0, 1], [1, 1]]),
        top=np.array([[0.9, 0.6], [0.8, 0.7], [0.8, 0.6]]),
        fits={},
        accuracy={},
        moves=np.ones(3, bool),
    )
    # Both right: the surer; one right: that; none: the less sure.
    np.testing.assert_array_equal(adversaries.csmia(answers, 2, 0).argmax(1), [0, 0, 1])
    confident = adversaries.likelihoods(answers, ["outcome"])["map_confidence"](answers)
    prior = np.array([[0.25, 0.75]] * 3)
    right = answers.confidence * prior
    np.testing.assert_allclose(
        adversaries.posterior(confident, prior, 2), right / right.sum(1, keepdims=True)
    )


def test_the_interval_of_gains_is_nearly_the_bootstraps():
    gain = np.repeat([-1, 0, 1], [30, 100, 70])
    line = verdicts.mean_gain(gain)
    error = np.std(gain) / np.sqrt(len(gain))
    assert line.value == 0.2
    # One loss of 200 more, or one win, moves an end by .006.
    np.testing.assert_allclose(line.low, 0.2 - 1.96 * error, atol=0.012)
    np.testing.assert_allclose(line.high, 0.2 + 1.96 * error, atol=0.012)
    assert line.low < 0.2 - 1.9 * error and line.high > 0.2 + 1.9 * error
    # Five wins and no loss are a coin's with probability 1/32: not shown at 95 %.
    few = verdicts.mean_gain(np.repeat([0, 1], [195, 5]))
    assert few.low < 0 < verdicts.mean_gain(np.repeat([0, 1], [194, 6])).low
    with pytest.raises(ValueError, match="-1, 0 or 1"):
        verdicts.mean_gain(np.array([0.5]))


def test_memory_is_said_of_an_attack_that_is_weaker_than_the_imputation():
    truth = verdicts.Truth.of(np.zeros(400, int), 2)
    sure = np.tile([1.0, 0.0], (400, 1))
    often, rarely = sure.copy(), sure.copy()
    often[:160], rarely[:320] = [0.0, 1.0], [0.0, 1.0]
    attack = verdicts.attack(
        "csmia", (often, rarely), (truth, truth), (sure, sure), looks=1
    )
    assert attack.remembers and attack.weaker and not attack.adds
    np.testing.assert_allclose(attack.advantage.value, 0.4)  # of accuracies
    said = verdicts.sentence("smokes", [attack], "imputation", 1.0)
    assert "remembers members" in said and "weaker than the imputation" in said


def test_boosting_is_the_baseline_of_fields_that_interact():
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (3000, 2))
    value = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(int)
    found = imputation.impute(x[:2000], value[:2000], x[2000:], 2, seed=0)
    assert found.imputer in ("gradient boosting", "random forest")
    assert (found.others.argmax(1) == value[2000:]).mean() > 0.95
    blind = imputation.impute(
        random.normal(size=(2000, 2)), value[:2000], x[2000:], 2, seed=0
    )
    assert imputation.better(informed=blind, uninformed=found)[1] is found
    assert imputation.better(informed=found, uninformed=blind)[1] is found


def test_a_numeric_field_is_asked_at_the_median_of_its_bins():
    frame = people()
    asked = set()

    def predict(given):
        asked.update(given["age"].tolist())
        return given["age"] / 100

    with pytest.raises(ValueError, match="--bins=age:EDGE"):
        audited(frame, predict, sensitive="age")
    report = audited(frame, predict, sensitive="age", bins={"age": [40, 60]})
    assert report["age"].values == ("[-inf, 40)", "[40, 60)", "[60, inf)")
    assert report["age"].warnings and asked <= set(frame["age"].tolist())


def test_numbers_are_a_target_too():
    def predict(given):
        return 50.0 + 10 * (given["smokes"] == "yes")

    report = audited(people(), predict, target="age")
    assert report.metric == "root mean squared error"
    assert "csmia" not in gains(report)


def test_preflight_tells_all_that_is_wrong_at_once():
    frame = people() | {
        "note": np.array([f"text {i}" for i in range(ROWS)], object),
        "when": np.datetime64("2020-01-01") + np.arange(ROWS),
        "far": np.where(np.arange(ROWS) == 3, np.inf, np.arange(ROWS) / 7),
    }

    def predict(given):
        return np.full(len(given["age"]), "high")

    with pytest.raises(ValueError, match=r"note \(600 .*when \(dates\), far") as told:
        audited(frame, predict)
    assert "--without=auto" in str(told.value) and "\n" not in str(told.value)
    report = audited(frame, predict, without="auto")
    assert len(report.notes) >= 3
    with pytest.raises(ValueError, match=r"'dose'.*'ages'.*both sensitive and"):
        audited(frame, predict, sensitive=["risk", "dose"], groups=["ages"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sensitive": "smoke"}, "no column 'smoke'"),
        ({"sensitive": "risk"}, "both sensitive and the target"),
        ({"target": "dose"}, "no column 'dose'"),
        ({"members": "member"}, "no column 'member'"),
        ({"members": "sex"}, "holds 'f'"),
        ({"members": "smokes"}, "--members=smokes is the sensitive as well"),
        ({"without": ["id"]}, "no column 'id'"),
        ({"knows": "scores"}, "--knows=scores is unknown"),
        ({"unknown": "guess"}, "neither keep nor drop"),
        ({"bins": {"age": [3]}}, "--bins=age is neither sensitive nor hidden"),
        ({"members": np.ones(ROWS)}, "makes all 600 rows the same"),
        ({"members": np.ones(3)}, "has 3 values|all 3 rows"),
    ],
)
def test_refuses_columns_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        audited(people(), lambda given: given["risk"], **options)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda given: np.ones((len(given["age"]), 3)), "must be probabilities"),
        (lambda given: np.full(len(given["age"]), "middling"), "predicts 'middling'"),
        (lambda given: ["high"], r"answers \(1,\) for 300 rows: it must"),
        (lambda given: given["dose"], r"fails on 300 rows of .*KeyError: 'dose'"),
        (lambda given: np.full((len(given["age"]), 2), np.nan), "answers NaN or inf"),
    ],
)
def test_refuses_answers_that_fit_no_target(answer, message):
    with pytest.raises(ValueError, match=message) as told:
        audited(people(), answer)
    assert "\n" not in str(told.value)


def test_stops_where_the_rows_as_asked_are_answered_otherwise():
    random = np.random.default_rng(0)

    def predict(given):
        return random.uniform(size=len(given["age"]))

    with pytest.raises(ValueError, match=r"as asked, and .* on unaltered rows"):
        audited(people(), predict)


def test_a_file_is_opened_only_if_it_is_trusted(tmp_path):
    frame = people()
    model = DecisionTreeClassifier(max_depth=2)
    model.fit(frame["age"][:, None], frame["risk"])
    path = tmp_path / "model.joblib"
    joblib.dump(model, path)
    with pytest.raises(ValueError, match="--trust_model_file"):
        models.load(str(path), trust=False)
    opened = models.adapt(models.load(str(path), trust=True))
    answer = models.answer(opened, {"age": frame["age"]})
    np.testing.assert_array_equal(
        answer.argmax(1) == 0, model.predict(frame["age"][:, None]) == "high"
    )
    with pytest.raises(ValueError, match="'sex' holds text"):
        models.answer(opened, {"sex": frame["sex"]})
    with pytest.raises(ValueError, match="list, which does not predict"):
        models.adapt([1, 2])
    with pytest.raises(FileNotFoundError, match="no such file"):
        models.load(str(tmp_path / "none.joblib"), trust=True)
    with pytest.raises(ValueError, match="cannot be imported"):
        models.load("nothing_here:predict")


def test_a_file_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(
        "id, zip, ok, n, m, text\n1, 00501, True, 2, , ?\n2, 1, False,3,4,a\n\n"
    )
    frame = rows._read(str(path))
    assert frame["id"].dtype.kind == "i" and frame["ok"].dtype == bool
    assert frame["zip"].tolist() == [" 00501", " 1"]
    np.testing.assert_array_equal(frame["m"], [np.nan, 4.0])
    assert frame["text"].tolist() == [" ?", "a"]
    path.write_text("a;b\n1;x\n2;y\n")
    assert list(rows._read(str(path))) == ["a", "b"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    frame = people()
    with (folder / "people.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(frame)
        writer.writerows(zip(*frame.values(), strict=True))
    (folder / "mine.py").write_text(
        "def predict(rows):\n    return ['high' if s == 'yes' else 'low' "
        "for s in rows['smokes']]\n"
    )
    return folder


@pytest.mark.process
def test_runs_as_a_user_runs_it(written):
    command = [sys.executable, "-m", "experiments.audit_table"]
    command += [f"--data=csv:{written / 'people.csv'}", "--sensitive=smokes"]
    command += ["--target=risk", "--members=trained", "--model=mine:predict"]
    command += [f"--workdir={written / 'run'}"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{written}"}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((written / "run" / "result.json").read_text())
    labels = {"field": "smokes", "attack": "map", "of": "members"}
    gains = [
        record["n"]
        for record in result["records"]
        if record["metric"] == "attribute_gain" and record["labels"] == labels
    ]
    assert gains == [ROWS // 2]
    page = (written / "run" / "report.html").read_text()
    assert result["verdicts"]["smokes"]["sentence"][:12] in page and "<svg" in page
    with (written / "run" / "people.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == ROWS and {line["gain"] for line in lines} <= {"-1", "0", "1"}


def test_a_mistake_ends_in_one_line(written, monkeypatch, capsys):
    monkeypatch.chdir(written)
    flags = ["--data=people.csv", "--target=risk", "--members=trained"]
    flags += ["--model=mine:predict"]
    assert __main__.main([*flags, "--sensitive=smoke"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no column 'smoke'" in said
