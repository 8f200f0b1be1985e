"""Collects every `result.json` below a folder into one table: a metric a line.

    python -m launch.collect --workdir=runs

It prints the table and writes it to `table.csv` in that folder. Flags whose value
differs between the runs become columns, so that seeds and settings can be compared.
"""

import csv
import json
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from absl import app, flags

Row = dict[str, Any]

_FIELDS = ("value", "low", "high", "n", "baseline", "leakage", "paper")
_PLACES = frozenset({"workdir", "data_dir", "resume", "profile"})  # change no result


def rows(workdir: pathlib.Path) -> list[Row]:
    """Reads all results below a folder.

    Returns:
      A row a metric, all with the same columns: `run` (the folder), `experiment`, the
      flags that differ, `metric`, and the fields of the metric; None where there is
      nothing.

    Raises:
      ValueError: if there is no result, or one that cannot be read.
    """
    paths = sorted(workdir.rglob("result.json"))
    if not paths:
        raise ValueError(f"{workdir} holds no result.json: name the folder of runs.")
    results = [_read(path) for path in paths]
    varied = _varied([result["flags"] for result in results])
    return [
        {"run": str(path.parent.relative_to(workdir))}
        | {"experiment": result["experiment"]}
        | {name: result["flags"].get(name) for name in varied}
        | {"metric": metric}
        | {field: values.get(field) for field in _FIELDS}
        for path, result in zip(paths, results, strict=True)
        for metric, values in result["metrics"].items()
    ]


def text(table: Sequence[Row]) -> str:
    """Returns rows as aligned columns, numbers to four digits."""
    cells = [list(table[0]), *([_cell(v) for v in row.values()] for row in table)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text())
        return {name: result[name] for name in ("experiment", "flags", "metrics")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a result ({error!r}): move it away, or run it again."
        ) from error


def _varied(given: Sequence[dict[str, Any]]) -> list[str]:
    names: Iterable[str] = dict.fromkeys(name for run in given for name in run)
    return [
        name
        for name in names
        if name not in _PLACES and len({str(run.get(name)) for run in given}) > 1
    ]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: list[str]) -> None:
    """Prints and writes the table of `--workdir`."""
    del arguments
    workdir = pathlib.Path(flags.FLAGS.workdir).expanduser()
    try:
        table = rows(workdir)
    except ValueError as error:
        sys.exit(f"error: {error}")
    with (workdir / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    print(text(table))


if __name__ == "__main__":
    flags.DEFINE_string("workdir", "runs", "Folder whose results are collected.")
    app.run(main)
