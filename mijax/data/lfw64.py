"""Labeled Faces in the Wild at 64x64: 13,233 gray faces of 5,749 people.

The faces of LFW-a (aligned), center-cropped; people are numbers.

References:
  Huang et al., Labeled Faces in the Wild, University of Massachusetts, Technical
  Report 07-49, 2007. Aligned: Wolf, Hassner and Taigman, Effective unconstrained face
  recognition by combining multiple descriptors and learned background statistics,
  TPAMI 2011. https://doi.org/10.1109/TPAMI.2010.230
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from mijax.data import image_folder
from mijax.data.sources import check_sha256, first_existing, manual_folder

_FILE = "lfw64.zip"
_SIDE = 64
_SHA256 = "f89e766b2b70ed149e9094420b1e1c0f99fcca45f91826dda556f18998bb3a80"


class Lfw64(tfds.core.GeneratorBasedBuilder):
    """Faces `[64, 64, 1]` ordered by person; as in TFDS's `lfw`, labels are text."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put {_FILE} (PERSON/NNN.png inside one folder lfw64) there."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(_SIDE, _SIDE, 1)),
                    "label": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="http://vis-www.cs.umass.edu/lfw",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        manual = manual_folder(dl_manager)
        source = first_existing(manual and manual / _FILE)
        if source is None:
            raise FileNotFoundError(f"{_FILE} was not found")
        return {"train": self._generate_examples(source)}

    def _generate_examples(self, source: Path) -> Iterator[tuple[int, Any]]:
        check_sha256(source, hashlib.sha256(source.read_bytes()).hexdigest(), _SHA256)
        for index, (person, _, png) in enumerate(image_folder.read(source)):
            yield index, {"image": png, "label": person}
