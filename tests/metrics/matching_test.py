"""Batches are matched by the least error, and labels as multisets."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mijax.metrics import images, matching

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(3, 4, 12, 12, 1)).astype(np.float32)


def test_a_shuffled_batch_is_put_back():
    shuffles = np.stack([RNG.permutation(4) for _ in range(3)])
    shuffled = np.take_along_axis(X, shuffles[:, :, None, None, None], 1)
    matched = matching.match(X, shuffled)
    np.testing.assert_array_equal(matched.order, np.argsort(shuffles, 1))
    np.testing.assert_array_equal(matched.x_hat, X)
    assert matched.mse.shape == (3, 4)
    np.testing.assert_array_equal(matched.mse, 0)
    np.testing.assert_array_equal(matched.psnr, 100)
    np.testing.assert_allclose(matched.ssim, 1, atol=1e-6)


def test_no_other_order_has_a_smaller_error():
    found = RNG.uniform(size=X.shape).astype(np.float32)
    matched = matching.match(X, found)
    for v in range(3):
        errors = [
            sum(((X[v, b] - found[v, o[b]]) ** 2).mean() for b in range(4))
            for o in itertools.permutations(range(4))
        ]
        assert matched.mse[v].sum() == pytest.approx(min(errors), rel=1e-5)
        assert sorted(matched.order[v]) == [0, 1, 2, 3]


def test_metrics_are_those_of_the_pairs():
    found = np.clip(X[:, ::-1] + RNG.normal(0, 0.1, X.shape), 0, 1).astype(np.float32)
    matched = matching.match(X, found)
    np.testing.assert_array_equal(matched.order[0], [3, 2, 1, 0])
    for name in ("mse", "psnr", "ssim"):
        expected = getattr(images, name)(X[1], found[1, ::-1])
        np.testing.assert_allclose(getattr(matched, name)[1], expected, rtol=1e-5)


def test_an_image_that_is_not_finite_is_a_failure_of_its_own():
    broken = X.copy()
    broken[0, 2] = np.nan
    broken[1] = np.inf
    matched = matching.match(X, broken)
    assert np.isnan(matched.mse[0]).sum() == 1
    np.testing.assert_array_equal(matched.psnr[1], -np.inf)
    np.testing.assert_array_equal(matched.mse[2], 0)


def test_small_images_have_a_smaller_window():
    small = X[:, :, :8, :8]
    np.testing.assert_allclose(matching.match(small, small).ssim, 1, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "found", "share"),
    [
        ([1, 1, 2, 3], [3, 2, 1, 1], 1.0),
        ([1, 1, 2, 3], [1, 2, 2, 3], 0.75),
        ([0, 0, 0, 0], [0, 1, 1, 1], 0.25),
        ([5, 5, 5, 5], [1, 2, 3, 4], 0.0),
    ],
)
def test_labels_as_multisets(labels, found, share):
    np.testing.assert_allclose(
        matching.label_accuracy(np.array([labels] * 2), np.array([found] * 2)), share
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 64), st.integers(0, 10_000))
def test_the_order_of_labels_does_not_matter(size, seed):
    rng = np.random.default_rng(seed)
    labels, found = rng.integers(0, 10, (2, 1, size))
    share = matching.label_accuracy(labels, found)
    moved = matching.label_accuracy(labels, rng.permutation(found[0])[None])
    np.testing.assert_array_equal(share, moved)
    np.testing.assert_array_equal(matching.label_accuracy(labels, labels), 1)
    np.testing.assert_allclose(share, matching.label_accuracy(found, labels))


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"one shape \[V, B, H, W, C\]"):
        matching.match(X, X[:, :2])
    with pytest.raises(ValueError, match=r"one shape \[V, B\]"):
        matching.label_accuracy(np.zeros((2, 3)), np.zeros((2, 4)))
