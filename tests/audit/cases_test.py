"""However a file writes its values, the audit names what an own computation names."""

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from mijax import audit
from mijax.audit import rows
from mijax.evaluation import imputation

ROWS, CITIES = 500, ("ulm", "bonn", "kiel")


def plain():
    random = np.random.default_rng(0)
    return {
        "age": random.integers(18, 90, ROWS).astype(object),
        "sex": random.choice(["f", "m"], ROWS).astype(object),
        "city": random.choice(CITIES, ROWS).astype(object),
        "smokes": random.choice(["no", "yes"], ROWS).astype(object),
        "risk": random.choice(["high", "low"], ROWS).astype(object),
    }


def where(random, share, values, other):
    return np.where(random.uniform(size=ROWS) < share, other, values).astype(object)


def written(case):
    """A file's text, in cells."""
    frame, random = plain(), np.random.default_rng(1)
    if case == "leading_blanks":
        for name in ("sex", "city", "smokes", "risk"):
            frame[name] = np.array([f" {v}" for v in frame[name]], object)
    if case == "boolean_sensitive":
        frame["smokes"] = np.array([str(v == "yes") for v in frame["smokes"]], object)
    if case == "boolean_column":
        frame["sex"] = np.array([str(v == "f") for v in frame["sex"]], object)
    if case == "word_missing":
        frame["city"] = where(random, 0.3, frame["city"], "missing")
    if case == "missing_numbers":
        frame["age"] = where(random, 0.2, frame["age"], "")
    if case == "digits_as_text":
        frame["city"] = np.array([f"0050{CITIES.index(v)}" for v in frame["city"]])
    return frame


class Tree:
    """A tree of full depth that knows values as Python has them when they are read."""

    def __init__(self, frame, people):
        self.known = {
            name: sorted(set(map(repr, frame[name].tolist())))
            for name in ("sex", "city", "smokes")
        }
        self.tree = DecisionTreeClassifier(random_state=0)
        self.tree.fit(self.encoded(frame)[people], frame["risk"][people].astype(str))

    def encoded(self, frame):
        blocks = [np.asarray(frame["age"], float)[:, None]]
        for name, known in self.known.items():
            cells = np.array([repr(v) for v in frame[name].tolist()])
            blocks.append(cells[:, None] == np.array(known))
        return np.concatenate(blocks, 1)

    def __call__(self, frame):
        return self.tree.predict_proba(self.encoded(frame))


def expected(frame, model, inside):
    """Gains of members and of others, person by person in the user's own frame."""
    known = rows.features(frame, ["age", "sex", "city"], inside)
    values, codes = rows.coded(frame["smokes"])
    outcome = rows.coded(frame["risk"])[1]
    own = [frame["smokes"][codes == code][0] for code in range(len(values))]

    def impute(x):
        found = imputation.impute(x[inside], codes[inside], x[~inside], len(values), 0)
        beliefs = np.zeros((ROWS, len(values)))
        beliefs[inside], beliefs[~inside] = found.members, found.others
        return found, beliefs

    blind, prior = impute(known)
    informed, baseline = impute(np.concatenate([known, np.eye(2)[outcome]], 1))
    if imputation.better(informed, blind)[1] is blind:
        baseline = prior
    gains = np.zeros(ROWS)
    if_it_were = []
    for value in own:
        changed = frame["smokes"].copy()
        changed[:] = value
        if_it_were.append(model(frame | {"smokes": changed}))
    for person in range(ROWS):
        belief = [
            max(answer[person, outcome[person]], 1e-300) * max(share, 1e-300)
            for answer, share in zip(if_it_were, prior[person], strict=True)
        ]
        right = int(np.argmax(belief)) == codes[person]
        gains[person] = int(right) - int(baseline[person].argmax() == codes[person])
    return gains[inside].mean(), gains[~inside].mean()


@pytest.mark.parametrize(
    "case",
    [
        "plain",
        "leading_blanks",
        "boolean_sensitive",
        "boolean_column",
        "word_missing",
        "missing_numbers",
        "digits_as_text",
    ],
)
def test_the_gain_is_that_of_an_own_computation(case, tmp_path):
    cells = written(case)
    inside = np.arange(ROWS) < ROWS // 2
    path = tmp_path / "people.csv"
    lines = [tuple(cells), *zip(*cells.values(), strict=True)]
    path.write_text("".join(f"{','.join(map(str, line))}\n" for line in lines))
    frame = rows._read(str(path))
    model = Tree(frame, inside)
    report = audit.table(
        model,
        frame,
        sensitive="smokes",
        target="risk",
        members=inside,
        knows="outcome",
        groups=(),
    )
    assert report.accuracy[0] > 0.9
    found = next(a for a in report.fields[0].attacks if a.name == "map_confidence")
    gains = found.members.mean_gain.value, found.others.mean_gain.value
    np.testing.assert_allclose(gains, expected(frame, model, inside), atol=0.005)
