"""The published warfarin model on patients whose dose is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from mijax.models import warfarin

COLUMNS = {
    **{"age": slice(0, 1), "height": slice(1, 2), "weight": slice(2, 3)},
    **{"vkorc1": slice(3, 6), "cyp2c9": slice(6, 9), "race": slice(9, 12)},
    **{"inducer": slice(12, 13), "amiodarone": slice(13, 14)},
}
CATEGORIES = {
    "vkorc1": ("G/G", "A/G", "A/A"),
    "cyp2c9": ("*1/*1", "*1/*3", "*3/*3"),
    "race": ("Asian", "White", "Unknown"),
    "inducer": ("no", "yes"),
    "amiodarone": ("no", "yes"),
}


def test_the_square_root_of_the_weekly_dose():
    target = warfarin.target(COLUMNS, CATEGORIES)
    patients = np.zeros((2, 14), np.float32)
    patients[0, [0, 1, 2]] = patients[1, [0, 1, 2]] = 6, 170, 80
    patients[0, [3, 6, 10]] = 1  # G/G, *1/*1, White
    patients[1, [5, 7, 9, 12, 13]] = 1  # A/A, *1/*3, Asian, both drugs
    common = 5.6044 - 0.2614 * 6 + 0.0087 * 170 + 0.0128 * 80
    other = common - 1.6974 - 0.9357 - 0.1092 + 1.1816 - 0.5503
    found = target.predict(jnp.asarray(patients)).logits[:, 0]
    np.testing.assert_allclose(found, [common, other], rtol=1e-6)


def test_what_was_not_published_is_refused():
    with pytest.raises(ValueError, match=r"no coefficient of cyp2c9 \['\*1/\*14'\]"):
        warfarin.target(COLUMNS, CATEGORIES | {"cyp2c9": ("*1/*1", "*1/*14", "*2/*2")})
    without = {name: place for name, place in COLUMNS.items() if name != "race"}
    with pytest.raises(ValueError, match="The published model takes"):
        warfarin.target(without, CATEGORIES)
