"""Attributes of the images of `lfw64`: gender by hand, others by classifiers."""

import csv
import dataclasses
import gzip
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mijax.data.dataset import Dataset
from mijax.data.sources import first_existing
from mijax.data.tables import files

_FILE = "lfw64_attributes.csv.gz"
_SHA256 = "8c07d674e7a4fd589237778983bf71dd560d4bf1a21af21ba863f7149e03b522"


def attributes(
    dataset: Dataset, data_dir: str | os.PathLike[str] | None
) -> dict[str, NDArray[np.str_]]:
    """Reads the attributes of the images of `lfw64`, in their order.

    `male` was checked by hand. Those that begin with `k_` are Kumar's, made 0 or 1;
    with `f_` and `d_`, two networks' guesses. All but the first are noisy.

    Args:
      dataset: `data.load("lfw64")` at any size, whole.
      data_dir: a folder with the file, or with a folder `faces` that holds it.

    Returns:
      The text of each column, `[N]`; empty where it is not known.

    Raises:
      FileNotFoundError: the file is in neither place.
      ValueError: it is not the expected one, or lacks one of the images.

    References:
      Kumar, Berg, Belhumeur, Nayar. Attribute and simile classifiers for face
      verification. ICCV 2009. doi:10.1109/ICCV.2009.5459250.
    """
    folder = Path(data_dir).expanduser() if data_dir is not None else None
    found = first_existing(folder and folder / "faces" / _FILE)
    path = files.checked(found or files.find(_FILE, data_dir), _SHA256)
    with gzip.open(path, "rt") as text:
        rows = {row["image"]: row for row in csv.DictReader(text)}
    counts: dict[str, int] = {}
    chosen = []
    for label in dataset.labels:
        person = dataset.names[label]
        number = counts[person] = counts.get(person, -1) + 1
        image = f"{person}/{number:03d}"
        if image not in rows:
            raise ValueError(
                f"{path} has no image {image}: give the whole of lfw64, in its order."
            )
        chosen.append(rows[image])
    return {name: np.array([row[name] for row in chosen]) for name in chosen[0]}


def by_gender(
    dataset: Dataset, said: Mapping[str, NDArray[np.str_]]
) -> tuple[Dataset, NDArray[np.bool_]]:
    """Returns the images of known gender, labeled by it, and which they are, `[N]`.

    Args:
      dataset: of `attributes`.
      said: what it returns.
    """
    known = said["male"] != ""
    gendered = dataclasses.replace(
        dataset,
        images=dataset.images[known],
        labels=(said["male"][known] == "1").astype(np.int32),
        names=("female", "male"),
    )
    return gendered, known
