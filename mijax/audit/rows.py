"""Rows as the file holds them: read, cut into columns, and changed in one field alone.

A frame is a pandas data frame, or a mapping of names to arrays of one length. What the
model is asked is always a selection of it; what an imputation needs is made apart, by
`features`.
"""

import csv
import importlib
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frame = Any  # pandas.DataFrame | Mapping[str, NDArray]

MISSING = "(missing)"
_FEW = 10  # different numbers, up to which they are categories
_MANY = 50  # different texts, above which a column may be an identifier
_COMMON = 100  # categories an imputation tells apart; the rest are one
_COMMA = re.compile(r"[+-]?\d+,\d+")
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)")
_YES = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}


def read(path: str, **options: Any) -> Frame:
    """Reads a CSV file with pandas where it is installed, else with the csv module.

    Names of columns are stripped; values are not touched. The csv module's columns are
    integers, numbers or booleans where all that is written are, and otherwise text;
    digits with leading zeros are text.

    Args:
      path: of the file.
      options: of `pandas.read_csv`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no table, or two columns share a name.
    """
    if not pathlib.Path(path).expanduser().is_file():
        folder = ", but a folder" if pathlib.Path(path).expanduser().is_dir() else ""
        raise FileNotFoundError(
            f"There is no file {path}{folder}: give --data=FILE.csv."
        )
    try:
        pandas: Any = importlib.import_module("pandas")
    except ImportError:
        if options:
            raise ValueError(
                "--read_options are of pandas, which is missing: pip install pandas."
            ) from None
        return _read(path)
    try:
        frame = pandas.read_csv(path, **_options(path, options))
        if not hasattr(frame, "iloc"):
            raise TypeError("pieces of a table")
    except Exception as error:  # Whatever pandas says of options that do not fit.
        line = re.search(r"line \d+", str(error))
        where = f"{path}, {line[0]}," if line else path
        raise ValueError(
            f"{where} is no table that read_csv reads with the --read_options "
            f"{options}: mend it, give others, or --rows=MODULE:FUNCTION"
        ) from error
    frame.columns = [str(name).strip() for name in frame.columns]
    return checked(frame, path)


def _read(path: str) -> dict[str, NDArray[Any]]:
    try:
        text = pathlib.Path(path).expanduser().read_text("utf-8-sig")
        if "\0" in text:
            raise csv.Error("a zero byte")
        separator = _separator(_header(text))
        lines = [
            row
            for row in csv.reader(text.splitlines(), delimiter=separator)
            if any(cell.strip() for cell in row)
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{path} is not delimited UTF-8 text: save it as CSV in UTF-8, or give "
            "--rows=MODULE:FUNCTION."
        ) from error
    if len(lines) < 2:
        raise ValueError(
            f"{path} holds no row below its header: give a table of people."
        )
    header = [name.strip() for name in lines[0]]
    for number, row in enumerate(lines[1:], 2):
        if len(row) != len(header):
            raise ValueError(
                f"{path}, row {number}, has {len(row)} values and the header "
                f"{len(header)}: mend the row, or give --rows=MODULE:FUNCTION."
            )
    columns = zip(*lines[1:], strict=True)
    if _decimal(text, separator) == ",":
        columns = [[_pointed(cell) for cell in cells] for cells in columns]
    named = [(name, _typed(cells)) for name, cells in zip(header, columns, strict=True)]
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise ValueError(
            f"{path} has several columns {twice[0]!r}: rename all but one."
        )
    return dict(named)


def _header(text: str) -> str:
    return text.lstrip("\ufeff\r\n ").partition("\n")[0]


def _separator(header: str) -> str:
    return max(",;\t", key=header.count)


def _decimal(text: str, separator: str) -> str:
    """The comma where numbers beside semicolons have one, and none has a point."""
    cells = [cell.strip() for line in text.splitlines() for cell in line.split(";")]
    pointed = any(re.fullmatch(r"[+-]?\d*\.\d+", cell) for cell in cells)
    comma = separator == ";" and any(map(_COMMA.fullmatch, cells))
    return "," if comma and not pointed else "."


def _options(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """The user's options, and separator and decimal sign where none is given."""
    file = pathlib.Path(path).expanduser()
    known = {"sep", "delimiter", "encoding", "compression"} & options.keys()
    if known or file.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return options
    text = file.read_text("utf-8", "replace")
    separator = _separator(_header(text))
    return {"sep": separator, "decimal": _decimal(text, separator), **options}


def _pointed(cell: str) -> str:
    return cell.replace(",", ".") if _COMMA.fullmatch(cell.strip()) else cell


def _typed(cells: Sequence[str]) -> NDArray[Any]:
    written = [cell.strip() for cell in cells]
    present = [cell for cell in written if cell]
    if present and all(cell in ("True", "False") for cell in written):
        return np.array([cell == "True" for cell in written])
    padded = any(re.fullmatch(r"[+-]?0\d+", cell) for cell in present)
    if present and not padded:
        if all(map(_INTEGER.fullmatch, written)):
            return np.array([int(cell) for cell in written])
        try:
            return np.array([float(cell) if cell else np.nan for cell in written])
        except ValueError:
            pass
    return np.array(cells, object)


def checked(frame: Frame, source: str = "the frame") -> Frame:
    """Returns the frame, a mapping's columns as arrays.

    Raises:
      ValueError: it is no table, holds no row, or names two columns alike.
    """
    if not (hasattr(frame, "iloc") and hasattr(frame, "columns")):  # no Series
        if not isinstance(frame, Mapping):
            raise ValueError(
                f"{source} is a {type(frame).__name__}: give a pandas data frame, or a "
                "dict of columns."
            )
        frame = {str(name): np.asarray(values) for name, values in frame.items()}
        for name, values in frame.items():
            if values.ndim != 1:
                raise ValueError(
                    f"{source}: the column {name!r} has {values.ndim} dimensions: give "
                    "one value a row."
                )
        lengths = {len(values) for values in frame.values()}
        if len(lengths) > 1:
            raise ValueError(
                f"{source} has columns of {sorted(lengths)} values: give one value a "
                "row of each."
            )
    known = names(frame)
    unnamed = [name for name in known if not isinstance(name, str)]
    if unnamed:
        raise ValueError(
            f"{source} has a column {unnamed[0]!r}, which is no text: rename the "
            "columns, and give a function that turns them back for the model."
        )
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise ValueError(f"{source} has several columns {twice[0]!r}: rename them.")
    if not known or not size(frame):
        raise ValueError(f"{source} holds no row: give a table of people.")
    return frame


def names(frame: Frame) -> list[str]:
    """Names of the columns, in order."""
    return list(frame.columns if hasattr(frame, "iloc") else frame)


def size(frame: Frame) -> int:
    """How many rows there are."""
    return len(frame) if hasattr(frame, "iloc") else len(next(iter(frame.values())))


def column(frame: Frame, name: str) -> NDArray[Any]:
    """The values of a column, `[N]`."""
    return frame[name].to_numpy() if hasattr(frame, "iloc") else frame[name]


def take(frame: Frame, rows: NDArray[np.intp], columns: Sequence[str]) -> Frame:
    """Some rows of some columns, types kept."""
    if hasattr(frame, "iloc"):
        return frame[list(columns)].iloc[rows]
    return {name: frame[name][rows] for name in columns}


def copied(frame: Frame) -> Frame:
    """A frame of its own."""
    if hasattr(frame, "iloc"):
        return frame.copy()
    return {name: values.copy() for name, values in frame.items()}


def overwritten(
    rows: Frame, name: str, frame: Frame, positions: NDArray[np.intp]
) -> Frame:
    """Rows in which one column holds what the frame holds at other positions."""
    if hasattr(frame, "iloc"):
        values = frame[name].iloc[positions].set_axis(rows.index)
        return rows.assign(**{name: values})
    return rows | {name: frame[name][positions]}


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, or the missing value of pandas."""
    kind = type(value).__name__
    if value is None or kind in ("NAType", "NaTType"):
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # An array, say, is a value.
        return False


def label(value: Any) -> str:
    """A value as text, a whole number without decimals; blanks around it are kept."""
    if is_missing(value):
        return MISSING
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def coded(values: NDArray[Any]) -> tuple[list[str], NDArray[np.intp]]:
    """Different values in order of number, then text, and the place of each, `[N]`."""
    if values.dtype.kind in "iufb":
        different, codes = np.unique(values, return_inverse=True)
        return [label(value) for value in different], codes
    cells = list(values)
    try:  # True, 1 and 1.0 are equal and look different.
        keys = list(zip(map(type, cells), cells, strict=True))
        labels = {key: label(key[1]) for key in dict.fromkeys(keys)}
    except TypeError:  # Lists, say.
        keys = [label(value) for value in cells]
        labels = {key: key for key in keys}
    different = sorted(set(labels.values()))
    place = {text: code for code, text in enumerate(different)}
    found = {key: place[text] for key, text in labels.items()}
    return different, np.fromiter(map(found.__getitem__, keys), np.intp, len(keys))


def numbers(values: NDArray[Any]) -> NDArray[np.float64] | None:
    """The values as numbers, missing ones NaN; None where one of them is no number."""
    if values.dtype.kind in "iuf":
        return values.astype(np.float64)
    if values.dtype.kind == "b":
        return None
    try:
        return np.array(
            [np.nan if is_missing(v) or v == "" else float(v) for v in values]
        )
    except (TypeError, ValueError):
        return None


def is_numeric(
    values: NDArray[Any], name: str, numeric: Sequence[str], categorical: Sequence[str]
) -> bool:
    """Whether a column is taken as numbers: more than ten different, or told so."""
    if name in categorical:
        return False
    found = numbers(values)
    if found is None or np.isnan(found).all():
        return False
    return name in numeric or len(np.unique(found[~np.isnan(found)])) > _FEW


def membership(frame: Frame, members: str | NDArray[Any]) -> NDArray[np.bool_]:
    """Who was trained on, `[N]`, of a column's name or of the values themselves.

    Raises:
      ValueError: a value says neither yes nor no, or all are the same.
    """
    named = isinstance(members, str)
    values = column(frame, members) if named else np.asarray(members)
    what = f"the column of members, {members!r}," if named else "members"
    if values.ndim != 1:
        raise ValueError(
            f"{what} has {values.ndim} dimensions: give a column's name, or 1 or 0 for "
            "each row."
        )
    different, codes = coded(values)
    said = [_YES.get(value.strip().lower()) for value in different]
    if None in said:
        wrong = different[said.index(None)]
        raise ValueError(f"{what} holds {wrong!r}: it must say 1 or 0, or yes or no.")
    trained = np.array(said, bool)[codes]
    if len(trained) != size(frame):
        raise ValueError(
            f"{what} has {len(trained)} values for {size(frame)} rows: give one a row."
        )
    if trained.all() or not trained.any():
        raise ValueError(
            f"{what} makes all {len(trained)} rows the same: there must be members and "
            "others."
        )
    return trained


def unusable(
    frame: Frame, columns: Sequence[str], categorical: Sequence[str] = ()
) -> dict[str, str]:
    """Columns that no imputation can use, and why."""
    why = {}
    for name in columns:
        values = column(frame, name)
        if values.dtype.kind in "Mm":
            why[name] = "dates"
            continue
        found = numbers(values)
        if found is not None and np.isinf(found).any():
            why[name] = f"{int(np.isinf(found).sum())} infinite numbers"
        elif found is None or name in categorical:
            different = len(coded(values)[0])
            if different > max(_MANY, len(values) // 4):
                why[name] = f"{different:,} different texts in {len(values):,} rows"
        elif np.isnan(found).all():
            why[name] = "no value"
        else:
            with np.errstate(all="ignore"):
                if not np.isfinite(np.nanstd(found)):
                    why[name] = "numbers too large for a deviation"
    return why


def features(
    frame: Frame,
    columns: Sequence[str],
    fitted_to: NDArray[np.bool_],
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
) -> NDArray[np.float64]:
    """What an imputation reads of every row, `[N, D]`, finite.

    Numbers are standardized and missing ones are the median of the rows `fitted_to`;
    texts are one-hot, blanks around them dropped, rare ones and those that no such row
    has all zeros. Two categories take one column.
    """
    blocks = []
    for name in columns:
        values = column(frame, name)
        if is_numeric(values, name, numeric, categorical):
            found = numbers(values)
            assert found is not None
            if not np.isfinite(found[fitted_to]).any():
                continue
            median = np.nanmedian(found[fitted_to])
            center, scale = np.nanmean(found[fitted_to]), np.nanstd(found[fitted_to])
            filled = np.where(np.isnan(found), median, found)
            blocks.append(((filled - center) / (scale or 1.0))[:, None])
            continue
        if values.dtype.kind not in "iufb":
            values = np.array([label(value).strip() for value in values], object)
        different, codes = coded(values)
        counts = np.bincount(codes[fitted_to], minlength=len(different))
        common = np.sort(np.argsort(-counts, kind="stable")[:_COMMON])
        common = common[counts[common] > 0]
        if len(different) == len(common) == 2:
            common = common[1:]
        blocks.append((codes[:, None] == common).astype(np.float64))
    return np.concatenate([np.zeros((size(frame), 0)), *blocks], 1)
