"""Figures of metrics over a number that one of the records' labels holds."""

import dataclasses
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.harness import figures, report
from experiments.harness.results import Metric, Results

BASELINE = "mean image"
_NUMBER = re.compile(r"[\d.]+")


@dataclasses.dataclass(frozen=True)
class Curve:
    """Figures of metrics over a number, beside their baseline.

    Attributes:
      over: the label that holds the number.
      records: which ones, as `Results.filter` takes them.
      lines: labels that tell the lines apart.
      axes: of `figures.lines`.
      by: labels that tell the figures apart.
      at_zero: labels of records that stand at 0 in each figure.
    """

    over: str
    records: Mapping[str, Any]
    lines: tuple[str, ...]
    axes: Mapping[str, Any]
    by: tuple[str, ...] = ()
    at_zero: Mapping[str, str] = dataclasses.field(default_factory=dict)


def words(labels: Mapping[str, str]) -> str:
    """Labels as a reader sees them: numbers with the label's name."""
    return ", ".join(
        f"{name} {value}" if _NUMBER.fullmatch(value) else value.replace("_", " ")
        for name, value in labels.items()
        if value
    )


def draw(
    curves: Sequence[Curve], results: Results, folder: pathlib.Path
) -> Iterator[report.Picture]:
    """Draws each figure of three numbers or more; lines that lack one are left out."""
    for curve in curves:
        every = results.filter(**curve.records)
        numbered = [x for x in every if x.label(curve.over)]
        for key in dict.fromkeys(tuple(map(x.label, curve.by)) for x in numbered):
            own = dict(zip(curve.by, key, strict=True))
            lines: dict[str, dict[float, Metric]] = {}
            for x in every:
                wanted = own if x.label(curve.over) else curve.at_zero
                if not wanted and not x.label(curve.over):
                    continue
                if any(x.label(name) != value for name, value in wanted.items()):
                    continue
                number = float(x.label(curve.over) or 0)
                line = words({name: x.label(name) for name in curve.lines})
                lines.setdefault(line, {})[number] = x.value
                if x.value.baseline is not None:
                    baseline = Metric(x.value.baseline)
                    lines.setdefault(BASELINE, {}).setdefault(number, baseline)
            at = sorted(next(iter(lines.values())))
            if len(at) < 3:
                continue
            series = {
                name: np.array(
                    [(m.value, m.low, m.high) for m in map(line.__getitem__, at)],
                    np.float64,
                )
                for name, line in lines.items()
                if line.keys() >= set(at)
            }
            about = words(own)
            name = f"{about} by {curve.over}".strip().replace(",", "").replace(" ", "_")
            log = at[-1] > 20 * (at[0] or at[1])
            figures.lines(at, series, folder / f"{name}.png", log_x=log, **curve.axes)
            caption = f"{about or 'All'}, by {curve.over}, with 95 % intervals."
            yield report.Picture(folder / f"{name}.png", caption)
