import numpy as np
import pytest

from mijax.metrics import weights

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(0, 0.05, 20_000).astype(np.float32)


def with_low_bits(values):
    raw = NORMAL.view(np.uint32) & ~np.uint32(255)
    return (raw | values.astype(np.uint32)).view(np.float32)


def test_weights_of_one_kind_are_near():
    other = RNG.normal(0, 0.05, 20_000)
    assert weights.distribution_distance(NORMAL, other) < 0.02


def test_weights_that_follow_pixels_are_far():
    two_levels = np.where(RNG.uniform(size=20_000) < 0.8, -0.03, 0.08)
    assert weights.distribution_distance(two_levels, NORMAL) > 0.25


def test_images_in_low_bits_show_and_random_bits_do_not():
    dark = np.where(RNG.uniform(size=20_000) < 0.8, 0, RNG.integers(0, 256, 20_000))
    assert weights.uneven_bit(with_low_bits(dark), 8) > 20
    assert weights.uneven_bit(with_low_bits(RNG.integers(0, 256, 20_000)), 8) < 5
    assert weights.uneven_bit(NORMAL, 8) < 5


def test_bad_input():
    with pytest.raises(ValueError, match="bits is 24"):
        weights.uneven_bit(NORMAL, 24)
    with pytest.raises(ValueError, match="There are 0 weights"):
        weights.uneven_bit(np.zeros(0), 8)
