"""Attributes of faces, beside the images that they are of."""

import numpy as np
import pytest

from mijax.data import Dataset
from mijax.data.lfw_attributes import attributes


def faces(people):
    """Images of people in the order of `lfw64`, whose pixels do not matter."""
    names = tuple(sorted(set(people)))
    labels = np.array([names.index(person) for person in people], np.int32)
    images = np.zeros((len(people), 2, 2, 1), np.float32)
    return Dataset("faces", images, labels, names)


def test_each_image_has_its_row(data_dir):
    found = attributes(faces(["0000", "0000", "0001"]), data_dir)
    assert found["image"].tolist() == ["0000/000", "0000/001", "0001/000"]
    assert set(found["male"]) <= {"", "0", "1"} and len(found["k_smiling"]) == 3


def test_an_image_without_a_row_and_a_missing_file_are_said(data_dir, tmp_path):
    with pytest.raises(ValueError, match="has no image nobody/000"):
        attributes(faces(["nobody"]), data_dir)
    with pytest.raises(FileNotFoundError, match="lfw64_attributes"):
        attributes(faces(["0000"]), tmp_path)
