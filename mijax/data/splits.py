"""Splits into private, public and evaluation data, by identity.

Private identities are those a target is trained on and an attack recovers; public
ones are the adversary's. No identity and no image is on both sides.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mijax.data.dataset import Dataset


class Split(NamedTuple):
    """Private and public identities, each relabeled from 0.

    Attributes:
      private: every image of the private identities.
      public: the images of all others.
      duplicates: how many images were dropped from `public` because the same pixels
        occur in `private`.
    """

    private: Dataset
    public: Dataset
    duplicates: int


class TrainTest(NamedTuple):
    """Disjoint images of the same identities, under the same labels."""

    train: Dataset
    test: Dataset


def by_count(dataset: Dataset, *, at_least: int) -> Split:
    """Makes private whoever has `at_least` this many images.

    Of Labeled Faces in the Wild, `at_least=20` makes 62 of 5,749 people private.

    Raises:
      ValueError: one side would be empty.
    """
    private = np.flatnonzero(dataset.counts() >= at_least)
    return _split(dataset, private, f"at_least={at_least}")


def by_label(dataset: Dataset, private: Sequence[int]) -> Split:
    """Makes the given labels private, as digits 5 to 9 of MNIST.

    `private` is taken in ascending order, whatever order it is given in.

    Raises:
      ValueError: a label is not of the data set, or one side would be empty.
    """
    unknown = sorted(set(private) - set(range(len(dataset.names))))
    if unknown:
        raise ValueError(
            f"private label {unknown[0]} is not in 0..{len(dataset.names) - 1} "
            f"of {dataset.name}"
        )
    return _split(dataset, np.array(sorted(set(private)), int), f"private={private}")


def by_identity(dataset: Dataset, *, private: int, seed: int = 0) -> Split:
    """Draws `private` identities at random; the others are public.

    Raises:
      ValueError: one side would be empty.
    """
    order = np.random.default_rng(seed).permutation(len(dataset.names))
    return _split(dataset, np.sort(order[: max(private, 0)]), f"private={private}")


def train_test(
    dataset: Dataset,
    *,
    test_fraction: float | None = None,
    test_per_class: int | None = None,
    seed: int = 0,
) -> TrainTest:
    """Splits the images of every identity into train and test.

    Give one of `test_fraction` and `test_per_class`. A fraction is rounded, but both
    sides get at least one image of each identity. Which images an identity's test
    set holds does not depend on the other identities' images.

    Raises:
      ValueError: not one of the two is given, it is out of range, or an identity has
        too few images.
    """
    if (test_fraction is None) == (test_per_class is None):
        raise ValueError("give one of test_fraction and test_per_class")
    if test_fraction is not None and not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be in (0, 1), not {test_fraction}")
    if test_per_class is not None and test_per_class < 1:
        raise ValueError(f"test_per_class must be at least 1, not {test_per_class}")
    counts = dataset.counts()
    needed = 1 + (test_per_class or 1)
    if counts.min(initial=needed) < needed:
        name = dataset.names[counts.argmin()]
        raise ValueError(
            f"{name} of {dataset.name} has {counts.min()} images, but {needed} are "
            "needed to train and test on: leave it out (by_count) or test on fewer"
        )
    is_test = np.zeros(len(dataset), bool)
    for label, rows in enumerate(_rows_by_label(dataset)):
        if test_fraction is not None:
            tests = min(max(round(test_fraction * len(rows)), 1), len(rows) - 1)
        else:
            tests = test_per_class
        order = np.random.default_rng((seed, label)).permutation(rows)
        is_test[order[:tests]] = True
    return TrainTest(_rows(dataset, ~is_test), _rows(dataset, is_test))


def evaluation(private: Dataset, public: Dataset, *, at_least: int) -> Dataset:
    """Joins what an evaluator is trained on: private and public identities.

    Private labels keep their indices; the public identities with `at_least` this
    many images follow, in their order.

    Raises:
      ValueError: an identity is on both sides, or the images differ in shape.
    """
    shared = sorted(set(private.names) & set(public.names))
    if shared:
        raise ValueError(f"{shared[0]} is both private and public")
    if private.images.shape[1:] != public.images.shape[1:]:
        raise ValueError(
            f"private images are {list(private.images.shape[1:])}, public ones "
            f"{list(public.images.shape[1:])}: load both with one size="
        )
    public = _identities(public, np.flatnonzero(public.counts() >= at_least))
    offset = np.int32(len(private.names))
    return Dataset(
        f"{private.name} and {public.name}",
        np.concatenate([private.images, public.images]),
        np.concatenate([private.labels, public.labels + offset]),
        private.names + public.names,
    )


def _split(dataset: Dataset, private_labels: np.ndarray, choice: str) -> Split:
    public_labels = np.setdiff1d(np.arange(len(dataset.names)), private_labels)
    if not (len(private_labels) and len(public_labels)):
        raise ValueError(
            f"{choice} makes {len(private_labels)} of the {len(dataset.names)} "
            f"identities of {dataset.name} private: at least one must be private "
            "and one public"
        )
    private = _identities(dataset, private_labels)
    public = _identities(dataset, public_labels)
    seen = set(_digests(private.images))
    keep = np.array([digest not in seen for digest in _digests(public.images)], bool)
    public = _rows(public, keep)
    # An identity may have been nothing but duplicates.
    public = _identities(public, np.flatnonzero(public.counts() > 0))
    if not len(public):
        raise ValueError(f"{choice}: every public image is also a private one")
    return Split(private, public, int((~keep).sum()))


def _digests(images: np.ndarray) -> list[bytes]:
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def _rows_by_label(dataset: Dataset) -> list[np.ndarray]:
    order = np.argsort(dataset.labels, kind="stable")
    return np.split(order, np.cumsum(dataset.counts())[:-1])


def _rows(dataset: Dataset, keep: np.ndarray) -> Dataset:
    return Dataset(
        dataset.name, dataset.images[keep], dataset.labels[keep], dataset.names
    )


def _identities(dataset: Dataset, labels: np.ndarray) -> Dataset:
    """Keeps some identities, relabeled by their place in `labels`."""
    relabeled = np.full(len(dataset.names), -1, np.int32)
    relabeled[labels] = np.arange(len(labels))
    keep = relabeled[dataset.labels] >= 0
    return Dataset(
        dataset.name,
        dataset.images[keep],
        relabeled[dataset.labels[keep]],
        tuple(dataset.names[label] for label in labels),
    )


def shuffled(dataset: Dataset, *, seed: int = 0) -> Dataset:
    """Returns the images in random order: `train_test` leaves them sorted by label."""
    order = np.random.default_rng(seed).permutation(len(dataset))
    return dataclasses.replace(
        dataset, images=dataset.images[order], labels=dataset.labels[order]
    )
