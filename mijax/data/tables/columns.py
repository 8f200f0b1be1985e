"""Tables of columns as they come: a CSV file, a dict, a data frame."""

import csv
import dataclasses
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mijax.data.tables.table import (
    Categorical,
    Change,
    Field,
    Numeric,
    Table,
    complete,
    missing_as_category,
)

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "?")
_FEW = 10  # different numbers, up to which they are taken for categories
_COMMA = re.compile(r"[+-]?\d+(,\d+)?")
_WHOLE = re.compile(r"[+-]?\d+\.0*")
_MANY = 1000  # different texts, above which a column is taken for names or notes


def read(
    path: str | os.PathLike[str], delimiter: str | None = None
) -> dict[str, list[str]]:
    """Reads a delimited text file with a header into columns of text.

    Blank lines are passed over. Beside semicolons, numbers with a decimal comma are
    given a point.

    Args:
      path: of the file.
      delimiter: by default the comma or the semicolon, whichever the header has more.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it has no row, is not text, two columns have one name, or a row is
        of another length.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the CSV file in it.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        text = path.read_text("utf-8-sig")
        first = text.lstrip().partition("\n")[0]
        if delimiter is None:
            delimiter = ";" if first.count(";") > first.count(",") else ","
        numbered = enumerate(csv.reader(io.StringIO(text, ""), delimiter=delimiter), 1)
        rows = [(place, row) for place, row in numbered if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{path} is not delimited UTF-8 text: save it as CSV in UTF-8 ({error})."
        ) from error
    if len(rows) < 2:
        raise ValueError(f"{path} holds no row below its header: give a table.")
    header = [name.strip() for name in rows[0][1]]
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise ValueError(
            f"{path} has {header.count(twice[0])} columns {twice[0]!r}: rename all "
            "but one."
        )
    for place, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(
                f"{path}, row {place}, has {len(row)} values and the header "
                f"{len(header)}: mend the row."
            )
    columns = map(list, zip(*(row for _, row in rows[1:]), strict=True))
    if delimiter == ";":
        columns = map(_pointed, columns)
    return dict(zip(header, columns, strict=True))


def _pointed(cells: list[str]) -> list[str]:
    """Numbers with a decimal comma as those with a point; other columns as they are."""
    present = [cell for cell in map(str.strip, cells) if cell not in MISSING]
    if not all(map(_COMMA.fullmatch, present)):
        return cells
    return [cell.replace(",", ".") for cell in cells]


def number(values: Iterable[Any]) -> np.ndarray:
    """Returns float64 `[N]`; what is missing, or no number, is NaN."""

    def parse(value: Any) -> float:
        try:
            return float(value)
        except (TypeError, ValueError):
            return np.nan

    return np.array([parse(value) for value in values], np.float64)


def coded(
    name: str, values: Iterable[Any], categories: Sequence[str] | None = None
) -> tuple[Categorical, np.ndarray]:
    """Returns a categorical field and its codes; a value of no category is missing."""
    text = [_text(value) for value in values]
    if categories is None:
        categories = sorted(set(text) - {""}, key=_by_number)
    field = Categorical(name, tuple(categories))
    code = {label: i for i, label in enumerate(field.categories)}
    return field, np.array([code.get(value, -1) for value in text], np.int32)


def from_columns(
    name: str,
    columns: Mapping[str, Sequence[Any]],
    *,
    sensitive: Sequence[str],
    target: str,
    numeric: Sequence[str] = (),
    without: Sequence[str] = (),
) -> Table:
    """Makes a table of any columns: a dict of lists, a pandas or polars data frame.

    Numbers of which there are more than ten different ones are numeric, all else is
    categorical. Rows without a sensitive value or without a target are dropped; a
    missing category becomes one of its own, and a missing number is filled in by
    `Encoder`. The table says of how many rows.

    Args:
      name: of the table.
      columns: name to values.
      sensitive: names of columns to infer.
      target: name of the column that a model predicts.
      numeric: names of columns that are numeric, however few their values.
      without: names of columns that no model has seen, such as a record's number.

    Raises:
      ValueError: a column does not exist, holds no value, or texts that hardly
        repeat; the target is sensitive, or constant.
    """
    known = [str(column) for column in columns]
    for column in (*sensitive, target, *numeric, *without):
        if column not in known:
            raise ValueError(
                f"{name} has no column {column!r}: it has {', '.join(known)}."
            )
    if target in sensitive:
        raise ValueError(
            f"{name}: {target!r} is both sensitive and the target: the model would "
            "release it by itself; name another target."
        )
    fields: list[Field] = []
    arrays = {}
    for column in known:
        if column not in without:
            values, few = list(columns[column]), 0 if column in numeric else _FEW
            field, arrays[column] = _infer(name, column, values, few)
            fields.append(field)
    table = Table(name, tuple(fields), arrays, tuple(sensitive), target)
    table = missing_as_category(complete(table, (*sensitive, target)))
    if len(table) and (table.outcome == table.outcome[0]).all():
        raise ValueError(
            f"{name}: the target {target!r} has one value in all {len(table)} rows: "
            "there is nothing to predict."
        )
    gaps = {f.name: np.isnan(table[f.name]) for f in fields if isinstance(f, Numeric)}
    filled = tuple(
        Change(int(lost.sum()), f"no {column}: the median of the training rows")
        for column, lost in gaps.items()
        if lost.any()
    )
    return dataclasses.replace(table, changed=(*table.changed, *filled))


def _infer(
    table: str, column: str, values: Sequence[Any], few: int
) -> tuple[Field, np.ndarray]:
    text = [_text(value) for value in values]
    present = [value for value in text if value]
    if not present:
        raise ValueError(
            f"{table}: column {column!r} holds no value in {len(text)} rows: leave it "
            "out."
        )
    parsed = number(present)
    if np.isinf(parsed).any() and not np.isnan(parsed).any():
        raise ValueError(
            f"{table}: column {column!r} holds {int(np.isinf(parsed).sum())} infinite "
            "numbers, which have no deviation: leave them blank, or the column out."
        )
    numbers = np.isfinite(parsed).all()
    if numbers:
        text = [whole(value) for value in text]
    different = len(set(text) - {""})
    if numbers and different > few:
        return Numeric(column), number(value or np.nan for value in text)
    if different > _MANY:
        raise ValueError(
            f"{table}: column {column!r} holds {different} different texts: leave it "
            "out, or group them."
        )
    return coded(column, text)


def _text(value: Any) -> str:
    """A value as text, numbers in one way of writing; nothing where it is missing."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    return "" if text in MISSING else text


def whole(text: str) -> str:
    """Text as it is, but a whole number without its decimals, `1.0` as `1`.

    Tables write a column of integers so where one is missing.
    """
    return str(int(text.partition(".")[0])) if _WHOLE.fullmatch(text) else text


def _by_number(label: str) -> tuple[float, str]:
    (value,) = number([label])
    return (np.inf if np.isnan(value) else value), label
