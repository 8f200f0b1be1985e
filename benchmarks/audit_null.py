"""How often the audit says that a model leaks which has never seen any of the people.

    python -m benchmarks.audit_null --first=0 --audits=50

Every audit is of a table of independent columns, of which no field tells another, and
of a tree of full depth that was trained on another such table. At most 5 % may say
that it remembers members, or that one who knows the outcome names more than an
imputation does. (One who knows the released score of a person does: it depends on the
field, whoever the tree was trained on.)
"""

import argparse

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from mijax import audit
from mijax.metrics.intervals import proportion

_FIELDS = {"sex": ["f", "m"], "city": list("abcdef"), "smokes": ["no", "yes"]}


def people(seed: int, size: int) -> dict[str, np.ndarray]:
    """A table of which all columns are independent."""
    random = np.random.default_rng(seed)
    return {
        "age": random.integers(18, 90, size),
        **{name: random.choice(values, size) for name, values in _FIELDS.items()},
        "risk": random.choice(["high", "low"], size),
        "trained": np.repeat([1, 0], size // 2),
    }


def encoded(frame: dict[str, np.ndarray]) -> np.ndarray:
    """Numbers and one-hot categories, `[N, D]`."""
    blocks = [frame[name][:, None] == values for name, values in _FIELDS.items()]
    return np.concatenate([frame["age"][:, None], *blocks], 1)


def leaks(seed: int, size: int) -> tuple[bool, bool]:
    """Whether an audit says memory, and whether it says that an attack adds."""
    frame, third = people(2 * seed, size), people(2 * seed + 1, size)
    tree = DecisionTreeClassifier(random_state=0).fit(encoded(third), third["risk"])
    report = audit.table(
        lambda given: tree.predict_proba(encoded(given)),
        frame,
        sensitive="smokes",
        target="risk",
        members="trained",
        knows=("outcome",),
        groups=(),
    )
    attacks = report.fields[0].attacks
    return any(a.remembers for a in attacks), any(a.adds for a in attacks)


def main() -> None:
    """Prints the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--audits", type=int, default=200)
    parser.add_argument("--rows", type=int, default=1600)
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.audits)
    said = np.array([leaks(seed, options.rows) for seed in seeds])
    memory, adds = said.sum(0)
    either = proportion(said.any(1))
    print(
        f"{len(said)} audits from seed {options.first}: memory {memory}, adds {adds}, "
        f"either {said.any(1).sum()}, {either.value:.3f} [{either.low:.3f}, "
        f"{either.high:.3f}]"
    )


if __name__ == "__main__":
    main()
