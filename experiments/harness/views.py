"""Records as tables and pictures of a page: declared, not computed, by a study."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from experiments.harness import figures, report
from experiments.harness.results import Pivot, Results

Draw = Callable[[Results, str, pathlib.Path], report.Picture]


class View(NamedTuple):
    """The table of a page: some records, by the labels of its rows and columns.

    Attributes:
      rows: labels.
      columns: labels.
      only: labels of the records, as in `Results.filter`.
      caption: of the table.
    """

    rows: tuple[str, ...] = ("data", "field", "target", "adversary")
    columns: tuple[str, ...] = ("records", "metric")
    only: Mapping[str, str | Sequence[str]] = MappingProxyType(
        {"metric": ("attribute_accuracy", "attribute_gmean", "attribute_auc")}
    )
    caption: str = "How often each adversary is right"

    def pivot(self, results: Results) -> Pivot:
        """The records by row and column."""
        return results.filter(**self.only).pivot(self.rows, self.columns)


def _words(labels: Sequence[str]) -> str:
    return ", ".join(label.replace("_", " ") for label in labels if label)


Series = Mapping[str, str | Sequence[str]] | Sequence[float] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Lines:
    """Draws a metric over a label, with 95 % intervals.

    Attributes:
      name: of the file.
      caption: of the picture.
      metric: what is drawn.
      label: what the horizontal axis is of.
      places: where each of its values stands, increasing.
      series: legend to labels, drawn flat where there is but one such record; or
        numbers.
      xlabel: of the axis.
      ylabel: of the axis.
      baseline: labels of the dashed line, or its value.
      baseline_label: what it says.
      log_x: whether the horizontal axis is logarithmic.
    """

    name: str
    caption: str
    metric: str
    label: str
    places: Mapping[str, float]
    series: Mapping[str, Series]
    xlabel: str
    ylabel: str
    baseline: Mapping[str, str] | float | None = None
    baseline_label: str = "chance"
    log_x: bool = False

    def __call__(
        self, results: Results, data: str, folder: pathlib.Path
    ) -> report.Picture:
        """Draws one table's records; returns the picture."""
        own = results.filter(data=data, metric=self.metric)

        def values(what: Series) -> np.ndarray:
            if not isinstance(what, Mapping):
                return np.asarray(what)
            found = own.filter(**what)
            if len(found) == 1:
                (line,) = (record.value for record in found)
                return np.full(len(self.places), line.value)
            lines = [
                found.value(self.metric, **{self.label: place}) for place in self.places
            ]
            ends = [(x.value, x.low, x.high) for x in lines]
            return np.array(ends, float)

        path = folder / f"{data}_{self.name}.png"
        baseline = self.baseline
        if isinstance(baseline, Mapping):
            baseline = own.value(self.metric, **baseline).value
        figures.lines(
            list(self.places.values()),
            {name: values(what) for name, what in self.series.items()},
            path,
            xlabel=self.xlabel,
            ylabel=self.ylabel,
            log_x=self.log_x,
            baseline=baseline,
            baseline_label=self.baseline_label,
        )
        return report.Picture(path, f"{data}: {self.caption} 95 % intervals.")


@dataclasses.dataclass(frozen=True)
class Bars:
    """Draws one bar per adversary, and a dashed line at one without a target.

    Attributes:
      name: of the file.
      caption: of the picture.
      metric: what is drawn.
      only: labels of the records.
      baseline: labels of the dashed line.
    """

    name: str
    caption: str
    metric: str
    only: Mapping[str, str | Sequence[str]]
    baseline: Mapping[str, str]

    def __call__(
        self, results: Results, data: str, folder: pathlib.Path
    ) -> report.Picture:
        """Draws one table's records; returns the picture."""
        own = results.filter(data=data, metric=self.metric)
        bars = list(own.filter(**self.only))
        ends = [(r.value.value, r.value.low, r.value.high) for r in bars]
        value, low, high = np.array(ends, float).T
        path = folder / f"{data}_{self.name}.png"
        figures.bars(
            [
                _words((r.label("adversary"), r.label("target")))
                + ("" if r.label("target") else " (no target)")
                for r in bars
            ],
            value,
            path,
            low=np.where(np.isnan(low), value, low),
            high=np.where(np.isnan(high), value, high),
            baseline=own.value(self.metric, **self.baseline).value,
            baseline_label=self.baseline["adversary"],
            xlabel=self.metric.replace("_", " "),
        )
        return report.Picture(path, f"{data}: {self.caption} 95 % intervals.")
