"""Adversaries who know less, or more, than all other fields and the outcome."""

import numpy as np
import pytest

from mijax import audit
from mijax.audit import answers as kept

ROWS = 400


def people(seed=0):
    """Independent coins; whoever smokes and drinks has a high risk."""
    random = np.random.default_rng(seed)
    frame = {
        "age": random.integers(18, 90, ROWS),
        "smokes": random.choice(["no", "yes"], ROWS),
        "drinks": random.choice(["no", "yes", "wine"], ROWS, p=[0.5, 0.25, 0.25]),
        "trained": np.repeat([1, 0], ROWS // 2),
    }
    both = (frame["smokes"] == "yes") & (frame["drinks"] != "no")
    return frame | {"risk": np.where(both, "high", "low")}


def predict(given):
    high = (given["smokes"] == "yes") & (given["drinks"] != "no")
    return np.stack([high, ~high], 1).astype(float)


def audited(frame, model, **options):
    options = {
        "sensitive": "smokes",
        "target": "risk",
        "members": "trained",
        "groups": (),
        "knows": "outcome",
    } | options
    return audit.table(model, frame, **options)


def attack(report, name):
    return next(a for a in report.fields[0].attacks if a.name == name)


def test_completions_of_hidden_fields_are_summed():
    """P(smokes | risk, age) in closed form: drinks are summed out."""
    frame, asked = people(), []

    def counted(given):
        asked.append(len(given["age"]))
        return predict(given)

    report = audited(frame, counted, hidden="drinks")
    assert sum(asked) == ROWS + ROWS * 2 * 3
    assert report.fields[0].asked_accuracy == (1.0, 1.0)
    found = attack(report, "map")
    high = frame["risk"] == "high"
    for side, inside in ((found.members, True), (found.others, False)):
        rows = (frame["trained"] == 1) == inside
        # High: surely. Low: 1 of 3, by the prior 1/2 and P(no drink) = 1/2.
        assert (side.guess[high[rows]] == 1).all()
        assert (side.guess[~high[rows]] == 0).mean() > 0.9
        np.testing.assert_allclose(side.belief[high[rows]], 1.0, atol=1e-6)
        np.testing.assert_allclose(side.belief[~high[rows]].mean(), 2 / 3, atol=0.07)
    known = attack(audited(frame, predict), "map")
    np.testing.assert_array_equal(known.members.guess[high[:200]], 1)
    drinks = frame["drinks"][:200] != "no"
    np.testing.assert_array_equal(known.members.guess[drinks & ~high[:200]], 0)


def test_csmia_counts_over_hidden_fields():
    frame = people()
    found = attack(audited(frame, predict, hidden="drinks"), "csmia").members
    high = frame["risk"][:200] == "high"
    # Of low: c(no) = 3 and c(yes) = 1; of high: 0 and 2.
    np.testing.assert_array_equal(found.guess, high.astype(int))


def test_a_guess_within_the_tolerance_is_right():
    frame = people()

    def leaky(given):
        return given["age"] / 100 + 0.0

    report = audited(
        frame, leaky, sensitive="age", tolerance={"age": 6.0}, knows=["score"]
    )
    (field,) = report.fields
    numbers = np.array(field.values, float)
    assert set(numbers) <= set(frame["age"].tolist()) and 10 <= len(numbers) <= 14
    score = attack(report, "score")
    # The value with the nearest score is at most 6 years off.
    assert score.others.accuracy.value == score.members.accuracy.value == 1.0
    off = np.abs(numbers[score.others.guess] - frame["age"][200:])
    assert off.max() <= 6
    # Uniform from 18 to 89: of 72 years a guess covers 13.
    assert 0.08 < field.baseline_accuracy[1].value < 0.3
    assert any("6 apart" in said for said in field.warnings)


def test_most_belief_within_the_tolerance_is_the_guess():
    beliefs = np.array([[0.35, 0.0, 0.25, 0.2, 0.2]])
    near = np.abs(np.subtract.outer(np.arange(5), np.arange(5))) <= 1
    truth = audit.verdicts.Truth(np.array([4]), near[[4]], near)
    assert truth.guess(beliefs).tolist() == [3]
    assert truth.hits(truth.guess(beliefs)).tolist() == [True]
    assert audit.verdicts.Truth.of(np.array([0]), 5).guess(beliefs).tolist() == [0]


def test_what_is_released_is_learned_from_other_people():
    """A score that is no function of the candidate: only a learned attack sees it."""
    frame = people()
    smokes = dict(zip(frame["age"].tolist(), frame["smokes"] == "yes", strict=True))
    odd = {age: age % 2 for age in smokes}
    frame["smokes"] = np.where([odd[a] for a in frame["age"].tolist()], "yes", "no")
    frame["risk"] = np.random.default_rng(1).choice(["high", "low"], ROWS)

    def by_age(given):
        high = 0.4 + 0.2 * (given["age"] % 2) + 1e-3 * (given["smokes"] == "yes")
        return np.stack([high, 1 - high], 1)

    report = audited(frame, by_age, knows=["score:1", "outcome"])
    learned = attack(report, "learned score:1")
    assert min(learned.members.accuracy.value, learned.others.accuracy.value) > 0.95
    assert attack(report, "score:1").others.accuracy.value < 0.9


def test_lomia_reads_the_value_that_makes_the_model_right():
    frame = people()
    frame["risk"] = np.where(frame["smokes"] == "yes", "high", "low")

    def memory(given):
        own = np.where(given["smokes"] == "yes", "high", "low")
        return np.where(given["age"] < 60, own, "low")

    found = attack(audited(frame, memory), "lomia")
    young = frame["age"] < 60
    for side, rows in ((found.members, slice(200)), (found.others, slice(200, None))):
        truth = (frame["smokes"][rows] == "yes").astype(int)
        np.testing.assert_array_equal(side.guess[young[rows]], truth[young[rows]])
        # The others' value is learned from the outcome, which tells it.
        assert (side.guess == truth).mean() > 0.95


def test_no_query_is_paid_for_twice(tmp_path):
    frame, file = people(), tmp_path / "run" / "answers"
    asked = []

    def metered(given):
        if sum(asked) >= 150:
            raise RuntimeError("out of quota")
        asked.append(len(given["age"]))
        return predict(given)

    options = {"answers": file, "batch": 50}
    with pytest.raises(ValueError, match="out of quota"):
        audited(frame, metered, **options)
    paid = sum(asked)
    assert 150 <= paid < 200 and file.exists()
    with file.open("ab") as torn:
        torn.write(b"\x93NUMPY torn")
    asked.clear()
    asked.append(-10_000)
    said = []
    report = audited(frame, metered, progress=said.append, **options)
    assert f"keeps {paid} answers" in said[0]
    different = len(set(zip(frame["age"], frame["drinks"], strict=True)))
    assert paid + 10_000 + sum(asked) == 2 * different
    assert any("asking about 800 rows" in line for line in said)
    asked[:] = [10_000]  # Nothing more may be asked.
    again = audited(frame, metered, **options)
    without = audited(frame, predict)
    for one in (report, again):
        for a, b in zip(one.fields[0].attacks, without.fields[0].attacks, strict=True):
            np.testing.assert_array_equal(a.members.guess, b.members.guess)
            np.testing.assert_array_equal(a.others.belief, b.others.belief)


def test_answers_are_told_apart_by_type_and_by_model(tmp_path):
    calls = []

    def model(given):
        calls.append(len(given["a"]))
        return np.array(["x"] * len(given["a"]), object)

    path = tmp_path / "answers"
    ask = kept.Kept(model, "m", path)
    assert ask({"a": np.array([1, 2, 1])}).tolist() == ["x"] * 3 and calls == [2]
    ask({"a": np.array([1.0, 2.0])})
    ask({"a": np.array(["1", "2"], object)})
    ask({"a": np.array([True])})
    assert calls == [2, 2, 2, 1] and ask.found == 1 and ask.size == 7
    again = kept.Kept(model, "m", path)
    assert again({"a": np.array([2, 1])}).tolist() == ["x", "x"] and len(calls) == 4
    kept.Kept(model, "other", path)({"a": np.array([2, 1])})
    assert len(calls) == 5
