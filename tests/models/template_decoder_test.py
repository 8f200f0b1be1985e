"""The template decoder learns faces of embeddings, and ships whole."""

import json
import pathlib

import jax
import numpy as np
import pytest

from mijax import pretrained
from mijax.priors import template_decoder

NETWORK = template_decoder.Coefficients(number=6, hidden=32, dropout=0.1)


def known(count=400):
    """Embeddings and images that they tell but for noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 5)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    basis = rng.normal(size=(5, 8, 4, 1))
    half = 0.5 + 0.1 * np.tensordot(x, basis, 1)
    images = np.concatenate([half, half[:, :, ::-1]], 2)
    return x, (images + 0.01 * rng.normal(size=images.shape)).astype(np.float32)


def trained(x, images):
    return template_decoder.train(
        jax.random.key(0), x, images, steps=300, batch_size=64, network=NETWORK
    )


def explained(decoder, x, images):
    error = np.mean((np.asarray(decoder.images(x)) - images) ** 2)
    return 1 - error / np.mean((images - images.mean(0)) ** 2)


def test_decodes_embeddings_that_it_has_not_seen():
    x, images = known()
    decoder = trained(x[:300], images[:300])
    drawn = decoder.images(x[300:])
    np.testing.assert_array_equal(drawn, drawn[:, :, ::-1])
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert explained(decoder, x[300:], images[300:]) > 0.7
    shuffled = trained(np.random.default_rng(1).permutation(x[:300]), images[:300])
    assert explained(shuffled, x[300:], images[300:]) < 0.1
    np.testing.assert_allclose(
        decoder.spread @ decoder.spread, np.cov(x[:300].T), atol=1e-4
    )


def test_refuses_too_few_images_and_other_counts():
    x, images = known(6)
    with pytest.raises(ValueError, match="more than the 6 eigenfaces"):
        trained(x, images)
    with pytest.raises(ValueError, match="5 embeddings of 6 images"):
        trained(x[:5], images)


def test_the_shipped_decoder_is_the_card_s_and_draws_faces():
    decoder = template_decoder.load()
    drawn = decoder.images(decoder.center[None])
    assert drawn.shape == (1, *template_decoder.SHAPE)
    middle, edge = drawn[0, 24:30, 16:24].mean(), drawn[0, 30:40, 28:36].mean()
    assert middle < edge - 0.05  # Eyes are darker than the nose.
    card = json.loads(
        (
            pathlib.Path(pretrained.__file__).parent / "face_template_decoder.json"
        ).read_text()
    )
    assert "Apache-2.0" in card["licence"]


def test_a_decoder_is_read_as_it_was_written(tmp_path):
    decoder, path = template_decoder.load(), tmp_path / "decoder.npz"
    template_decoder.save(path, decoder)
    again = template_decoder.load(path)
    jax.tree.map(np.testing.assert_array_equal, decoder, again)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a whole"):
        template_decoder.load(path)
