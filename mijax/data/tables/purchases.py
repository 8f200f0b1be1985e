"""Purchases, drawn: people who buy as one of a few prototypes do.

It stands in for Purchase-100 (Shokri et al. 2017), which is no longer published.
"""

import numpy as np

from mijax.data.tables.table import Categorical, Table


def draw(rows: int = 1200, bits: int = 100, classes: int = 20) -> Table:
    """Draws people who buy as their prototype does, a quarter of it otherwise."""
    rng = np.random.default_rng(2021)
    prototypes = rng.integers(0, 2, (classes, bits))
    group = rng.integers(0, classes, rows)
    flipped = rng.random((rows, bits)) < 0.25
    bought = (prototypes[group] ^ flipped).astype(np.int32)
    names = [f"item_{i:03d}" for i in range(bits)]
    columns = dict(zip(names, bought.T.copy(), strict=True))
    columns["group"] = group.astype(np.int32)
    fields = [Categorical(name, ("no", "yes")) for name in names]
    fields.append(Categorical("group", tuple(map(str, range(classes)))))
    return Table("purchases", tuple(fields), columns, (names[0],), "group")
