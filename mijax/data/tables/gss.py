"""General Social Survey, married people: is your marriage happy?

The extract of Mehnaz et al. (2022), 20,314 answers of 1972 to 2014. Sensitive is
whether one saw an X-rated movie in the last year; the target is marital happiness.

References:
  Mehnaz et al. Are your sensitive attributes private? Novel model inversion attribute
  inference attacks on classification models. USENIX Security 2022. arXiv:2201.09370.
"""

import os

import numpy as np

from mijax.data.tables import files
from mijax.data.tables.columns import coded, number, read
from mijax.data.tables.table import Field, Numeric, Table, complete

_FILES = {
    "GSS_15235.csv": "49b1f7755cd9c072645809c239865e9dc4b42a811950e214f43587a3e5e526ef",
    "GSS_5079.csv": "857d1d93e6c55f21bab34a27bf359921421a590e656a18d2e6b7ebc1e25ad90a",
}
TRAINING = 15_235  # the authors' training rows come first
_NUMERIC = ("year", "childs", "age", "educ")
_NO_ANSWER = {"age": 99, "educ": 98}
_CATEGORIES = {
    "xmovie": ("x_no", "x_yes"),
    "hapmar": ("nottoohappy", "prettyhappy", "veryhappy"),
}


def load(data_dir: str | os.PathLike[str] | None = None) -> Table:
    """Loads the answers that are complete, the authors' training rows first."""
    return complete(load_all(data_dir))


def load_all(data_dir: str | os.PathLike[str] | None = None) -> Table:
    """Loads every answer; an age, schooling or number of children may be missing."""
    parts = [
        read(files.checked(files.find(file, data_dir), sha256))
        for file, sha256 in _FILES.items()
    ]
    fields: list[Field] = []
    columns = {}
    for name in parts[0]:
        values = [value for part in parts for value in part[name]]
        if name == "marital":  # all are married
            continue
        if name in _NUMERIC:
            fields.append(Numeric(name))
            numbers = number(values)
            lost = numbers == _NO_ANSWER.get(name, np.inf)
            columns[name] = np.where(lost, np.nan, numbers)
        else:
            field, columns[name] = coded(name, values, _CATEGORIES.get(name))
            fields.append(field)
    return Table("GSS", tuple(fields), columns, ("xmovie",), "hapmar")
