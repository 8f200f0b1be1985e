"""Fair's survey of 6,366 wives: how happy is the marriage, and were there affairs?

Redbook's survey of 1974, as `statsmodels` carries it; its CSV is read as a file.
Sensitive is whether there was an affair; the target is how the marriage is rated, 1 to
5. It stands in where the General Social Survey is not at hand.

References:
  Fair. A theory of extramarital affairs. Journal of Political Economy 1978.
  doi:10.1086/260642.
"""

import os

import numpy as np

from mijax.data.tables import files
from mijax.data.tables.columns import coded, number, read
from mijax.data.tables.table import Categorical, Field, Numeric, Table

_SHA256 = "fd5f3f094a34fc35ca346a14c359e046ed27843038d6921efcd50a7ab21f6af0"


def load(data_dir: str | os.PathLike[str] | None = None) -> Table:
    """Loads the table; nothing is missing.

    Raises:
      FileNotFoundError: `statsmodels` is not installed, nor is its file in `data_dir`.
    """
    package = "statsmodels", "datasets", "fair", "fair.csv"
    columns = read(files.checked(files.find("fair.csv", data_dir, *package), _SHA256))
    fields: list[Field] = []
    arrays = {}
    for name, values in columns.items():
        if name == "affairs":
            arrays[name] = (number(values) > 0).astype(np.int32)
            fields.append(Categorical(name, ("none", "some")))
        elif name == "rate_marriage":
            field, arrays[name] = coded(name, values, tuple("12345"))
            fields.append(field)
        else:
            arrays[name] = number(values)
            fields.append(Numeric(name))
    return Table("Fair's affairs", tuple(fields), arrays, ("affairs",), "rate_marriage")
