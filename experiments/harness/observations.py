"""What the seeds of a study observe, joined to records.

A seed is one repetition: a split, a training, an attack. Its observations have one
value per person, or one in all; `collect` joins those of all seeds. Who is observed in
several seeds counts as one.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.harness.results import Metric, Record, Results, metric
from mijax.metrics import intervals

_PERFECT = {"attribute_distance": 0.0, "advantage": None}  # others: 1

Labels = dict[str, str]


class Observation(NamedTuple):
    """What one seed says of one metric.

    Attributes:
      labels: what it is of.
      metric: one of `results.METRICS`.
      values: one per record, `[n]`, or the seed's only one, `[]`.
      people: whose value each is, `[n]`, or `[]`.
      without: the adversaries without a target that it is compared with, the first one
        as its baseline; or the baseline as a number.
    """

    labels: Labels
    metric: str
    values: np.ndarray
    people: np.ndarray
    without: tuple[str, ...] | float = ()


def single(
    metric: str, value: Any, labels: Labels, without: tuple[str, ...] | float = ()
) -> Observation:
    """An observation of which a seed has one."""
    value = np.asarray(value, np.float64)
    return Observation(labels, metric, value, np.zeros(()), without)


def collect(
    observations: Sequence[Observation], published: Sequence[Record] = ()
) -> Results:
    """Joins the seeds' observations: one record for each metric and labels.

    What has a value per record gets an interval over people, what has one per seed
    Student's. Of accuracies per record the gain over each baseline is told as well.

    Raises:
      ValueError: if there is not exactly one baseline of the name that is given.
    """
    joined: dict[tuple[str, frozenset], list[Observation]] = {}
    for each in observations:
        joined.setdefault((each.metric, frozenset(each.labels.items())), []).append(
            each
        )
    papers = {(r.metric, frozenset(r.labels.items())): r.value.value for r in published}
    records = []
    for place, each in joined.items():
        values, people = _values(each), np.concatenate([o.people.ravel() for o in each])
        if not values.size:
            continue
        first = each[0]
        without = first.without if isinstance(first.without, tuple) else ()
        others = {name: _without(joined, first, name) for name in without}
        if isinstance(first.without, tuple):
            baseline = next(iter(others.values()), None)
        else:
            baseline = np.array([first.without])
        options = {
            "baseline": baseline,
            "perfect": _PERFECT.get(first.metric, 1.0),
            "paper": papers.get(place),
        }
        if not first.values.ndim:
            line = over_seeds(values, **options)
        else:
            line = metric(values, clusters=people, **options)
        records.append(Record(first.labels, first.metric, line))
        if first.metric == "attribute_accuracy" and first.values.ndim:
            records += [
                Record(
                    first.labels | {"over": name},
                    "attribute_gain",
                    Metric(*intervals.mean(values - other, clusters=people)),
                )
                for name, other in others.items()
                if other is not None
            ]
    return Results(records)


def _values(each: Sequence[Observation]) -> np.ndarray:
    return np.concatenate([np.asarray(o.values, np.float64).ravel() for o in each])


def _without(
    joined: Mapping[tuple[str, frozenset], list[Observation]],
    attacked: Observation,
    adversary: str,
) -> np.ndarray | None:
    """The values of an adversary without a target, on the same people."""
    found = [
        each
        for (name, _), each in joined.items()
        if name == attacked.metric
        and each[0].labels.get("adversary") == adversary
        and {**attacked.labels, "adversary": adversary}.items()
        >= each[0].labels.items()
    ]
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} adversaries called {adversary!r} know what that of "
            f"{attacked.labels} does: give them labels that tell them apart."
        )
    return _values(found[0]) if found else None


def over_seeds(
    values: np.ndarray,
    *,
    baseline: np.ndarray | None = None,
    perfect: float | None = None,
    paper: float | None = None,
) -> Metric:
    """A line of what has one value a seed; the interval is Student's."""
    line = Metric(float(values.mean()), n=values.size)
    if values.size > 1:
        line = Metric(*intervals.student(values))
    line = dataclasses.replace(line, paper=paper)
    if baseline is None:
        return line
    without = float(np.asarray(baseline, np.float64).mean())
    leakage = None
    if perfect is not None and perfect != without:
        leakage = (line.value - without) / (perfect - without)
    return dataclasses.replace(line, baseline=without, leakage=leakage)


def timed(compute: Callable[..., list[Observation]], *given: Any) -> dict[str, Any]:
    """Observations as arrays, with the seconds of `compile` and of the rest, `run`.

    Args:
      compute: returns the observations.
      *given: its arguments.
    """
    compiled = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    start = time.monotonic()
    try:
        found = compute(*given)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    spent = time.monotonic() - start
    seconds = {"compile": sum(compiled), "run": max(spent - sum(compiled), 0.0)}
    return packed(found) | seconds


def packed(found: Sequence[Observation]) -> dict[str, Any]:
    """Observations as arrays; what is no array is in `index`, as JSON."""
    index = json.dumps([[o.labels, o.metric, o.without] for o in found])
    arrays: dict[str, Any] = {"index": np.array(index)}
    for i, each in enumerate(found):
        arrays |= {f"values {i}": each.values, f"people {i}": each.people}
    return arrays


def unpacked(arrays: Mapping[str, np.ndarray]) -> list[Observation]:
    """The observations that `packed` made arrays of."""
    return [
        Observation(
            labels,
            metric,
            arrays[f"values {i}"],
            arrays[f"people {i}"],
            tuple(without) if isinstance(without, list) else without,
        )
        for i, (labels, metric, without) in enumerate(json.loads(str(arrays["index"])))
    ]
