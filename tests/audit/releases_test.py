"""What a model releases of a person tells the field; other releases tell less."""

import functools

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mijax import audit
from mijax.audit import rows
from mijax.audit.releases import Release, released, who_knows
from mijax.evaluation import imputation

MARITAL = "divorced", "married", "single"


def adults(size=900):
    """Like Adult: marital status follows age, and income both and the schooling."""
    random = np.random.default_rng(0)
    age = random.integers(18, 80, size)
    educated = random.integers(1, 17, size)
    odds = np.stack([0 * age + 0.3, (age - 30) / 8, (35 - age) / 6], 1)
    marital = (odds + random.gumbel(size=(size, 3))).argmax(1)
    rich = 0.05 * (age - 40) + 0.3 * (educated - 10) + 1.5 * (marital == 1)
    return {
        "age": age,
        "educated": educated,
        "hours": random.integers(10, 70, size),
        "marital": np.array(MARITAL)[marital],
        "income": np.where(rich + random.logistic(size=size) > 0, "high", "low"),
        "member": np.arange(size) < size // 2,
    }


def encoded(frame):
    numbers = [frame[name] / 50 for name in ("age", "educated", "hours")]
    return np.stack([*numbers, *(frame["marital"] == m for m in MARITAL)], 1)


@functools.cache
def audited():
    frame = adults()
    inside = frame["member"]
    model = LogisticRegression().fit(encoded(frame)[inside], frame["income"][inside])

    def predict(given):
        return model.predict_proba(encoded(given))

    report = audit.table(
        predict,
        frame,
        sensitive="marital",
        target="income",
        members="member",
        knows=["outcome", "score:2", "label"],
        groups=(),
    )
    return frame, model, report


def informed_prior(frame):
    """The audit's own baseline: what it is is not what is tested here."""
    inside = frame["member"]
    known = rows.features(frame, ["age", "educated", "hours"], inside)
    _, outcome = rows.coded(frame["income"])
    codes = rows.coded(frame["marital"])[1]

    def impute(x):
        return imputation.impute(x[inside], codes[inside], x[~inside], 3, 0)

    informed = impute(np.concatenate([known, np.eye(2)[outcome]], 1))
    _, best = imputation.better(informed, impute(known))
    return np.concatenate([best.members, best.others])


def test_a_score_of_two_digits_names_marital_status():
    _, _, report = audited()
    (field,) = report.fields
    score = next(a for a in field.attacks if a.name == "score:2")
    assert score.others.accuracy.value >= 0.9
    assert score.others.accuracy.value > field.baseline_accuracy[1].value + 0.1
    assert field.leaks and "to 2 digits" in field.verdict


@pytest.mark.parametrize("release", ["score:2", "score:1", "label", "top:2"])
def test_other_releases_name_what_an_independent_computation_names(release):
    """Person by person: of the values that give what was released, the likeliest."""
    frame, model, report = audited()
    prior = informed_prior(frame)

    def shown(given):
        said = model.predict_proba(encoded(given))
        if release == "label":
            return said.argmax(1)
        if release == "top:2":
            return said.argmax(1) + np.round(said.max(1), 2)
        return np.round(said[:, 0], int(release[-1]))

    size = len(frame["age"])
    was = shown(frame)
    if_it_were = np.stack(
        [shown(frame | {"marital": np.full(size, m)}) for m in MARITAL], 1
    )
    guess = [
        max(
            (v for v in range(3) if abs(if_it_were[i, v] - was[i]) < 1e-6),
            key=lambda v, i=i: prior[i, v],
        )
        for i in range(size)
    ]
    right = np.array(MARITAL)[guess] == frame["marital"]
    said = next(w for w in report.fields[0].what_if if w.release == release)
    found = said.attack.members.accuracy.value, said.attack.others.accuracy.value
    inside = frame["member"]
    expected = right[inside].mean(), right[~inside].mean()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_what_a_release_costs_is_said_beside_what_it_tells():
    frame, model, report = audited()
    what_if = {w.release: w for w in report.fields[0].what_if}
    label = model.predict(encoded(frame)) == frame["income"]
    inside = frame["member"]
    own = label[inside].mean(), label[~inside].mean()
    for name in ("score", "score:2", "label", "top:2"):
        np.testing.assert_allclose(what_if[name].accuracy, own, atol=0.01)
    assert what_if["noise:0.1"].accuracy != what_if["score"].accuracy
    named = {name: w.attack.others.accuracy.value for name, w in what_if.items()}
    assert named["score"] >= named["score:2"] > named["score:1"] > named["label"]
    assert named["noise:0.1"] < named["score:2"] - 0.02


def test_noise_is_explained_by_the_candidate_that_is_nearest():
    noise = Release.of("noise:0.1")
    scores = np.tile([[0.2, 0.8]], (20_000, 1))
    shown = noise.shown(scores, np.random.default_rng(0), scale=2.0)
    np.testing.assert_allclose(shown.std(0), 0.2, rtol=0.02)
    ratio = noise.fits(shown, scores, 2.0) - noise.fits(shown, scores + 0.2, 2.0)
    # A shift of one deviation in both scores: half the squared distance each.
    np.testing.assert_allclose(ratio.mean(), 1.0, atol=0.05)


@pytest.mark.parametrize(
    "name", ["scores", "score:", "score:x", "label:2", "noise", "noise:-1", "noise:nan"]
)
def test_refuses_what_names_no_release(name):
    with pytest.raises(ValueError, match=f"--knows={name} is unknown: give outcome"):
        Release.of(name)


def test_releases_are_said_in_words():
    assert released("top:1") == "the likeliest class and its score, to 1 digit"
    assert released("noise:0.1") == "the scores with noise of 0.1"
    assert who_knows("csmia") == "who knows the outcome"
    assert "the label alone" in who_knows("label")
