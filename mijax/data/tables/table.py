"""A table of people: typed columns, and a record of what was left out of them."""

import collections
import dataclasses
import difflib
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class Numeric:
    """A column of numbers; a missing one is NaN."""

    name: str

    @property
    def kind(self) -> str:
        """What to call it in a report."""
        return "numeric"


@dataclasses.dataclass(frozen=True)
class Categorical:
    """A column of codes 0..K-1 into K `categories`; a missing one is -1."""

    name: str
    categories: tuple[str, ...]

    def __post_init__(self):
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"{self.name}: two categories share one name.")

    @property
    def kind(self) -> str:
        """What to call it in a report."""
        return "binary" if len(self.categories) == 2 else "categorical"


Field: TypeAlias = Numeric | Categorical


class Change(NamedTuple):
    """How many rows something was done to, and what."""

    rows: int
    what: str


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Columns of N people, which of them are sensitive, and which one is predicted.

    Attributes:
      name: what the table is called in messages and reports.
      fields: the schema, in the order of the columns.
      columns: name to `[N]`, float64 of a numeric field and int32 of a categorical.
      sensitive: names of the fields whose values an attack infers.
      target: name of the field that a model predicts.
      dropped: how many rows were left out, and why.
      changed: how many rows had a value replaced, and how.

    Raises:
      ValueError: a column is missing, of another length, type or range, or the
        sensitive and predicted fields are not of the table, or the same.
    """

    name: str
    fields: tuple[Field, ...]
    columns: Mapping[str, np.ndarray]
    sensitive: tuple[str, ...]
    target: str
    dropped: tuple[Change, ...] = ()
    changed: tuple[Change, ...] = ()

    def __post_init__(self):
        for name, times in collections.Counter(f.name for f in self.fields).items():
            if times > 1:
                raise ValueError(f"{self.name}: {times} columns are called {name!r}.")
        for name in (*self.sensitive, self.target):
            self.field(name)
        if self.target in self.sensitive:
            raise ValueError(
                f"{self.name}: {self.target!r} is both sensitive and the target: the "
                "model would release it by itself; name another target."
            )
        for field in self.fields:
            self._check(field)

    def _check(self, field: Field) -> None:
        column = self.columns.get(field.name)
        dtype = np.int32 if isinstance(field, Categorical) else np.float64
        if column is None or column.dtype != dtype or column.shape != (len(self),):
            found = "none" if column is None else f"{column.dtype} {column.shape}"
            raise ValueError(
                f"{self.name}: column {field.name!r} must be {dtype.__name__} "
                f"({len(self)},), not {found}."
            )
        if isinstance(field, Categorical) and len(self):
            if not -1 <= column.min() <= column.max() < len(field.categories):
                raise ValueError(
                    f"{self.name}: codes of {field.name!r} must lie in -1.."
                    f"{len(field.categories) - 1}, not {column.min()}..{column.max()}."
                )
        elif np.isinf(column).any():
            raise ValueError(f"{self.name}: {field.name!r} holds an infinite number.")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[self.field(name).name]

    @property
    def names(self) -> tuple[str, ...]:
        """All columns."""
        return tuple(field.name for field in self.fields)

    @property
    def features(self) -> tuple[Field, ...]:
        """The fields that a model predicts the target from."""
        return tuple(field for field in self.fields if field.name != self.target)

    @property
    def outcome(self) -> np.ndarray:
        """What is predicted, `[N]`: numbers, or codes of categories."""
        return self.columns[self.target]

    def field(self, name: str) -> Field:
        """Returns the field of that name.

        Raises:
          ValueError: there is none.
        """
        for field in self.fields:
            if field.name == name:
                return field
        close = difflib.get_close_matches(name, self.names)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"{self.name} has no column {name!r}: it has {', '.join(self.names)}.{hint}"
        )

    def categories(self, name: str) -> tuple[str, ...]:
        """Returns the categories of a field.

        Raises:
          ValueError: there is no such field, or it is numeric.
        """
        field = self.field(name)
        if isinstance(field, Numeric):
            values = len(np.unique(self[name]))
            raise ValueError(
                f"{self.name}: {name!r} is numeric, with {values} different values: "
                "cut it into categories first (mijax.data.tables.cut)."
            )
        return field.categories

    def select(self, rows: ArrayLike) -> "Table":
        """Returns the table of some rows, by number or by a mask; reports nothing."""
        rows = np.asarray(rows)
        columns = {name: column[rows] for name, column in self.columns.items()}
        return dataclasses.replace(self, columns=columns)

    def drop(self, rows: ArrayLike, why: str) -> "Table":
        """Leaves rows out, given as a mask `[N]`, and records how many and why."""
        mask = np.asarray(rows, bool)
        kept = self.select(~mask)
        if not mask.any():
            return kept
        change = Change(int(mask.sum()), why)
        return dataclasses.replace(kept, dropped=(*self.dropped, change))

    def replace(
        self, field: Field, column: np.ndarray, change: Change | None = None
    ) -> "Table":
        """Returns the table with the field of the same name replaced."""
        fields = tuple(field if f.name == field.name else f for f in self.fields)
        changed = self.changed if change is None else (*self.changed, change)
        columns = {**self.columns, field.name: column}
        return dataclasses.replace(
            self, fields=fields, columns=columns, changed=changed
        )

    def without(self, *names: str) -> "Table":
        """Leaves out columns that are neither sensitive nor the target."""
        gone = {self.field(name).name for name in names}
        return dataclasses.replace(
            self,
            fields=tuple(field for field in self.fields if field.name not in gone),
            columns={k: v for k, v in self.columns.items() if k not in gone},
        )

    def report(self) -> str:
        """Says how many rows there are, how many were left out, and why."""
        lost = sum(change.rows for change in self.dropped)
        lines = [f"{self.name}: {len(self):,} of {len(self) + lost:,} rows"]
        lines += [f"{rows:,} dropped, {what}" for rows, what in self.dropped]
        lines += [f"{rows:,} changed, {what}" for rows, what in self.changed]
        return "; ".join(lines) + "."


class TrainTest(NamedTuple):
    """Rows a model is trained on, and rows it never saw."""

    train: Table
    test: Table


def missing(field: Field, column: np.ndarray) -> np.ndarray:
    """Returns which values of a column are missing, `[N]` bool."""
    return column < 0 if isinstance(field, Categorical) else np.isnan(column)


def complete(table: Table, names: Sequence[str] | None = None) -> Table:
    """Drops rows that miss a value, by default of any field."""
    for name in table.names if names is None else names:
        lost = missing(table.field(name), table[name])
        table = table.drop(lost, f"no {name}")
    return table


def missing_as_category(table: Table, label: str = "missing") -> Table:
    """Makes a missing value of a categorical field a category of its own."""
    for field in table.fields:
        if isinstance(field, Categorical):
            lost = missing(field, table[field.name])
            if lost.any():
                categories = (*field.categories, label)
                column = np.where(lost, len(field.categories), table[field.name])
                table = table.replace(
                    Categorical(field.name, categories),
                    column.astype(np.int32),
                    Change(int(lost.sum()), f"no {field.name}: category {label!r}"),
                )
    return table


def group_rare(table: Table, at_least: int, label: str = "other") -> Table:
    """Merges the features' categories that fewer than `at_least` rows have.

    Sensitive fields and the target are left alone: what is inferred keeps its meaning.
    """
    for field in table.features:
        if isinstance(field, Numeric) or field.name in table.sensitive:
            continue
        column = table[field.name]
        counts = np.bincount(column[column >= 0], minlength=len(field.categories))
        rare = (counts < at_least) & (np.array(field.categories) != label)
        if rare.sum() < 2 and not (rare.any() and label in field.categories):
            continue
        kept = [c for c, gone in zip(field.categories, rare, strict=True) if not gone]
        categories = tuple(kept if label in kept else (*kept, label))
        code = [
            categories.index(label if gone else c)
            for c, gone in zip(field.categories, rare, strict=True)
        ]
        merged = np.where(column < 0, -1, np.array(code)[column]).astype(np.int32)
        rows = int(counts[rare].sum())
        what = f"{int(rare.sum())} rare categories of {field.name}: {label!r}"
        table = table.replace(
            Categorical(field.name, categories), merged, Change(rows, what)
        )
    return table


def drop_rare(table: Table, name: str, at_least: int) -> Table:
    """Drops the rows, and the categories, that fewer than `at_least` rows have."""
    categories, column = np.array(table.categories(name)), table[name]
    counts = np.bincount(column[column >= 0], minlength=len(categories))
    kept = counts >= at_least
    why = f"{name} is rare: {', '.join(categories[(counts > 0) & ~kept])}"
    table = table.drop((column >= 0) & ~kept[column], why)
    column = table[name]
    codes = np.where(column < 0, -1, (np.cumsum(kept) - 1)[column]).astype(np.int32)
    return table.replace(Categorical(name, tuple(map(str, categories[kept]))), codes)


def cut(table: Table, name: str, edges: Sequence[float]) -> Table:
    """Makes categories of a numeric field: below the first edge, between, and above."""
    field = table.field(name)
    if isinstance(field, Categorical):
        raise ValueError(f"{table.name}: {name!r} has categories already.")
    edges = sorted(set(map(float, edges)))
    column = table[name]
    code = np.where(np.isnan(column), -1, np.digitize(column, edges)).astype(np.int32)
    between = [f"{a:g} to {b:g}" for a, b in itertools.pairwise(edges)]
    labels = [f"under {edges[0]:g}", *between, f"{edges[-1]:g} and over"]
    return table.replace(Categorical(name, tuple(labels)), code)


class Rows(NamedTuple):
    """Row numbers of a table to train on, and to test on."""

    train: np.ndarray
    test: np.ndarray


def split_rows(table: Table, *, test_fraction: float = 0.25, seed: int = 0) -> Rows:
    """Draws which rows to test on.

    Raises:
      ValueError: a side would be empty.
    """
    tests = round(test_fraction * len(table))
    if not 0 < tests < len(table):
        raise ValueError(
            f"{table.name}: test_fraction={test_fraction} of {len(table)} rows leaves "
            "one side empty."
        )
    order = np.random.default_rng(seed).permutation(len(table))
    return Rows(order[tests:], order[:tests])


def split(table: Table, *, test_fraction: float = 0.25, seed: int = 0) -> TrainTest:
    """Splits the rows at random, as `split_rows` draws them.

    Raises:
      ValueError: a side would be empty.
    """
    rows = split_rows(table, test_fraction=test_fraction, seed=seed)
    return TrainTest(table.select(rows.train), table.select(rows.test))
