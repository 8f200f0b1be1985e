"""Location: which kinds of place 5,010 people checked in at, and their cluster.

Foursquare check-ins of Bangkok as Shokri et al. (2017) prepared them: 446 binary
features, and as target one of 30 clusters of people.

References:
  Shokri et al. Membership inference attacks against machine learning models. S&P 2017.
  arXiv:1610.05820.
"""

import os
import tarfile

import numpy as np

from mijax.data.tables import files
from mijax.data.tables.table import Categorical, Table

_FILE = "dataset_location.tgz"
_SHA256 = "927203f85a868f8ee17a0ded1dc61699efe602167beabe34fbf45b4b1de94b33"


def load(data_dir: str | os.PathLike[str] | None = None) -> Table:
    """Loads the table; every feature may be taken as sensitive, the first one is."""
    path = files.checked(files.find(_FILE, data_dir), _SHA256)
    with tarfile.open(path) as archive:
        file = archive.extractfile("bangkok")
        if file is None:
            raise ValueError(f"{path} holds no file `bangkok`.")
        text = file.read().decode()
    rows = [row.split(",") for row in text.split()]
    cluster = np.array([int(row[0].strip('"')) for row in rows])
    visited = np.array([row[1:] for row in rows]).astype(np.int32)  # [N, 446]
    names = [f"place_{i:03d}" for i in range(visited.shape[1])]
    columns = dict(zip(names, visited.T.copy(), strict=True))
    columns["cluster"] = (cluster - 1).astype(np.int32)
    fields = (
        *(Categorical(name, ("no", "yes")) for name in names),
        Categorical("cluster", tuple(str(i + 1) for i in range(30))),
    )
    return Table("Location", fields, columns, (names[0],), "cluster")
