"""A target that has learned public people, and the oracles that see private images."""

import jax
import numpy as np
import pytest
import tiny

from experiments import judging
from experiments.harness.run import Run
from experiments.studies import oracles
from experiments.studies.targets import PublicPeople
from mijax import data
from mijax.data import Dataset
from mijax.data.roles import World
from mijax.evaluation.judges import Provenance
from mijax.models.mlp import MLP


def people(name, classes, number, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(number, dtype=np.int32) % classes
    images = rng.uniform(0, 0.4, (number, *tiny.SHAPE)).astype(np.float32)
    images[np.arange(number), 0, labels] += 0.6
    return Dataset(name, images, labels, tuple(f"{name}{k}" for k in range(classes)))


PRIVATE = people("private", 3, 30, 0)


def test_public_people_are_learned_once_and_private_ones_from_there(tmp_path):
    public = people("public", 5, 50, 1)
    rare = np.concatenate([np.flatnonzero(public.labels < 4), [4]])  # One image of 4.
    public = Dataset("public", public.images[rare], public.labels[rare], public.names)
    world = World("planted", PRIVATE, public, "faces64", False)
    learner = PublicPeople(
        lambda classes: MLP(classes, widths=(8,)), steps=1, public_steps=20
    )
    run = Run(tmp_path, jax.random.key(0))
    known = data.train_test(PRIVATE, test_fraction=0.2)
    first, hits = learner.train(run, jax.random.key(1), "target", known, world)
    other, _ = learner.train(run, jax.random.key(2), "null", known, world)
    assert hits.shape == (len(known.test),)
    hidden, head = (
        [target.params["params"][name]["kernel"] for target in (first, other)]
        for name in ("hidden_0", "logits")
    )
    np.testing.assert_allclose(*hidden, atol=0.01)  # One step from what was learned.
    assert head[0].shape == (8, 3) and np.abs(head[0] - head[1]).max() > 0.1
    alone = World("alone", PRIVATE, None, "faces64", False)
    with pytest.raises(ValueError, match="alone has no public people"):
        learner.train(run, jax.random.key(1), "target", known, alone)
    assert "public people" in learner.provenance("private").data


def test_the_pixel_oracle_finds_an_image_of_the_prior():
    prior = tiny.prior()
    latents = np.asarray(jax.random.normal(jax.random.key(0), (16, prior.latent_size)))
    drawn = np.asarray(prior.images(latents))
    truth = np.asarray(prior.images(latents[:2] + 0.3))
    found = oracles.by_pixels(prior, latents, drawn, truth)
    error = lambda x: np.square(x - truth).mean((1, 2, 3))
    assert np.all(error(found) < 0.1 * error(drawn[:2]))


def test_eigenfaces_are_exact_with_all_components_and_the_mean_with_none():
    size = int(np.prod(tiny.SHAPE))
    truth = PRIVATE.images[:2]
    public = people("public", 3, 2 * size, 2).images
    exact = oracles.by_eigenfaces(public, truth, size)
    np.testing.assert_allclose(exact, truth, atol=1e-4)
    few, many = (oracles.by_eigenfaces(public, truth, n) for n in (4, 32))
    assert np.square(many - truth).sum() < np.square(few - truth).sum()


def test_the_feature_oracle_takes_the_sample_nearest_to_a_persons_mean():
    reference = np.array([[0.0, 0], [0, 2], [9, 9]], np.float32)
    judge = judging.Judge(
        "plane",
        Provenance("none", frozenset()),
        lambda x: x,
        reference,
        np.array([0, 0, 1]),
        2,
    )
    drawn = np.array([[0, 0], [0, 1.1], [8, 9]], np.float32)
    found = oracles.by_features(judge, drawn, np.array([1, 0]))
    np.testing.assert_array_equal(found, drawn[[2, 1]])
