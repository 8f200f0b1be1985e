"""Gathers every `result.json` below a folder into one table, and draws it.

    python -m launch.collect --workdir=runs/NAME

In that folder it leaves `table.parquet` and `table.csv`, a line for each record of a
run, whose columns are the flags that differ between the runs and the records' labels;
`leakage.csv`, the leakage of each attack in each setting, with intervals over seeds;
and, for each metric that has a leakage, `figures/tradeoff-METRIC.png`: what leaks
against what the target is good for.
A result that cannot be read is named and left out.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from absl import app, flags

from experiments.harness import figures
from launch import runs
from mijax.metrics import intervals

Row = dict[str, Any]

_ENDS = "leakage_low", "leakage_high"
_FIELDS = ("value", "low", "high", "n", "baseline", "leakage", *_ENDS, "paper")
_PLACES = frozenset({"workdir", "data_dir", "resume", "profile"})  # change no result
_SEED = "seed"
_OF = "of."  # begins the column of a label
_TOLD_APART = 6  # attacks in one figure


def rows(workdir: pathlib.Path) -> tuple[list[Row], list[str]]:
    """Reads all results below a folder.

    Returns:
      A row for each record, all with the same columns: `run` (the folder),
      `experiment`, the flags that differ, `commit`, `device`, `compile` and
      `run_seconds`, `metric`, its labels (`of.images`), and the fields of the metric;
      None where there is nothing. Then a line for each result that cannot be read.

    Raises:
      ValueError: if there is no result that can be read.
    """
    results, problems = {}, []
    for path in sorted(workdir.rglob("result.json")):
        try:
            results[path.parent] = runs.result(path.parent)
        except ValueError as error:
            problems.append(str(error))
    if not results:
        raise ValueError(
            "\n".join([*problems, f"{workdir} holds no result.json to be read."])
        )
    varied = _varied([result["flags"] for result in results.values()])
    every = (record for result in results.values() for record in result["records"])
    labels = dict.fromkeys(name for record in every for name in record["labels"])
    return [
        {"run": str(folder.relative_to(workdir)), "experiment": result["experiment"]}
        | {name: result["flags"].get(name) for name in varied}
        | {name: result.get(name) for name in ("commit", "device")}
        | {"compile": result.get("seconds", {}).get("compile")}
        | {"run_seconds": result.get("seconds", {}).get("run")}
        | {"metric": record["metric"]}
        | {_OF + name: record["labels"].get(name) for name in labels}
        | {field: record.get(field) for field in _FIELDS}
        for folder, result in results.items()
        for record in result["records"]
    ], problems


def leakage(table: Sequence[Row], good: str) -> list[Row]:
    """Averages over seeds what leaks, and what the target is good for.

    Args:
      table: of `rows`.
      good: the metric of what the target is good for.

    Returns:
      A row for each metric and labels with a leakage, and each setting (the flags that
      differ, but for the seed): the mean `leakage` and `utility`, each with Student's
      95 % interval over `seeds`; where there is one seed, that of the run for leakage,
      and None for utility. The utility is that of the record of `good` whose labels the
      row shares, all of them, and the most.
    """
    useful_rows: dict[str, list[Row]] = {}
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in table:
        if row["metric"] == good:
            useful_rows.setdefault(row["run"], []).append(row)
        if row["leakage"] is not None:
            labels = ", ".join(map(str, _labels(row).values()))
            key = row["experiment"], row["metric"], labels, _setting(row)
            groups.setdefault(key, []).append(row)
    found = []
    for key, group in groups.items():
        names = dict(zip(("experiment", "metric", "of", "setting"), key, strict=True))
        used = [_utility(row, useful_rows.get(row["run"], [])) for row in group]
        leaks = _interval("leakage", [row["leakage"] for row in group])
        if len(group) == 1:
            leaks |= {end: group[0][end] for end in _ENDS}
        useful = _interval("utility", [value for value in used if value is not None])
        found.append(names | {"seeds": len(group)} | leaks | useful)
    return found


def _labels(row: Row) -> dict[str, str]:
    return {k: v for k, v in row.items() if k.startswith(_OF) and v is not None}


def _utility(row: Row, useful: Sequence[Row]) -> float | None:
    """What the attacked target is good for."""
    mine = _labels(row).items()
    fitting = [other for other in useful if _labels(other).items() <= mine]
    return (
        max(fitting, key=lambda other: len(_labels(other)))["value"]
        if fitting
        else None
    )


def draw(leaks: Sequence[Row], good: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """Draws leakage against utility, a figure a metric, and returns where they are.

    Where a metric has too many attacks to tell apart, those that leak most are drawn.
    """
    stems: dict[str, dict[str, list[figures.Point]]] = {}
    for row in leaks:
        if row["utility"] is None:
            continue
        point = figures.Point(
            row["setting"], _ends(row, "utility"), _ends(row, "leakage")
        )
        attacks = stems.setdefault(row["metric"], {})
        attacks.setdefault(row["of"] or row["experiment"], []).append(point)
    drawn = []
    for stem, attacks in stems.items():
        order = sorted(attacks, key=lambda name: -max(p.y[0] for p in attacks[name]))
        path = folder / f"tradeoff-{stem}.png"
        figures.tradeoff(
            {name: attacks[name] for name in order[:_TOLD_APART]},
            path,
            xlabel=good,
            ylabel=f"leakage, {stem}",
        )
        drawn.append(path)
    return drawn


def text(table: Sequence[Row]) -> str:
    """Returns rows as aligned columns, numbers to four digits."""
    cells = [list(table[0]), *([_cell(v) for v in row.values()] for row in table)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def arrow(table: Sequence[Row]) -> pa.Table:
    """Rows as columns; one that mixes kinds of values becomes text."""

    def column(name: str) -> pa.Array:
        values = [row[name] for row in table]
        try:
            if any(isinstance(value, list) for value in values):
                raise pa.ArrowInvalid("CSV has no lists.")
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return pa.array([None if value is None else str(value) for value in values])

    return pa.table({name: column(name) for name in table[0]})


def _varied(given: Sequence[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for run in given for name in run)
    return [
        name
        for name in names
        if name not in _PLACES and len({str(run.get(name)) for run in given}) > 1
    ]


def _setting(row: Row) -> str:
    """The flags that differ, but for the seed, as text."""
    names = list(row)[2 : list(row).index("commit")]
    given = [f"{n}={row[n]}" for n in names if n != _SEED and row[n] is not None]
    return " ".join(given) or "all"


def _interval(name: str, values: Sequence[float]) -> Row:
    if len(values) > 1:
        value, low, high, _ = intervals.student(values)
    else:
        value, low, high = (values[0] if values else None), None, None
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _ends(row: Row, name: str) -> tuple[float, float | None, float | None]:
    return row[name], row[f"{name}_low"], row[f"{name}_high"]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: list[str]) -> None:
    """Writes the tables and figures of `--workdir`, and prints what leaks."""
    del arguments
    workdir = pathlib.Path(flags.FLAGS.workdir).expanduser()
    try:
        table, problems = rows(workdir)
    except ValueError as error:
        sys.exit(f"error: {error}")
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    columns = arrow(table)
    pyarrow.parquet.write_table(columns, workdir / "table.parquet")
    pyarrow.csv.write_csv(columns, workdir / "table.csv")
    good = flags.FLAGS.utility
    leaks = leakage(table, good)
    if leaks:
        pyarrow.csv.write_csv(arrow(leaks), workdir / "leakage.csv")
        print(text(leaks))
    else:
        print("No metric has a leakage; table.csv holds the others.")
    number = len({row["run"] for row in table})
    print(f"\n{number} results of {len(table)} records in {workdir / 'table.parquet'}")
    drawn = draw(leaks, good, workdir / "figures")
    for path in drawn:
        print(f"figure: {path}")
    if leaks and not drawn:
        stems = sorted({row["metric"] for row in table})
        print(f"No figure: no result has a {good}; --utility may be any of {stems}.")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", "runs", "Folder whose results are collected.")
    flags.DEFINE_string(
        "utility", "target_test_accuracy", "The metric of what the target is good for."
    )
    app.run(main)
