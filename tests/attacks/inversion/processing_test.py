"""Image processing keeps images images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax.attacks.inversion import processing

ALL = [processing.denoise, processing.sharpen, processing.denoise_and_sharpen]


@pytest.mark.parametrize("process", ALL)
def test_keeps_shape_range_and_flat_images(process):
    images = jax.random.bernoulli(jax.random.key(0), 0.5, (2, 9, 7, 3)) * 1.0
    processed = jax.jit(process)(images)
    assert processed.shape == images.shape
    assert processed.min() >= 0 and processed.max() <= 1
    flat = jnp.full((1, 6, 6, 1), 0.3)
    np.testing.assert_allclose(process(flat), flat, rtol=1e-5)


def test_denoise_removes_noise_and_keeps_edges():
    clean = jnp.where(jnp.arange(16) < 8, 0.2, 0.8)[None, None, :, None]
    clean = jnp.broadcast_to(clean, (1, 16, 16, 1))
    noisy = clean + 0.03 * jax.random.normal(jax.random.key(0), clean.shape)
    denoised = jax.jit(processing.denoise)(noisy)
    assert jnp.mean((denoised - clean) ** 2) < 0.3 * jnp.mean((noisy - clean) ** 2)
    jump = jnp.mean(denoised[:, :, 8] - denoised[:, :, 7])
    np.testing.assert_allclose(jump, 0.6, atol=0.05)


def test_sharpen_steepens_edges_in_closed_form():
    image = jnp.array([0.2, 0.2, 0.5, 0.5])[None, None, :, None]
    image = jnp.broadcast_to(image, (1, 4, 4, 1))
    np.testing.assert_array_equal(processing.sharpen(image, 0.0), image)
    row = processing.sharpen(image, 0.5)[0, 1, :, 0]
    np.testing.assert_allclose(row, [0.2, 0.15, 0.55, 0.5], rtol=1e-5)
