"""What is seen of a private image, and what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax.knowledge import glimpses


@pytest.fixture
def images():
    return jax.random.uniform(jax.random.key(0), (2, 20, 20, 1))


class TestMasks:
    def test_center(self):
        mask = glimpses.center_mask(20, 40)
        assert mask.shape == (20, 40, 1) and set(np.unique(mask)) == {0, 1}
        hidden = np.argwhere(mask[:, :, 0] == 0)
        np.testing.assert_array_equal(hidden.min(0), [3, 6])
        np.testing.assert_array_equal(hidden.max(0), [16, 33])
        assert len(hidden) == 14 * 28  # The inner 70 % of each side.

    def test_t(self):
        mask = glimpses.t_mask(100, 100)[:, :, 0]
        assert set(np.unique(mask)) == {0, 1}
        for row, column in [(40, 30), (40, 70), (60, 50), (80, 50)]:
            assert mask[row, column] == 0  # Eyes, nose, mouth.
        for row, column in [(10, 50), (70, 15), (70, 85), (95, 50), (40, 5)]:
            assert mask[row, column] == 1  # Hair, cheeks, chin.
        np.testing.assert_array_equal(mask, mask[:, ::-1])

    def test_one_is_seen(self, images):
        mask = glimpses.center_mask(20, 20)
        glimpse = glimpses.masked(images, mask)
        np.testing.assert_array_equal(glimpse.image, images * mask[None])
        changed = images.at[:, 10, 10].set(0.0)  # What is hidden makes no difference.
        np.testing.assert_array_equal(glimpse.see(changed), glimpse.image)

    def test_another_size_is_refused(self, images):
        for mask in (np.ones((8, 8, 1)), np.ones((20, 20))):
            with pytest.raises(ValueError, match="The mask is"):
                glimpses.masked(images, mask)


class TestBlur:
    def test_means_of_blocks(self, images):
        glimpse = glimpses.blurred(images, 5)
        assert glimpse.image.shape == (2, 4, 4, 1)
        np.testing.assert_allclose(
            glimpse.image[1, 2, 3, 0], images[1, 10:15, 15:20].mean(), rtol=1e-5
        )

    def test_bad_factors(self, images):
        for factor in (3, 0, -2):
            with pytest.raises(ValueError, match=f"factor is {factor}"):
                glimpses.blurred(images, factor)


def test_glimpses_of_others_compile_once(images):
    traces = []

    @jax.jit
    def see(glimpse):
        traces.append(1)
        return glimpse.see(images)

    for factor in (4, 4, 2):
        see(glimpses.blurred(images, factor))
    assert len(traces) == 2
    for mask in (glimpses.center_mask(20, 20), glimpses.t_mask(20, 20)):
        see(glimpses.masked(images, jnp.asarray(mask)))
    assert len(traces) == 3
