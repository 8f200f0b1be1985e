"""Tables of people, with a schema, for attacks that infer one missing field.

table = tables.load("iwpc")
train, test = tables.split(table, seed=0)
encoder = tables.Encoder.fit(train)
x = encoder.encode(train)  # [N, width]; encoder.columns says which field is where
tables.load("csv:answers.csv", sensitive=["smokes"], target="premium")
"""

import dataclasses
import os
from collections.abc import Sequence

from mijax.data.tables import (
    fair,
    gss,
    iwpc,
    iwpc_scaled,
    location,
    movielens,
    steak,
)
from mijax.data.tables.columns import from_columns, read, whole
from mijax.data.tables.encoder import Encoder
from mijax.data.tables.table import (
    Categorical,
    Change,
    Field,
    Numeric,
    Rows,
    Table,
    TrainTest,
    complete,
    cut,
    drop_rare,
    group_rare,
    missing,
    missing_as_category,
    split,
    split_rows,
)

__all__ = [
    "ALL",
    "Categorical",
    "Change",
    "Encoder",
    "Field",
    "Numeric",
    "Rows",
    "Table",
    "TrainTest",
    "complete",
    "cut",
    "drop_rare",
    "from_columns",
    "group_rare",
    "load",
    "missing",
    "missing_as_category",
    "read",
    "split",
    "split_rows",
    "whole",
]

ALL = (fair, gss, iwpc, iwpc_scaled, location, movielens, steak)
_CSV = "csv:"


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    sensitive: Sequence[str] | None = None,
    target: str | None = None,
    without: Sequence[str] = (),
) -> Table:
    """Loads a table: one of `ALL` by its module's name, or `csv:PATH`.

    Args:
      name: the table.
      data_dir: folder with its file, or with a folder `tabular` that holds it; some
        come from installed packages instead, which are read and not imported.
      sensitive: the fields to infer; needed for `csv:`.
      target: the field that a model predicts; needed for `csv:`.
      without: columns that no model has seen.

    Raises:
      FileNotFoundError: a file is missing; the message says where to put it.
      ValueError: the name or a column is unknown, or a file is not as it should be.
    """
    if name.startswith(_CSV):
        if not sensitive or target is None:
            raise ValueError(
                f"{name} needs the names of its sensitive fields and target."
            )
        path = name.removeprefix(_CSV)
        columns = read(path)
        return from_columns(
            os.path.basename(path),
            columns,
            sensitive=sensitive,
            target=target,
            without=without,
        )
    known = {module.__name__.rsplit(".", 1)[1]: module for module in ALL}
    if name not in known:
        raise ValueError(
            f"No table is called {name!r}: known are {', '.join(known)} and csv:PATH."
        )
    table = known[name].load(data_dir).without(*without)
    return dataclasses.replace(
        table,
        sensitive=table.sensitive if sensitive is None else tuple(sensitive),
        target=table.target if target is None else target,
    )
