"""Updates-Leak: an update's label is found, and an update of nothing says nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.optimize import linear_sum_assignment

from mijax import federation
from mijax.attacks import cbm_gan, updates_leak
from mijax.attacks.updates import shadow_updates
from mijax.federation import Recipe
from mijax.knowledge import UpdatedModel
from mijax.models.mlp import MLP

SHAPE, KEY = (4, 4, 1), jax.random.key(0)
MODULE = MLP(3, (8,), nn.relu)
CONFIG = updates_leak.Config(
    Recipe(local_steps=1, learning_rate=0.1),
    lambda classes: MODULE,
    widths=(16,),
    clones=600,
    shadow_steps=100,
    steps=400,
)


def blobs(seed, number):
    rng = np.random.default_rng(seed)
    templates = np.random.default_rng(9).uniform(size=(3, *SHAPE))
    labels = rng.integers(0, 3, number)
    images = templates[labels] + rng.normal(0, 0.1, (number, *SHAPE))
    return jnp.asarray(images.clip(0, 1), jnp.float32), jnp.asarray(labels, jnp.int32)


PUBLIC, LABELS = blobs(0, 300)
PRIVATE, TRUTH = blobs(1, 60)


@pytest.fixture(scope="module")
def model():
    images, labels = blobs(2, 300)
    train = jax.jit(shadow_updates.shadow, static_argnames=("module", "steps"))
    return train(jax.random.key(7), MODULE, images, labels, steps=60)


def known(model, after):
    return UpdatedModel.of(model, after, PUBLIC[:20], PUBLIC, LABELS)


def updated(model, images, labels):
    update = jax.jit(lambda x, y: shadow_updates.updated(CONFIG.recipe, model, x, y))
    return update(images, labels)


def test_labels_of_single_images_are_found(model):
    run = jax.jit(updates_leak.attack)
    after = updated(model, PRIVATE[:, None], TRUTH[:, None])
    found = run(KEY, known(model, after), CONFIG)
    assert np.mean(found.guess == TRUTH) > 0.8
    assert found.queries == 20 * 61
    same = jax.tree.map(lambda leaf: jnp.stack([leaf] * 60), model.params)
    nothing = run(KEY, known(model, same), CONFIG)  # null: no update at all
    assert len(np.unique(nothing.guess)) == 1


@pytest.mark.slow
def test_images_of_single_updates_are_no_worse_than_the_mean(model):
    after = updated(model, PRIVATE[:, None], TRUTH[:, None])
    run = jax.jit(updates_leak.reconstruct)
    found = run(KEY, known(model, after), CONFIG)
    mean = np.mean(np.asarray(PUBLIC), 0)
    baseline = np.mean((np.asarray(PRIVATE) - mean) ** 2)
    assert np.mean((found.x - PRIVATE) ** 2) < 0.7 * baseline


def test_the_distribution_of_a_set_is_read_from_class_means(model):
    rows = shadow_updates.draw_sets(
        jax.random.key(3), TRUTH, 3, number=60, size=20, concentration=0.5
    )
    after = updated(model, PRIVATE[rows], TRUTH[rows])
    config = dataclasses.replace(
        CONFIG, summary=updates_leak.class_means, set_size=20, concentration=0.5
    )
    found = jax.jit(updates_leak.attack)(KEY, known(model, after), config)
    shares = np.mean(np.eye(3)[np.asarray(TRUTH)[rows]], 1)
    prior = np.abs(shares - shares.mean(0)).mean()
    assert np.abs(np.exp(found.log_posterior) - shares).mean() < 0.75 * prior


def test_class_means_are_directions(model):
    differences = np.random.default_rng(0).normal(size=(5, 7, 3))
    found = updates_leak.class_means(jnp.asarray(differences))
    means = differences.mean(1)
    np.testing.assert_allclose(
        found, means / np.linalg.norm(means, axis=1, keepdims=True), rtol=1e-5
    )
    longer = updates_leak.class_means(jnp.asarray(3 * differences))
    np.testing.assert_allclose(longer, found, rtol=1e-5)
    assert np.all(updates_leak.class_means(jnp.zeros((2, 7, 3))) == 0)  # no update


def matched(truth, found):
    """The mean squared error of sets of images, in the order that suits them best."""
    costs = ((truth[:, :, None] - np.asarray(found)[:, None]) ** 2).mean((3, 4, 5))
    return np.mean([each[linear_sum_assignment(each)].mean() for each in costs])


def test_the_best_match_draws_the_nearest_image_alone():
    rng = np.random.default_rng(0)
    true, images = (
        jnp.asarray(rng.uniform(size=(16, 3, 12, 12, 1)), jnp.float32) for _ in "ab"
    )

    def loss(images):
        return jnp.mean(jax.vmap(cbm_gan.best_match)(true, images))

    value, slope = jax.jit(jax.value_and_grad(loss))(images)
    errors = np.asarray(true)[:, :, None] - np.asarray(images)[:, None]
    distances = (errors**2).mean((3, 4, 5))
    np.testing.assert_allclose(value, distances.min(2).mean(), rtol=1e-4)
    chosen = np.eye(3)[distances.argmin(2)][..., None, None, None]  # [B, U, U, ...]
    expected = -2 * (chosen * errors).sum(1) / (16 * 3 * 144)
    np.testing.assert_allclose(slope, expected, atol=1e-6)


@pytest.mark.slow
def test_images_of_sets_are_of_the_kinds_that_are_in_them(model):
    rows = shadow_updates.draw_sets(
        jax.random.key(3), TRUTH, 3, number=30, size=4, concentration=0.05
    )
    after = updated(model, PRIVATE[rows], TRUTH[rows])
    config = cbm_gan.Config(
        CONFIG.recipe,
        CONFIG.shadow,
        clones=300,
        set_size=4,
        shadow_steps=100,
        widths=(16,),
        steps=400,
        concentration=0.05,
        learning_rate=1e-3,
        generator_widths=(32,),
        critic_widths=(16,),
        samples=20,
    )
    found = jax.jit(cbm_gan.attack)(KEY, known(model, after), config)
    truth = np.asarray(PRIVATE)[np.asarray(rows)]
    error, null = matched(truth, found.x), matched(truth, np.roll(found.x, 1, 0))
    mean = np.mean((truth - np.mean(np.asarray(PUBLIC), 0)) ** 2)
    assert error < 0.8 * min(mean, null)
    assert found.trace[0, 0, -50:].mean() < 0.7 * found.trace[0, 0, 0]


def test_clones_are_updates_one_by_one(model):
    rows = jnp.array([[0], [5], [9]])
    found = shadow_updates.traces(
        CONFIG.recipe, model, PUBLIC[:4], PUBLIC, LABELS, rows
    )
    update = federation.client_update(CONFIG.recipe, model, PUBLIC[5:6], LABELS[5:6])
    after = model.with_trained(jax.tree.map(jnp.add, model.trained, update.change))
    before, then = (
        jax.nn.softmax(each.predict(PUBLIC[:4]).logits) for each in (model, after)
    )
    np.testing.assert_allclose(found[1], before - then, atol=1e-6)


def test_sets_have_the_labels_of_their_law():
    draw = lambda concentration, labels: shadow_updates.draw_sets(
        KEY, labels, 4, number=400, size=30, concentration=concentration
    )
    shares = lambda rows: np.mean(np.eye(4)[np.asarray(LABELS)[rows]], 1)
    rows = draw(1e4, LABELS)  # No image is of class 3.
    assert rows.min() >= 0 and rows.max() < len(LABELS)
    np.testing.assert_allclose(shares(rows).mean(0), [1 / 3] * 3 + [0], atol=0.02)
    assert shares(rows).std(0)[:3].max() < 0.12
    assert shares(draw(0.1, LABELS)).max(1).mean() > 0.8
    assert len(np.unique(rows)) > 250


def test_a_budget_counts_every_model(model):
    after = jax.tree.map(lambda leaf: leaf[None], model.params)
    small = UpdatedModel.of(model, after, PUBLIC[:20], PUBLIC, LABELS, budget=39)
    with pytest.raises(Exception, match="budget is 39 and the attack asked for 40"):
        jax.block_until_ready(small.query()[1])


def test_answers_cannot_be_differentiated(model):
    after = jax.tree.map(lambda leaf: leaf[None], model.params)

    def total(probes):
        return jnp.sum(UpdatedModel.of(model, after, probes, PUBLIC, LABELS).query()[0])

    with pytest.raises(TypeError, match="black box cannot be differentiated"):
        jax.grad(total)(PUBLIC[:2])


def test_an_update_takes_a_step(model):
    with pytest.raises(ValueError, match=r"local_steps is 0.*at least 1"):
        shadow_updates.updated(Recipe(), model, PRIVATE[:1, None], TRUTH[:1, None])


def test_traces_are_the_same_one_after_the_other_and_all_at_once(model):
    rows = jnp.arange(12).reshape(6, 2)
    found = jax.jit(shadow_updates.traces)(
        CONFIG.recipe, model, PUBLIC[:20], PUBLIC, LABELS, rows
    )
    after = updated(model, PUBLIC[rows], LABELS[rows])
    before, answers, _ = known(model, after).query()
    np.testing.assert_allclose(found, before[None] - answers, atol=1e-6)
