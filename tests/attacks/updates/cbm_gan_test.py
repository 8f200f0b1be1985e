"""CBM-GAN: k-means finds planted groups, and sets of one kind come out as that kind."""

import jax.numpy as jnp
import numpy as np

from mijax.attacks import cbm_gan

SHAPE = (4, 4, 1)
TEMPLATES = np.random.default_rng(9).uniform(size=(3, *SHAPE))


def blobs(seed, labels):
    noise = np.random.default_rng(seed).normal(0, 0.05, (*labels.shape, *SHAPE))
    return jnp.asarray((TEMPLATES[labels] + noise).clip(0, 1), jnp.float32)


def test_representatives_of_planted_groups():
    labels = np.arange(60) % 3
    images = blobs(0, labels)
    found = cbm_gan.representatives(images, 3, 10)
    assert found.shape == (3, *SHAPE)
    errors = ((np.asarray(found)[:, None] - TEMPLATES[None]) ** 2).mean((2, 3, 4))
    np.testing.assert_array_equal(np.sort(errors.argmin(1)), [0, 1, 2])
    assert errors.min(1).max() < 0.01
    is_image = (np.asarray(found)[:, None] == np.asarray(images)[None]).all((2, 3, 4))
    assert is_image.any(1).all()


def test_a_group_without_images_keeps_its_mean():
    # Both first images are one: the second group is left with nothing.
    images = jnp.concatenate([jnp.zeros((2, *SHAPE)), jnp.ones((2, *SHAPE))])
    found = cbm_gan.representatives(images, 2, 3)
    assert np.isfinite(found).all()
