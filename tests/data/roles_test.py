"""Who is private and who is public, of files made up in the form of the real ones."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from mijax.data import Dataset, roles


def archive(path, counts, shape, seed):
    """A .zip of so many random images of each identity."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as made:
        for name, number in counts.items():
            for index in range(number):
                pixels = rng.integers(0, 256, shape, np.uint8)
                data = io.BytesIO()
                Image.fromarray(pixels).save(data, "PNG")
                made.writestr(f"{path.stem}/{name}/{index}.png", data.getvalue())


def test_half_of_the_people_in_color_with_enough_images_are_private(tmp_path):
    often = {f"{k:03d}": 20 for k in range(4)}
    faces = tmp_path / "faces"
    archive(faces / "celeba64.zip", often | {"004": 3}, (64, 64, 3), 0)
    archive(faces / "lfw64_rgb.zip", {"0000": 2, "0001": 1}, (64, 64, 3), 1)
    world = roles.color_faces(None, str(tmp_path))
    assert world.private.counts().tolist() == [20, 20]
    assert set(world.private.names) < set(often)
    assert not set(world.private.names) & set(world.public.names)
    assert sorted(world.public.counts().tolist()) == [1, 2, 3, 20, 20]
    assert world.public.images.shape[1:] == (64, 64, 3)


def test_x_rays_of_one_source_are_private_and_of_another_public(tmp_path):
    rng = np.random.default_rng(0)
    counts = {"CXR": 3, "Hand": 2}
    archive(tmp_path / "medical" / "mednist64.zip", counts, (64, 64), 1)
    np.savez(
        tmp_path / "medical" / "pneumoniamnist.npz",
        train_images=rng.integers(0, 256, (5, 28, 28), np.uint8),
        train_labels=np.array([[0], [1], [1], [0], [1]], np.uint8),
    )
    world = roles.x_rays(None, str(tmp_path))
    assert world.private.counts().tolist() == [2, 3]
    assert world.public.names == ("CXR",) and len(world.public) == 3
    assert world.private.images.shape == (5, 32, 32, 1)
    assert world.public.images.shape == (3, 32, 32, 1)
    with pytest.raises(ValueError, match="--dataset=lfw64"):
        roles.x_rays("lfw64", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="put MedMNIST's file there"):
        roles.x_rays(None, str(tmp_path / "nowhere"))


def test_a_rehearsal_has_public_people_in_the_place_of_private_ones(monkeypatch):
    labels = np.repeat(np.arange(4, dtype=np.int32), [21, 12, 2, 10])
    images = np.random.default_rng(0).random((len(labels), 64, 64, 1), np.float32)
    everyone = Dataset("made up", images, labels, ("a", "b", "c", "d"))
    monkeypatch.setattr(roles.data, "load", lambda *_, **__: everyone)
    world = roles.rehearsal_faces("lfw64", None)
    assert world.private.names == ("b", "d") and world.public.names == ("c",)
    assert world.private.counts().tolist() == [12, 10]
    assert world.name.endswith("the people with 10 to 19 images")
    with pytest.raises(ValueError, match="AT&T faces, all 40 people has no public"):
        roles.rehearsal_faces("att_faces", None)
