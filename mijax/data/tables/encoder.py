"""A table as an array of numbers, of which each field knows its columns; and back."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mijax.data.tables.table import Categorical, Field, Table, missing


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
    """Fitted on training rows alone: means, deviations, and which categories they had.

    A numeric field takes one column, standardized if so asked, missing values at the
    training median. A field of two categories takes one, 0 or 1; one of K takes K,
    one-hot, or a single one that holds its code.

    Attributes:
      fields: what is encoded, in this order.
      columns: name to the columns of that field.
      width: of the array.
    """

    fields: tuple[Field, ...]
    columns: Mapping[str, slice]
    width: int
    _center: Mapping[str, float]
    _scale: Mapping[str, float]
    _median: Mapping[str, float]
    _seen: Mapping[str, np.ndarray]

    @classmethod
    def fit(
        cls, train: Table, *, one_hot: bool = True, standardize: bool = True
    ) -> "Encoder":
        """Fits an encoder of a table's features to its rows.

        Raises:
          ValueError: there is no row.
        """
        if not len(train):
            raise ValueError(f"{train.name} has no training row to fit an encoder to.")
        columns, width = {}, 0
        center, scale, median, seen = {}, {}, {}, {}
        for field in train.features:
            name, values = field.name, train[field.name]
            if isinstance(field, Categorical):
                number = len(field.categories)
                seen[name] = np.bincount(values[values >= 0], minlength=number) > 0
                wide = number if one_hot and number > 2 else 1
            else:
                if np.isnan(values).all():
                    raise ValueError(
                        f"{train.name}: no training row has a {name!r}: leave it out."
                    )
                with np.errstate(all="ignore"):
                    deviation = float(np.nanstd(values))
                if not np.isfinite(deviation):
                    raise ValueError(
                        f"{train.name}: the deviation of {name!r} is {deviation}: "
                        "leave out its infinite or huge numbers, or the column."
                    )
                center[name] = float(np.nanmean(values)) if standardize else 0.0
                scale[name] = (deviation or 1.0) if standardize else 1.0
                median[name] = float(np.nanmedian(values))
                wide = 1
            columns[name] = slice(width, width + wide)
            width += wide
        return cls(train.features, columns, width, center, scale, median, seen)

    def unseen(self, table: Table) -> np.ndarray:
        """Which rows hold a category that no training row had, `[N]` bool."""
        found = np.zeros(len(table), bool)
        for name, seen in self._seen.items():
            codes = table[name]
            found |= (codes >= 0) & ~seen[codes]
        return found

    def encode(self, table: Table) -> np.ndarray:
        """Returns the features of every row, `[N, width]` float32.

        Raises:
          ValueError: a category is missing, or no training row had it; or float32
            cannot tell a field's numbers apart.
        """
        x = np.zeros((len(table), self.width), np.float32)
        for field in self.fields:
            values = table[field.name]
            if isinstance(field, Categorical):
                self._refuse(table, field, values)
                x[:, self.columns[field.name]] = self._block(field)[values]
            else:
                name = field.name
                filled = np.where(np.isnan(values), self._median[name], values)
                scaled = self.scaled(name, filled).astype(np.float32)
                _refuse_merged(table, name, filled, scaled)
                x[:, self.columns[name]] = scaled[:, None]
        return x

    def candidates(
        self, name: str, categories: Sequence[str] | None = None
    ) -> np.ndarray:
        """Returns what categories of a field put into its columns, `[C, width]`.

        Args:
          name: of a categorical field.
          categories: some of its categories; all, in their order, by default.

        Raises:
          ValueError: there is no such field, or no such category.
        """
        for field in self.fields:
            if field.name == name and isinstance(field, Categorical):
                if categories is None:
                    return self._block(field)
                wrong = [c for c in categories if c not in field.categories]
                if wrong:
                    raise ValueError(
                        f"{name!r} is never {wrong[0]!r}: candidates must be among "
                        f"{', '.join(field.categories)}."
                    )
                return self._block(field)[
                    [field.categories.index(c) for c in categories]
                ]
        raise ValueError(
            f"{name!r} is no categorical feature: candidates are of one of "
            f"{', '.join(self._seen)}."
        )

    def scaled(self, name: str, values: np.ndarray) -> np.ndarray:
        """Returns what numbers of a numeric field become, such as its known ends."""
        return (np.asarray(values) - self._center[name]) / self._scale[name]

    def decode(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the columns of a table that would be encoded as `x [N, width]`."""
        columns = {}
        for field in self.fields:
            block = np.asarray(x)[:, self.columns[field.name]]
            if isinstance(field, Categorical):
                one_hot = block.shape[1] > 1
                code = block.argmax(1) if one_hot else np.round(block[:, 0])
                columns[field.name] = code.astype(np.int32)
            else:
                number = block[:, 0].astype(np.float64)
                scaled = number * self._scale[field.name]
                columns[field.name] = scaled + self._center[field.name]
        return columns

    def binned(
        self, x: np.ndarray, low: np.ndarray, high: np.ndarray, bins: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns each field as a category: codes `[N]`, and encodings `[K, d]`.

        Args:
          x: what was encoded, `[N, width]`.
          low: of each column, `[width]`; what lies below is in the first bin.
          high: of each column; what lies above is in the last bin.
          bins: of a numeric field; each is encoded as its middle.
        """
        found, codes = [], self.decode(x)
        for field in self.fields:
            if isinstance(field, Categorical):
                found.append((codes[field.name], self._block(field)))
                continue
            place = self.columns[field.name].start
            edges = np.linspace(float(low[place]), float(high[place]), bins + 1)
            middles = ((edges[1:] + edges[:-1]) / 2).astype(np.float32)
            found.append((np.digitize(x[:, place], edges[1:-1]), middles[:, None]))
        return found

    def _block(self, field: Categorical) -> np.ndarray:
        number = len(field.categories)
        wide = self.columns[field.name].stop - self.columns[field.name].start
        if wide == number and number > 1:
            return np.eye(number, dtype=np.float32)
        return np.arange(number, dtype=np.float32)[:, None]

    def _refuse(self, table: Table, field: Categorical, codes: np.ndarray) -> None:
        lost = int(missing(field, codes).sum())
        if lost:
            raise ValueError(
                f"{table.name}: {lost} rows have no {field.name!r}: drop them "
                "(tables.complete) or make it a category (missing_as_category)."
            )
        seen = self._seen[field.name]
        new = codes[~seen[codes]]
        if len(new):
            label = field.categories[new[0]]
            raise ValueError(
                f"{table.name}: {field.name!r} is {label!r} in {np.sum(new == new[0])} "
                "rows and in none that the encoder was fitted to: drop what "
                "Encoder.unseen finds, or merge rare categories (tables.group_rare)."
            )


def _refuse_merged(
    table: Table, name: str, values: np.ndarray, encoded: np.ndarray
) -> None:
    """Refuses float32 that merges a sensitive field's numbers, or most of another's."""
    before, after = len(np.unique(values)), len(np.unique(encoded))
    if after < (before if name in table.sensitive else before / 2):
        raise ValueError(
            f"{table.name}: the {before} different numbers of {name!r} are {after} in "
            "float32: standardize them, or subtract what they have in common."
        )
