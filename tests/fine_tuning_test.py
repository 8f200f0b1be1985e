"""A head learns what separates embeddings, and nothing else is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from mijax import fine_tuning

SHAPE, CLASSES, PER_CLASS = (4, 4, 1), 5, 12
FROZEN = jnp.asarray(np.random.default_rng(0).normal(size=(16, 8)), jnp.float32)


def embed(frozen, x):
    return x.reshape(len(x), -1) @ frozen


def people(seed):
    """Noisy images around one image a class, and their labels."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(1).uniform(size=(CLASSES, *SHAPE))
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    images = centers[labels] + 0.05 * rng.normal(size=(len(labels), *SHAPE))
    return images.astype(np.float32), labels


def tuned(labels, **options):
    embedded = fine_tuning.embeddings(embed, FROZEN, people(2)[0])
    return fine_tuning.fine_tune(
        jax.random.key(0),
        embed,
        FROZEN,
        embedded,
        labels,
        classes=CLASSES,
        shape=SHAPE,
        **options,
    )


def accuracy(target, images, labels):
    return np.mean(np.argmax(target.predict(images).logits, 1) == labels)


def test_embeddings_do_not_depend_on_the_batch():
    images, _ = people(2)
    for size in (7, 64):
        np.testing.assert_allclose(
            fine_tuning.embeddings(embed, FROZEN, images, size),
            embed(FROZEN, images),
            rtol=1e-5,
            atol=1e-6,
        )


def test_names_new_images_and_keeps_the_network():
    target = tuned(people(2)[1])
    assert accuracy(target, *people(3)) > 0.95
    trained, frozen = target.network.split(target.params)
    np.testing.assert_array_equal(frozen, FROZEN)
    joined = target.with_trained(jax.tree.map(jnp.zeros_like, trained))
    assert not np.any(joined.predict(people(3)[0]).logits)
    features = target.predict(people(3)[0]).features
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 16, rtol=1e-4)


def test_shuffled_labels_teach_nothing_about_new_images():
    labels = people(2)[1]
    rates = [
        accuracy(tuned(np.random.default_rng(seed).permutation(labels)), *people(3))
        for seed in range(8)
    ]
    assert np.mean(rates) < 0.45  # Of 5 classes; unshuffled labels give nearly 1.


def test_refuses_labels_that_are_not_classes():
    labels = people(2)[1]
    with pytest.raises(ValueError, match="give one for each"):
        tuned(labels[1:])
    with pytest.raises(ValueError, match="from 1 to 5"):
        tuned(labels + 1)


def test_a_head_is_distilled_from_probabilities():
    images, labels = people(2)
    teacher = tuned(labels)
    said = jax.nn.softmax(teacher.predict(images).logits)
    assert accuracy(tuned(said), *people(3)) > 0.95
    other = tuned(np.roll(said, 1, 1))  # Each class is taken for the next one.
    assert accuracy(other, people(3)[0], (people(3)[1] + 1) % CLASSES) > 0.95


def test_tuning_reaches_layers_below_the_head():
    """Of an embedding that is nearly blind, the head alone learns little."""
    images, labels = people(2)
    see = lambda frozen, x: x.reshape(len(x), -1) @ frozen["params"] + frozen["shift"]
    frozen = {"params": jnp.zeros_like(FROZEN), "shift": jnp.ones((1, 8))}
    head = fine_tuning.fine_tune(
        jax.random.key(0),
        see,
        frozen,
        fine_tuning.embeddings(see, frozen, images),
        labels,
        classes=CLASSES,
        shape=SHAPE,
    )
    assert accuracy(head, images, labels) < 0.3
    whole = fine_tuning.tune(
        jax.random.key(1),
        head,
        (images, labels),
        steps=200,
        batch_size=30,
        learning_rate=0.03,
    )
    assert accuracy(whole, *people(3)) > 0.9
    np.testing.assert_array_equal(whole.params["frozen"]["shift"], frozen["shift"])


def test_a_head_serves_on_a_student_of_its_network():
    images, labels = people(2)
    target = tuned(labels)
    same = fine_tuning.under_head(target, embed, FROZEN)
    np.testing.assert_array_equal(same.predict(images)[0], target.predict(images)[0])
    noise = 0.01 * np.random.default_rng(5).normal(size=FROZEN.shape)
    student = fine_tuning.under_head(target, embed, FROZEN + noise)
    assert accuracy(student, *people(3)) > 0.9
    stranger = fine_tuning.under_head(target, embed, FROZEN[:, ::-1])
    assert accuracy(stranger, *people(3)) < 0.6
    with pytest.raises(ValueError, match="not of fine_tune"):
        fine_tuning.under_head(tiny.target(), embed, FROZEN)
