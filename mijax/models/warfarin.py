"""The published pharmacogenetic model of the warfarin dose.

The square root of the dose in mg a week, linear in a patient's record.

References:
  IWPC. Estimation of the warfarin dose with clinical and pharmacogenetic data.
  NEJM 2009. doi:10.1056/NEJMoa0809329.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from mijax.core import Target
from mijax.models import linear

INTERCEPT = 5.6044
NUMBERS = {"age": -0.2614, "height": 0.0087, "weight": 0.0128}
CATEGORIES = {
    "vkorc1": {"G/G": 0.0, "A/G": -0.8677, "A/A": -1.6974, "missing": -0.4854},
    "cyp2c9": {
        **{"*1/*1": 0.0, "*1/*2": -0.5211, "*1/*3": -0.9357, "*2/*2": -1.0616},
        **{"*2/*3": -1.9206, "*3/*3": -2.3312, "missing": -0.2188},
    },
    "race": {
        **{"White": 0.0, "Asian": -0.1092, "Black or African American": -0.2760},
        **{"Unknown": -0.1032},
    },
    "inducer": {"no": 0.0, "yes": 1.1816},
    "amiodarone": {"no": 0.0, "yes": -0.5503},
}


def target(
    columns: Mapping[str, slice], categories: Mapping[str, Sequence[str]]
) -> Target:
    """Makes the published model a target that takes records of an encoder.

    Args:
      columns: which columns of a record hold each of `age` (decades; 1 is 10 to 19
        years), `height` (cm), `weight` (kg), none of them standardized, and of the
        fields of `CATEGORIES`, one-hot, or 0 and 1 in one column where there are two.
      categories: their categories, in the order of the columns.

    Raises:
      ValueError: if a field is missing, or a category has no published coefficient.
    """
    fields = {*NUMBERS, *CATEGORIES}
    if fields != set(columns):
        raise ValueError(
            f"The published model takes {sorted(fields)}, not {sorted(columns)}."
        )
    weights = np.zeros(max(place.stop for place in columns.values()))
    for name, coefficient in NUMBERS.items():
        weights[columns[name]] = coefficient
    for name, published in CATEGORIES.items():
        unknown = set(categories[name]) - set(published)
        if unknown:
            raise ValueError(
                f"The published model has no coefficient of {name} {sorted(unknown)}: "
                f"it has {sorted(published)}."
            )
        each = [published[category] for category in categories[name]]
        place = columns[name]
        weights[place] = each if place.stop - place.start == len(each) else each[1:]
    weights = jnp.asarray(weights, jnp.float32)
    return linear.target(linear.Affine(weights[:, None], jnp.full((1,), INTERCEPT)))
