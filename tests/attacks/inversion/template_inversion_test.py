"""Template inversion draws the class whose template a head holds, and no one else's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from mijax import fine_tuning
from mijax.attacks import template_inversion
from mijax.core import TemplateDecoder
from mijax.knowledge import WhiteBox

SHAPE, CLASSES, FEATURES, EACH = (8, 8, 1), 6, 12, 30
RNG = np.random.default_rng(0)
MIXING = np.linalg.qr(RNG.normal(size=(64, FEATURES)))[0].astype(np.float32)
# Most of what embeddings vary in lies in a few directions, as public networks' does.
SCALES = (1.4 ** -np.arange(FEATURES)).astype(np.float32)


def embed(frozen, x):
    return (x - 0.5).reshape(len(x), -1) @ frozen


def faces(seed, people, each, spread=0.1):
    """Images around one of each person, and labels; `0.5 + MIXING @ embedding`."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(people, FEATURES)) * SCALES + 1.0
    labels = np.repeat(np.arange(people), each)
    noise = spread * rng.normal(size=(len(labels), FEATURES)) * SCALES
    return images_of(centers[labels] + noise), labels, centers


def images_of(embeddings):
    return (0.5 + 0.2 * embeddings @ MIXING.T).reshape(-1, *SHAPE).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def draw(variables, templates):
    return jnp.clip(0.5 + (templates @ variables).reshape(-1, *SHAPE), 0, 1)


def decoder():
    public, _, _ = faces(1, 500, 1)
    seen = unit(np.asarray(embed(MIXING, public)))
    values, vectors = np.linalg.eigh(np.cov(seen.T))
    spread = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return TemplateDecoder(
        jnp.asarray(0.5 * MIXING.T),
        jnp.asarray(seen.mean(0)),
        jnp.asarray(spread, jnp.float32),
        draw,
    )


def target(labels=None, **options):
    images, own, _ = faces(2, CLASSES, EACH)
    return fine_tuning.fine_tune(
        jax.random.key(0),
        embed,
        jnp.asarray(MIXING),
        embed(MIXING, images),
        own if labels is None else labels,
        classes=CLASSES,
        shape=SHAPE,
        **options,
    )


def knowing(attacked):
    labels = jnp.arange(CLASSES, dtype=jnp.int32)
    return WhiteBox(attacked, labels, decoder=decoder())


def own_is_nearest(templates):
    """Whether each template is nearer to its own class's center than to others."""
    _, _, centers = faces(2, CLASSES, EACH)
    middle = np.asarray(decoder().center)
    similar = unit(np.asarray(templates) - middle) @ unit(unit(centers) - middle).T
    return similar.argmax(1) == np.arange(CLASSES), np.diag(similar)


def test_templates_are_nearer_to_the_people_than_the_weights_are():
    attacked = target(steps=100)  # So few that the initial weights show.
    own, similar = own_is_nearest(fine_tuning.templates(attacked, decoder()))
    assert own.all()
    weights = attacked.params["head"]["params"]["Dense_0"]["kernel"].T
    bare = dataclasses.replace(decoder(), spread=jnp.eye(FEATURES))
    assert similar.mean() > own_is_nearest(bare.templates(weights))[1].mean() + 0.05


def test_draws_the_planted_people():
    found = jax.jit(template_inversion.attack)(jax.random.key(0), knowing(target()))
    _, _, centers = faces(2, CLASSES, EACH)
    real = images_of(centers).reshape(CLASSES, -1)
    drawn = np.asarray(found.x).reshape(CLASSES, -1)
    center = np.concatenate([real, drawn]).mean(0)
    similar = unit(drawn - center) @ unit(real - center).T
    assert np.all(similar.argmax(1) == np.arange(CLASSES))
    assert found.loss.max() < 0.5  # The target takes them for its people.


def test_shuffled_labels_draw_no_one():
    rates = []
    for seed in range(6):
        labels = np.random.default_rng(seed).permutation(
            np.repeat(range(CLASSES), EACH)
        )
        own, _ = own_is_nearest(fine_tuning.templates(target(labels), decoder()))
        rates.append(own.mean())
    assert np.mean(rates) < 0.45  # By chance 1 / 6; of true labels 1.


def test_templates_replace_the_head():
    attacked = fine_tuning.under_templates(target(), decoder())
    images, labels, _ = faces(2, CLASSES, EACH)
    said = attacked.predict(images)
    cosines = (
        unit(np.asarray(embed(MIXING, images)))
        @ np.asarray(fine_tuning.templates(target(), decoder())).T
    )
    np.testing.assert_allclose(said.logits, 16 * cosines, atol=1e-3)
    assert np.mean(np.argmax(said.logits, 1) == labels) > 0.9


def test_contrast_multiplies_differences_to_the_mean():
    flat, sharp = (
        template_inversion.attack(
            jax.random.key(0), knowing(target()), template_inversion.Config(contrast)
        ).x
        for contrast in (0.5, 1.0)
    )
    flat, sharp = (x - x.mean((1, 2, 3), keepdims=True) for x in (flat, sharp))
    inside = np.abs(sharp) < 0.3  # what was not clipped
    np.testing.assert_allclose(flat[inside], 0.5 * sharp[inside], atol=0.02)


def test_refuses_what_it_cannot_decode():
    attack, key = template_inversion.attack, jax.random.key(0)
    known, labels = knowing(target()), jnp.zeros(1, jnp.int32)
    with pytest.raises(ValueError, match="needs a decoder"):
        attack(key, dataclasses.replace(known, decoder=None))
    with pytest.raises(ValueError, match="not of fine_tune"):
        attack(key, dataclasses.replace(known, target=tiny.target(), labels=labels))
    small = dataclasses.replace(
        known.decoder, decode=lambda variables, e: draw(variables, e)[:, ::2]
    )
    with pytest.raises(ValueError, match=r"draws images \(4, 8, 1\)"):
        attack(key, dataclasses.replace(known, decoder=small))
    other = dataclasses.replace(known.decoder, center=jnp.ones(3), spread=jnp.eye(3))
    with pytest.raises(ValueError, match="embeddings of 12 numbers, the decoder of 3"):
        fine_tuning.templates(known.target, other)
