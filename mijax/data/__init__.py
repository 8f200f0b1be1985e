"""Data sets, and their splits into private and public identities.

lfw = data.load("lfw64", data_dir="data")
split = data.by_count(lfw, at_least=20)
train, test = data.train_test(split.private, test_fraction=0.2, seed=0)
evaluator_train = data.evaluation(train, split.public, at_least=10)
"""

import os

from mijax.data import image_folder, prepared
from mijax.data.dataset import Dataset
from mijax.data.splits import (
    Split,
    TrainTest,
    by_count,
    by_identity,
    by_label,
    evaluation,
    shuffled,
    train_test,
)

__all__ = [
    "Dataset",
    "Split",
    "TrainTest",
    "by_count",
    "by_identity",
    "by_label",
    "evaluation",
    "load",
    "shuffled",
    "train_test",
]

_IMAGE_FOLDER = "image_folder:"


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    split: str | None = None,
    size: int | None = None,
    download: bool = False,
) -> Dataset:
    """Loads a data set of labeled images.

    `image_folder:PATH` reads a folder or .zip of `IDENTITY/*.png|jpg|jpeg|pgm`. Any
    other name is one of tensorflow-datasets (`mnist`, `cifar10`, `lfw`, ...) or of
    ours (`att_faces`, `cifar10_jpeg75`, `lfw64`, `mnist5k`). Such a data set is
    prepared the first time below the folder of the environment variable MIJAX_CACHE
    (~/.cache/mijax), and read from there afterwards; its files are checked by sha256.

    Args:
      name: the data set.
      data_dir: folder with the files to prepare it from, or with a folder NAME that
        holds them; it is only read. Default: `manual` in the cache folder.
      split: TFDS's split, such as "train" or "test[:100]"; None joins all splits.
      size: crops to the center square of each image and resizes it to this side.
      download: whether missing files may be fetched from the network.

    Returns:
      The data set; the same arguments give the same arrays in the same order.

    Raises:
      FileNotFoundError: a file is missing; the message says which, and where to put it.
      ValueError: the name is unknown, an image is corrupt or unlike the others, an
        identity is empty, or a file is not the expected one.
    """
    if name.startswith(_IMAGE_FOLDER):
        if split is not None:
            raise ValueError(
                f"{name} has no split {split!r}: see mijax.data.train_test"
            )
        return image_folder.load(name.removeprefix(_IMAGE_FOLDER), size)
    return prepared.load(name, data_dir, split, size, download)
