"""Results as records: what was measured, of what, with its interval and baseline.

A `Record` says in labels what it is of, and a table is a pivot of records, so that
nobody composes or decodes a name:

    results.pivot(rows=("images",), columns=("metric",))
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mijax.metrics import intervals

METRICS = {
    "target_test_accuracy": "of the attacked model, on images it was not trained on",
    "target_test_error": "mean absolute error of the attacked model, new records",
    "evaluator_test_accuracy": "of the model that judges, on real images new to it",
    "top1": "the evaluator's first guess is the attacked class",
    "top5": "the attacked class is among the evaluator's five first guesses",
    "identity_1nn": "the nearest image of all people, in features, is of that person",
    "knn_distance": "squared distance to the person's nearest private image, features",
    "feature_distance": "squared distance to the person's centroid, features",
    "frechet_distance": "between private and recovered images, in the named features",
    "precision": "share of recovered images that lie among the private ones",
    "recall": "share of private images that lie among the recovered ones",
    "density": "private neighborhoods around a recovered image, in units of k",
    "coverage": "share of private images with a recovered one nearby",
    "mse": "squared error of a pixel in [0, 1]",
    "score_distortion": "absolute change of the released confidences, sum over classes",
    "training_seconds": "of the defense, on this device, without compilation",
    "distance_correlation": "of inputs and features, or of inputs and recovered images",
    "label_kl": "divergence of the recovered from the true distribution of labels",
    "mape": "mean absolute error of a pixel, gray levels of 255",
    "weight_distance": "of a layer's weights to a clean model's, the largest, 0 to 1",
    "alarm_rate": "share of networks that a detector says carry hidden data",
    "style_rate": "share of samples that the judge takes for the victim's style",
    "inception_score": "of samples, by the named classifier: 1 to the classes' number",
    "identity_accuracy": "real images rightly said to be of the victim or of others",
    "correlation": "of the mean of what was recovered and the class's mean image",
    "rank1_correlation": "the class mean that correlates most is the attacked class's",
    "acceptance": "share of generated images that the target takes for the label",
    "fidelity": "share of images of which surrogate and target say the same class",
    "surrogate_accuracy": "of the adversary's copy of the target, on real images",
    "class_accuracy": "the same, on images of the attacked class alone",
    "best_match": "squared error of a true image and the sample nearest to it",
    "record_1nn": "of all victims' records, the nearest to the recovered is the right",
    "models_per_minute": "shadow models trained in a minute, without compilation",
    "generalization_gap": "accuracy on the training records less that on new ones",
    "disclosed": "what the named attack measures of a target: its own measure",
    "rank_correlation": "Spearman's, of the generalization gap and what is disclosed",
    "similarity": "cosine of token counts of the recovered and the true text",
    "token_precision": "share of the recovered tokens that the true text has",
    "token_recall": "share of the true text's tokens that are recovered",
    "exposure": "bits by which a canary outranks a random secret, by enumeration",
    "approximate_exposure": "the same by a skew normal fitted to random secrets",
    "bits_per_character": "cross-entropy of the attacked language model, held-out text",
    "noise_multiplier": "deviation of DP-SGD's noise, in units of the clipping norm",
    "success_bound": "the highest success rate of any adversary, by the accountant",
    "epsilon": "of differential privacy, of one training record or one client",
    "bit_error_rate": "share of hidden bits that are read back wrong",
    "psnr": "peak signal-to-noise ratio, dB",
    "ssim": "structural similarity, 1 for identical images",
    "success_rate": "share of attempts that met the experiment's criterion",
    "label_accuracy": "share of labels recovered",
    "attack_steps": "steps until 99.9 % of the loss's fall, median of the successes",
    "attribute_accuracy": "share of sensitive values recovered",
    "attribute_gain": "attribute_accuracy with the target less that of the baseline",
    "attribute_auc": "area under the ROC curve, mean over sensitive values",
    "attribute_gmean": "geometric mean of the recalls of the sensitive values",
    "attribute_mcc": "Matthews' correlation of inferred and true sensitive values",
    "attribute_precision": "share of those said to have the sensitive value who do",
    "attribute_recall": "share of those who have the sensitive value said to",
    "attribute_distance": "share of the sensitive bits that are inferred wrongly",
    "property_accuracy": "share of models or batches whose property is inferred",
    "property_auc": "area under the ROC curve of having the property",
    "property_precision": "share of what is said to have the property that has it",
    "word_precision": "share of the words said to be in a batch that are",
    "word_recall": "share of the words of a batch that are said to be in it",
    "membership_auc": "area under the ROC curve of members against others",
    "advantage": "correct for members less correct for others",
    "deviation_ratio": "deviation of errors on new records, over that on members",
    "explained_variance": "share of the outcome's variance that the model explains",
    "null_ratio": "error in units of the null case's, record by record",
    "error_ratio": "error of the attacked model, in units of the one without defense",
    "information": "nats that the model is bound to tell of a record, by its trainer",
    "leakage": "0: what needs no target; 1: everything",
}
"""The names that results may bear, each with its definition."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """One line of the result table; None where there is nothing to say.

    The first four fields are those of `intervals.Interval`: an interval made elsewhere
    becomes a line as `Metric(*intervals.leakage(...))`.
    """

    value: float
    low: float | None = None  # ends of the 95 % interval
    high: float | None = None
    n: int | None = None  # examples attempted
    baseline: float | None = None  # what needs no target
    leakage: float | None = None
    paper: float | None = None  # the published number
    failed: int = 0  # examples of n that were not finite, counted as failures
    leakage_low: float | None = None  # ends of its 95 % interval
    leakage_high: float | None = None


def metric(
    values: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    failure: float | None = None,
    baseline: ArrayLike | None = None,
    perfect: float | None = None,
    paper: float | None = None,
) -> Metric:
    """Makes a line of the result table from one value for each example.

    Values that are all 0 or 1 get Wilson's interval, others a bootstrap interval; the
    leakage of the former has the ends that Wilson's give, as for a known baseline.

    Args:
      values: `[n]`.
      clusters: `[n]`, whose value it is, if restarts share a victim.
      failure: what an example whose value is not finite counts as (0 for a success
        rate); without it such a value raises.
      baseline: the same metric without the target, its mean or values `[m]`.
      perfect: the metric of a perfect reconstruction; with a baseline it gives leakage.
      paper: the published number.

    Returns:
      The line; no interval where there is but one example.

    Raises:
      ValueError: a value is not finite and no `failure` is given, or there is none.
    """
    values = np.asarray(values, np.float64)
    lost = ~np.isfinite(values)
    if failure is not None:
        values = np.where(lost, failure, values)
    if np.isin(values, (0, 1)).all():
        interval = intervals.proportion(values, clusters=clusters)
    elif len(np.unique(range(values.size) if clusters is None else clusters)) == 1:
        interval = (float(values.mean()), None, None, values.size)
    else:
        interval = intervals.mean(values, clusters=clusters)
    line = Metric(*interval, paper=paper, failed=int(lost.sum()))
    if baseline is None:
        return line
    baseline = np.asarray(baseline, np.float64)
    line = dataclasses.replace(line, baseline=float(baseline.mean()))
    if perfect is None or line.baseline == perfect:
        return line
    leakage, low, high = _leakage(line, values, baseline, perfect, clusters)
    return dataclasses.replace(
        line, leakage=leakage, leakage_low=low, leakage_high=high
    )


def _leakage(
    line: Metric,
    values: np.ndarray,
    baseline: np.ndarray,
    perfect: float,
    clusters: ArrayLike | None,
) -> tuple[float, float | None, float | None]:
    """The share of the way from baseline to perfect, with its interval's ends."""
    without = float(baseline.mean())

    def share(value: float) -> float:
        return (value - without) / (perfect - without)

    if line.low is None or line.high is None:
        return share(line.value), None, None
    if np.isin(values, (0, 1)).all():
        low, high = sorted((share(line.low), share(line.high)))
        return share(line.value), low, high
    if clusters is not None and baseline.size != values.size:
        baseline = np.array([without])
    try:
        return intervals.leakage(values, baseline, perfect, clusters=clusters)[:3]
    except ValueError:  # The baseline is perfect in a resample: there is no interval.
        return share(line.value), None, None


Key = tuple[str, ...]


class Record(NamedTuple):
    """One number of a run: a metric, and what it is of.

    Attributes:
      labels: such as `{"images": "gmi_logit", "judge": "evaluator"}`.
      metric: one of `METRICS`.
      value: with its interval, baseline and leakage.
    """

    labels: Mapping[str, str]
    metric: str
    value: Metric

    def label(self, name: str) -> str:
        """The label of that name, the metric for `metric`, "" where there is none."""
        return self.metric if name == "metric" else self.labels.get(name, "")


class Pivot(NamedTuple):
    """Records as a table.

    Attributes:
      rows: the labels of each row, in the order in which they first occur.
      columns: those of each column.
      cells: the records' values by row and column, None where there is none.
    """

    rows: list[Key]
    columns: list[Key]
    cells: list[list[Metric | None]]


class Results:
    """The records of a run, in the order in which they were measured.

    Raises:
      ValueError: a metric is not in `METRICS`, a label is empty or named `metric`, two
        records have the same labels, or a number is not finite.
    """

    def __init__(self, records: Sequence[Record] = ()):
        seen = set()
        for record in records:
            _check(record)
            key = record.metric, frozenset(record.labels.items())
            if key in seen:
                raise ValueError(
                    f"There are two records of {record.metric} of "
                    f"{dict(record.labels)}: give one of them another label."
                )
            seen.add(key)
        self._records = tuple(records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __add__(self, other: "Results") -> "Results":
        return Results([*self, *other])

    def filter(self, **labels: str | Sequence[str]) -> "Results":
        """The records whose labels (`metric` too) are these, or among these.

        An empty text means that there is no such label.
        """

        def fits(record: Record) -> bool:
            return all(
                record.label(name) in ((wanted,) if isinstance(wanted, str) else wanted)
                for name, wanted in labels.items()
            )

        return Results([record for record in self if fits(record)])

    def value(self, metric: str, **labels: str) -> Metric:
        """The one value of a metric with these labels.

        Raises:
          ValueError: if there is none, or there are several.
        """
        found = list(self.filter(metric=metric, **labels))
        if len(found) != 1:
            raise ValueError(
                f"{len(found)} records of {metric} have the labels {labels}: give "
                "labels that one record has."
            )
        return found[0].value

    def pivot(self, rows: Sequence[str], columns: Sequence[str]) -> Pivot:
        """Arranges the records by labels; `metric` counts as one.

        Raises:
          ValueError: if two records fall into one cell.
        """
        cells: dict[tuple[Key, Key], Metric] = {}
        for record in self:
            place = (
                tuple(record.label(name) for name in rows),
                tuple(record.label(name) for name in columns),
            )
            if place in cells:
                raise ValueError(
                    f"Two records fall into row {place[0]}, column {place[1]}: filter "
                    f"first, or pivot by another label of {dict(record.labels)}."
                )
            cells[place] = record.value
        down = list(dict.fromkeys(row for row, _ in cells))
        across = list(dict.fromkeys(column for _, column in cells))
        return Pivot(
            down, across, [[cells.get((row, c)) for c in across] for row in down]
        )

    def to_json(self) -> list[dict[str, Any]]:
        """The records for `result.json`: labels, metric, and the fields of `Metric`."""
        return [
            {"labels": dict(record.labels), "metric": record.metric}
            | {
                field: None if x is None else np.asarray(x).item()
                for field, x in _numbers(record.value).items()
            }
            for record in self
        ]


def from_json(entries: Sequence[Mapping[str, Any]]) -> Results:
    """Reads what `to_json` wrote."""
    fields = {field.name for field in dataclasses.fields(Metric)}
    return Results(
        [
            Record(
                entry["labels"],
                entry["metric"],
                Metric(**{k: v for k, v in entry.items() if k in fields}),
            )
            for entry in entries
        ]
    )


def _numbers(line: Metric) -> dict[str, Any]:
    numbers = dataclasses.asdict(line)
    del numbers["failed"]  # The page says so in words.
    return numbers


def _check(record: Record) -> None:
    if record.metric not in METRICS:
        raise ValueError(
            f"{record.metric!r} is no metric's name: use one of {', '.join(METRICS)}."
        )
    if "metric" in record.labels or not all(record.labels.values()):
        raise ValueError(
            f"{record.metric} has the labels {dict(record.labels)}: none may be empty, "
            "or named metric."
        )
    for field, number in _numbers(record.value).items():
        if number is not None and not math.isfinite(number):
            raise ValueError(
                f"{field} of {record.metric} of {dict(record.labels)} is {number}: "
                "leave out what cannot be computed, and say why in a caveat."
            )
