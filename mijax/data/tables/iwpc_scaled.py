"""IWPC as Yeom et al. (2018) cleaned and scaled it: 4,819 patients by 9 columns.

Ages, heights, weights and doses are standardized; `decr` says whether the patient takes
a drug that lowers the dose. Kept as they published it, so that figures compare.

References:
  Yeom, Giacomelli, Fredrikson, Jha. Privacy risk in machine learning: analyzing the
  connection to overfitting. CSF 2018. arXiv:1709.01604.
"""

import os

from mijax.data.tables import files
from mijax.data.tables.columns import from_columns, read
from mijax.data.tables.table import Table

_FILE = "iwpc-scaled.csv"
_SHA256 = "fc81402548298d703a92c63d84c8d2e2da266af7ccda35025d35f431934977f3"


def load(data_dir: str | os.PathLike[str] | None = None) -> Table:
    """Loads the table; the target is the scaled dose."""
    path = files.checked(files.find(_FILE, data_dir), _SHA256)
    return from_columns(
        "IWPC, scaled",
        read(path),
        sensitive=("vkorc1", "cyp2c9"),
        target="dose",
        numeric=("age",),
    )
