"""From guesses of several seeds to the lines of a report, beside their baselines."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from experiments.harness import figures, report
from mijax.metrics import attributes, intervals

Found = Mapping[str, np.ndarray]
INFORMED = "imputation_with_outcome"  # knows all that an adversary does but the model
WITHOUT_TARGET = ("mode", "imputation", "random_guess")  # how such rows begin


class Page(NamedTuple):
    """What a paper's experiment found, for `report.write`."""

    title: str
    attacked: str
    knowledge: str
    baseline: str
    n: int
    metrics: dict[str, report.Metric]
    tables: list[report.Table]
    pictures: list[report.Picture]
    differences: list[str]
    caveats: list[str]


class Published(NamedTuple):
    """A paper's numbers; None where it gives none."""

    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    gmean: float | None = None
    mcc: float | None = None


def part(found: Found, field: str) -> dict[str, np.ndarray]:
    """What was recorded of one field, where a seed attacks several."""
    return {
        name.removeprefix(f"{field}."): values
        for name, values in found.items()
        if name.startswith(f"{field}.")
    }


def rows(found: Found, side: str) -> list[str]:
    """The adversaries of one side, in the order they were recorded."""
    start, end = f"{side}.", ".guess"
    return [
        name.removeprefix(start).removesuffix(end)
        for name in found
        if name.startswith(start) and name.endswith(end)
    ]


def lines(
    seeds: Sequence[Found],
    name: str,
    side: str,
    row: str,
    *,
    value: int | None = None,
    baseline: str = INFORMED,
    published: Published = Published(),
) -> dict[str, report.Metric]:
    """Every metric of one adversary on one side, over several seeds.

    Records are the examples of shares, seeds those of what has no value for a record.

    Args:
      seeds: what was recorded of each.
      name: of the line, after the slash.
      side: members or others.
      row: the adversary.
      value: of a binary field, the one that precision and recall are of.
      baseline: the row that knows the same, but not the target, and stands beside it;
        rows without the target themselves have none.
      published: the paper's numbers.
    """
    hits = _hits(seeds, side, row)
    compared = not row.startswith(WITHOUT_TARGET)
    without = {
        stem: (of(baseline) if compared else None)
        for stem, of in _measures(seeds, side).items()
    }
    measured = {stem: of(row) for stem, of in _measures(seeds, side).items()}
    found = {
        f"attribute_accuracy/{name}": report.metric(
            hits,
            clusters=_records(seeds, side),
            baseline=_hits(seeds, side, baseline) if compared else None,
            perfect=1.0,
            paper=published.accuracy,
        )
    }
    papers = {"attribute_gmean": published.gmean, "attribute_mcc": published.mcc}
    for stem, values in measured.items():
        if values is not None:
            found[f"{stem}/{name}"] = over_seeds(
                values,
                baseline=without[stem],
                perfect=1.0,
                paper=papers.get(stem),
            )
    if value is not None:
        said = np.concatenate([s[f"{side}.{row}.guess"] for s in seeds]) == value
        has = np.concatenate([s[f"{side}.truth"] for s in seeds]) == value
        for stem, among, paper in (
            ("attribute_precision", said, published.precision),
            ("attribute_recall", has, published.recall),
        ):
            if among.any():
                found[f"{stem}/{name}"] = report.metric(
                    (said & has)[among],
                    clusters=_records(seeds, side)[among],
                    paper=paper,
                )
    return found


def over_seeds(
    values: ArrayLike,
    *,
    baseline: ArrayLike | None = None,
    perfect: float | None = None,
    paper: float | None = None,
) -> report.Metric:
    """A line of what has one value a seed; the interval is Student's."""
    values = np.asarray(values, np.float64)
    line = report.Metric(float(values.mean()), n=values.size, paper=paper)
    if values.size > 1:
        line = report.Metric(*intervals.student(values), paper=paper)
    if baseline is None:
        return line
    without = float(np.asarray(baseline, np.float64).mean())
    leakage = None
    if perfect is not None and perfect != without:
        leakage = (line.value - without) / (perfect - without)
    return dataclasses.replace(line, baseline=without, leakage=leakage)


def _measures(seeds: Sequence[Found], side: str) -> dict[str, Any]:
    """Metrics that have one value a seed."""

    def per_seed(measure: Any, what: str) -> Any:
        def of(row: str | None) -> np.ndarray | None:
            if f"{side}.{row}.{what}" not in seeds[0]:
                return None
            return np.array(
                [measure(s[f"{side}.{row}.{what}"], s[f"{side}.truth"]) for s in seeds]
            )

        return of

    return {
        "attribute_auc": per_seed(attributes.macro_auc, "beliefs"),
        "attribute_gmean": per_seed(attributes.g_mean, "guess"),
        "attribute_mcc": per_seed(attributes.matthews_correlation, "guess"),
    }


def accuracy(seeds: Sequence[Found], side: str, row: str) -> np.ndarray:
    """The accuracy of each seed, `[seeds]`."""
    return np.array(
        [
            attributes.correct(s[f"{side}.{row}.guess"], s[f"{side}.truth"]).mean()
            for s in seeds
        ]
    )


def _hits(seeds: Sequence[Found], side: str, row: str) -> np.ndarray:
    return np.concatenate(
        [
            attributes.correct(s[f"{side}.{row}.guess"], s[f"{side}.truth"])
            for s in seeds
        ]
    )


def _records(seeds: Sequence[Found], side: str) -> np.ndarray:
    """Whose hit each is: a record that several seeds attack counts once."""
    return np.concatenate([s[f"{side}.record"] for s in seeds])


def draw_bars(
    bars: Mapping[str, report.Metric],
    path: pathlib.Path,
    xlabel: str,
    baseline: str = INFORMED,
) -> None:
    """Draws one bar an adversary, with a line at the one without a target."""
    ends = [(line.value, line.low, line.high) for line in bars.values()]
    value, low, high = np.array(ends, float).T
    figures.bars(
        [
            ("no target: " if row.startswith(WITHOUT_TARGET) else "")
            + row.replace("_", " ")
            for row in bars
        ],
        value,
        path,
        low=np.where(np.isnan(low), value, low),
        high=np.where(np.isnan(high), value, high),
        baseline=bars[baseline].value,
        baseline_label=baseline.replace("_", " "),
        xlabel=xlabel,
    )


def band(values: ArrayLike) -> np.ndarray:
    """Means of `[n, seeds]` with the least and the greatest of the seeds, `[n, 3]`."""
    each = np.asarray(values)
    return np.stack([each.mean(1), each.min(1), each.max(1)], 1)


def beats(
    seeds: Sequence[Found], name: str, side: str, row: str, baseline: str = INFORMED
) -> str:
    """One sentence: does the attack beat what needs no target, on the same records?"""
    gain = intervals.mean(
        _hits(seeds, side, row) - _hits(seeds, side, baseline),
        clusters=_records(seeds, side),
    )
    verb = "beats" if gain.low > 0 else "does not beat"
    ends = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
    return f"{name}: the attack {verb} {baseline.replace('_', ' ')}: {ends}."
