"""What is kept between runs is found again by what it was made of, and nothing else."""

import numpy as np
import pytest

from experiments.harness import cache


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("MIJAX_CACHE", str(tmp_path / "cache"))
    asked = []

    def once(weights, images):
        def compute():
            asked.append(len(images))
            return images.sum(1)

        return cache.once(
            tmp_path, name="features", inputs=(weights, images), compute=compute
        )

    return once, asked


def test_an_array_is_made_once_for_the_same_inputs(made):
    once, asked = made
    images = np.arange(6.0).reshape(3, 2)
    first = once(b"weights", images)
    np.testing.assert_array_equal(first, images.sum(1))
    np.testing.assert_array_equal(once(b"weights", images.copy()), first)
    assert asked == [3]
    once(b"weights", images + 1)
    once(b"weights", images[:2])
    once(b"weights", images.astype(np.float32))
    once(b"others", images)
    once({"a": images[0]}, images)
    assert asked == [3, 3, 2, 3, 3, 3]


def test_without_a_home_the_workdir_keeps_it(tmp_path, monkeypatch):
    monkeypatch.delenv("MIJAX_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    assert cache.folder(tmp_path) == tmp_path / "cache"


def test_the_folder_that_is_named_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MIJAX_CACHE", str(tmp_path / "named"))
    assert cache.folder(tmp_path) == tmp_path / "named"
