"""Splits: disjoint by identity and by image, deterministic, complete."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mijax import data


def people(counts, seed=0):
    """Makes `counts[k]` random images of person k, in shuffled order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts), dtype=np.int32), counts))
    return data.Dataset(
        "people",
        rng.random((len(labels), 3, 3, 1), np.float32),
        labels,
        tuple(f"p{k}" for k in range(len(counts))),
    )


def pairs(dataset):
    """Lists every image with its name: what a split may neither lose nor mix up."""
    named = zip(dataset.images, dataset.labels, strict=True)
    return sorted((image.tobytes(), dataset.names[label]) for image, label in named)


def same(a, b):
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert a.names == b.names


SPLITS = [
    lambda dataset: data.by_count(dataset, at_least=6),
    lambda dataset: data.by_label(dataset, [3, 1]),
    lambda dataset: data.by_identity(dataset, private=2, seed=3),
]
COUNTS = st.lists(st.integers(2, 9), min_size=4, max_size=8).filter(
    lambda counts: min(counts) < 6 <= max(counts)
)


@pytest.mark.parametrize("split", SPLITS)
@given(counts=COUNTS, seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_split_is_disjoint_complete_and_deterministic(split, counts, seed):
    dataset = people(counts, seed)
    private, public, duplicates = split(dataset)
    assert not set(private.names) & set(public.names)
    assert sorted(private.names + public.names) == sorted(dataset.names)
    assert sorted(pairs(private) + pairs(public)) == pairs(dataset)
    assert duplicates == 0
    for side in (private, public):
        assert side.counts().min() >= 1
        # People keep their order.
        assert list(side.names) == sorted(side.names)
    again = split(dataset)
    same(again.private, private)
    same(again.public, public)


def test_by_count():
    private, public, _ = data.by_count(people([5, 2, 7, 4]), at_least=5)
    assert private.names == ("p0", "p2")
    assert private.counts().tolist() == [5, 7]
    assert public.names == ("p1", "p3")


def test_by_label():
    private, public, _ = data.by_label(people([1] * 10), private=(9, 5, 6, 7, 8))
    assert private.names == ("p5", "p6", "p7", "p8", "p9")
    assert public.names == ("p0", "p1", "p2", "p3", "p4")


def test_by_identity_depends_on_the_seed():
    dataset = people([1] * 40)
    drawn = {
        data.by_identity(dataset, private=30, seed=s).private.names for s in range(5)
    }
    assert len(drawn) == 5
    assert {len(names) for names in drawn} == {30}


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (lambda d: data.by_count(d, at_least=9), "at_least=9 makes 0 of the 3"),
        (lambda d: data.by_count(d, at_least=1), "at_least=1 makes 3 of the 3"),
        (lambda d: data.by_label(d, (0, 3)), r"private label 3 is not in 0\.\.2"),
        (lambda d: data.by_label(d, (-1,)), r"private label -1 is not in 0\.\.2"),
        (lambda d: data.by_label(d, ()), "makes 0 of the 3"),
        (lambda d: data.by_identity(d, private=3), "private=3 makes 3 of the 3"),
        (lambda d: data.by_identity(d, private=-1), "private=-1 makes 0 of the 3"),
    ],
)
def test_a_side_without_identities_is_refused(split, message):
    with pytest.raises(ValueError, match=message):
        split(people([2, 2, 2]))


def test_duplicates_are_dropped_from_public():
    dataset = people([4, 4, 2, 1])
    images = dataset.images.copy()
    rows = [np.flatnonzero(dataset.labels == k) for k in range(4)]
    images[rows[2][1]] = images[rows[0][0]]
    images[rows[3][0]] = images[rows[1][2]]
    dataset = dataclasses.replace(dataset, images=images)
    private, public, duplicates = data.by_count(dataset, at_least=4)
    assert duplicates == 2
    assert len(private) == 8
    # p3 had no other image.
    assert public.names == ("p2",)
    np.testing.assert_array_equal(public.images, images[rows[2][:1]])
    shared = {i.tobytes() for i in private.images} & {
        i.tobytes() for i in public.images
    }
    assert not shared


def test_nothing_but_duplicates_is_refused():
    dataset = people([2, 1])
    images = np.broadcast_to(dataset.images[:1], dataset.images.shape)
    with pytest.raises(ValueError, match="every public image is also a private one"):
        data.by_count(dataclasses.replace(dataset, images=images), at_least=2)


@given(
    counts=st.lists(st.integers(2, 12), min_size=1, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_train_test_is_stratified(counts, fraction, seed):
    dataset = people(counts)
    train, test = data.train_test(dataset, test_fraction=fraction, seed=seed)
    assert train.names == test.names == dataset.names
    assert sorted(pairs(train) + pairs(test)) == pairs(dataset)
    assert train.counts().min() >= 1
    assert test.counts().min() >= 1
    wanted = fraction * np.array(counts)
    inside = (wanted >= 1) & (wanted <= np.array(counts) - 1)
    assert (np.abs(test.counts() - wanted)[inside] <= 0.5).all()
    again = data.train_test(dataset, test_fraction=fraction, seed=seed)
    same(again.train, train)
    same(again.test, test)


def test_train_test_per_class():
    dataset = people([3, 9, 5])
    train, test = data.train_test(dataset, test_per_class=2, seed=1)
    assert test.counts().tolist() == [2, 2, 2]
    assert train.counts().tolist() == [1, 7, 3]
    other = data.train_test(dataset, test_per_class=2, seed=2)
    assert pairs(other.test) != pairs(test)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of"),
        ({"test_fraction": 0.5, "test_per_class": 1}, "give one of"),
        ({"test_fraction": 0.0}, r"\(0, 1\), not 0.0"),
        ({"test_fraction": 1.0}, r"\(0, 1\), not 1.0"),
        ({"test_fraction": float("nan")}, r"\(0, 1\), not nan"),
        ({"test_per_class": 0}, "at least 1, not 0"),
        ({"test_per_class": 3}, "p1 of people has 3 images, but 4"),
    ],
)
def test_bad_train_test(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.train_test(people([5, 3]), **arguments)


def test_one_image_cannot_be_split():
    with pytest.raises(ValueError, match="p1 of people has 1 images, but 2"):
        data.train_test(people([5, 1]), test_fraction=0.2)


def test_evaluation_keeps_private_labels():
    dataset = people([6, 2, 7, 4, 3, 1])
    split = data.by_count(dataset, at_least=5)
    train, _ = data.train_test(split.private, test_per_class=1)
    joint = data.evaluation(train, split.public, at_least=3)
    assert joint.names == ("p0", "p2", "p3", "p4")
    assert joint.counts().tolist() == [5, 6, 4, 3]
    same(dataclasses.replace(train, names=joint.names), _head(joint, len(train)))
    assert set(pairs(joint)) <= set(pairs(dataset))


def _head(dataset, n):
    return dataclasses.replace(
        dataset, images=dataset.images[:n], labels=dataset.labels[:n]
    )


def test_evaluation_without_public_people_is_the_private_data():
    split = data.by_count(people([6, 2]), at_least=5)
    joint = data.evaluation(split.private, split.public, at_least=3)
    same(joint, split.private)


def test_bad_evaluation():
    split = data.by_count(people([6, 2]), at_least=5)
    with pytest.raises(ValueError, match="p0 is both private and public"):
        data.evaluation(split.private, split.private, at_least=1)
    wide = dataclasses.replace(split.public, images=np.zeros((2, 4, 3, 1), np.float32))
    with pytest.raises(ValueError, match=r"\[3, 3, 1\], public ones \[4, 3, 1\]"):
        data.evaluation(split.private, wide, at_least=1)


def test_means_of_each_identity():
    images = np.float32([0.0, 0.5, 1.0, 0.25]).reshape(4, 1, 1, 1)
    pair = data.Dataset("two", images, np.int32([0, 1, 1, 0]), ("a", "b"))
    np.testing.assert_array_equal(pair.means().ravel(), [0.125, 0.75])


def test_shrunk_images_are_means_of_squares():
    images = np.arange(15, dtype=np.float32).reshape(1, 3, 5, 1) / 15
    one = data.Dataset("one", images, np.int32([0]), ("a",))
    half = np.array([[0 + 1 + 5 + 6, 2 + 3 + 7 + 8]]) / 60
    np.testing.assert_allclose(one.shrunk(2).images[0, ..., 0], half, rtol=1e-6)
    same(one.shrunk(1), one)
    with pytest.raises(ValueError, match=r"factor is 4.*3x5.*give 1 to 3"):
        one.shrunk(4)
