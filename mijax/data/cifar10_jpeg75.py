"""CIFAR-10 as JPEG files of quality 75: a lossy copy, for models of one's own.

Published networks lose about ten points of accuracy on it (a ResNet-20 falls from 91.8
to 81.0 %), so no figure on it compares with published CIFAR-10 figures.

References:
  Krizhevsky, Learning multiple layers of features from tiny images, University of
  Toronto, 2009. https://www.cs.toronto.edu/~kriz/cifar.html
"""

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import tensorflow_datasets as tfds

from mijax.data.sources import check_sha256, first_existing, manual_folder

_FILE = "cifar10_jpeg75.tar.xz"
_SIDE = 32
_SHA256 = "01906f907331b9a896468016ed6acad795c0bd8555d0c0e43d6cb97896d05c31"
_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


class Cifar10Jpeg75(tfds.core.GeneratorBasedBuilder):
    """Photographs `[32, 32, 3]` in TFDS's shuffled order, CIFAR-10's own splits."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put {_FILE} (train/CLASS/NNNN.jpg and test/CLASS/NNNN.jpg) there."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(_SIDE, _SIDE, 3), encoding_format="jpeg"
                    ),
                    "label": tfds.features.ClassLabel(names=_CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        manual = manual_folder(dl_manager)
        source = first_existing(manual and manual / _FILE)
        if source is None:
            raise FileNotFoundError(f"{_FILE} was not found")
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        check_sha256(source, digest, _SHA256)
        return {
            "train": self._generate_examples(source, "train"),
            "test": self._generate_examples(source, "test"),
        }

    def _generate_examples(
        self, source: Path, split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        with tarfile.open(source) as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if member.isfile() and path.parts[0] == split:
                    file = archive.extractfile(member)
                    assert file is not None  # A file's content is never None.
                    example = {"image": file.read(), "label": path.parts[1]}
                    yield "/".join(path.parts[1:]), example
