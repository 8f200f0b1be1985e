"""How long an audit takes and how much memory, beside the model's own predictions.

    python -m benchmarks.audit_time --rows=200000 --fields=1 --trees=60
    python -m benchmarks.audit_time --rows=45000 --fields=3 --trees=60

The table is of pandas where it is installed, half of it members; the model is a forest
behind a one-hot encoding, its trees chosen so that it takes as long as is wanted. All
options of the audit are the defaults. Peak memory is of this process: the table, the
forest and the libraries are in it.
"""

import argparse
import importlib
import resource
import time
from typing import Any

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mijax import audit

SENSITIVE = "married", "smokes", "sex"
_NUMBERS = "age", "years", "hours", "capital"
_TEXTS = "married", "smokes", "sex", "job", "city", "sector"


def people(rows: int) -> Any:
    """A table of ten fields that are told apart by one another and the outcome."""
    random = np.random.default_rng(0)
    age = random.integers(18, 90, rows)
    hours = random.integers(10, 80, rows)
    sex = random.choice(["f", "m"], rows)
    married = random.uniform(size=rows) < 0.2 + 0.006 * (age - 18)
    smokes = random.uniform(size=rows) < 0.2 + 0.2 * (sex == "m")
    years = random.integers(6, 20, rows)
    score = 0.03 * (age - 40) + 1.5 * married + 0.2 * (years - 12) + 0.02 * (hours - 40)
    pays = random.logistic(size=rows) < score + 0.5 * smokes - 1
    pandas: Any = importlib.import_module("pandas")
    return pandas.DataFrame(
        {
            "age": age,
            "years": years,
            "hours": hours,
            "capital": np.round(random.lognormal(7, 2, rows)),
            "married": np.where(married, "yes", "no"),
            "smokes": np.where(smokes, "often", "never"),
            "sex": sex,
            "job": random.choice([f"job {i}" for i in range(14)], rows),
            "city": random.choice([f"city {i}" for i in range(40)], rows),
            "sector": random.choice([f"sector {i}" for i in range(7)], rows),
            "income": np.where(pays, "high", "low"),
            "trained": random.permutation(rows) % 2,
        }
    )


class Timed:
    """A model that counts the rows that it is asked about, and its seconds."""

    def __init__(self, model: Any):
        self.model, self.rows, self.seconds = model, 0, 0.0

    def __call__(self, frame: Any) -> Any:
        """Answers of the model."""
        start = time.perf_counter()
        answers = self.model.predict_proba(frame)
        self.seconds += time.perf_counter() - start
        self.rows += len(frame)
        return answers


def main() -> None:
    """Prints seconds and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--fields", type=int, default=1, choices=(1, 2, 3))
    parser.add_argument("--trees", type=int, default=60)
    options = parser.parse_args()
    frame = people(options.rows)
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), list(_TEXTS)), remainder="passthrough"
    )
    forest = RandomForestClassifier(options.trees, max_depth=14, n_jobs=2)
    model = make_pipeline(encoder, forest)
    known = frame[[*_NUMBERS, *_TEXTS]]
    members = frame["trained"] == 1
    model.fit(known[members], frame["income"][members])
    once = Timed(model)
    once(known)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    timed = Timed(model)
    start, busy = time.perf_counter(), time.process_time()
    report = audit.table(
        timed,
        frame,
        sensitive=SENSITIVE[: options.fields],
        target="income",
        members="trained",
    )
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(*report.verdicts, sep="\n")
    print(
        f"{options.rows:,} rows x {options.fields}: the model alone, once over all "
        f"rows, {once.seconds:.1f} s; the audit {seconds:.1f} s ({busy:.1f} s of the "
        f"processor), of which the model {timed.seconds:.1f} s for "
        f"{timed.rows:,} rows and all else {seconds - timed.seconds:.1f} s; peak "
        f"{peak:.2f} GiB ({before:.2f} before the audit)"
    )


if __name__ == "__main__":
    main()
