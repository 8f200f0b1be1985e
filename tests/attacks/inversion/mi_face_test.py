"""MI-Face on models whose answer is known."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from mijax.attacks import mi_face
from mijax.attacks.inversion import processing
from mijax.core import Target
from mijax.defenses.rounding import rounding
from mijax.knowledge import Codec, Scores, WhiteBox
from mijax.models.mlp import DAE

SHAPE, CLASSES = (6, 6, 1), 5
LABELS = jnp.arange(CLASSES, dtype=jnp.int32)
TEMPLATES = jax.random.uniform(jax.random.key(0), (CLASSES, *SHAPE))
attack = jax.jit(mi_face.attack)


def regress(weights, x):
    return x.reshape(x.shape[0], -1) @ weights


@pytest.fixture
def target():
    """Softmax regression whose weights are the centered class templates."""
    flat = TEMPLATES.reshape(CLASSES, -1)
    weights = (flat - flat.mean(0, keepdims=True)).T
    return Target.from_function(regress, weights, SHAPE)


def most_correlated(x):
    both = np.corrcoef(x.reshape(CLASSES, -1), TEMPLATES.reshape(CLASSES, -1))
    return both[:CLASSES, CLASSES:].argmax(1)


def go(knowledge, **options):
    return attack(jax.random.key(0), knowledge, mi_face.Config(**options))


def test_reaches_the_analytic_optimum():
    difference = jax.random.normal(jax.random.key(1), (36,)) / 60
    difference += jnp.sign(difference) / 60
    weights = jnp.stack([0 * difference, difference], 1)
    target = Target.from_function(regress, weights, SHAPE)
    found = go(WhiteBox(target, jnp.array([0, 1])), steps=100, learning_rate=50.0)
    optimum = np.stack([difference < 0, difference > 0]).reshape(2, *SHAPE)
    np.testing.assert_array_equal(found.x, optimum)
    best = jax.nn.sigmoid(jnp.sum(jnp.abs(difference) * (optimum[1].ravel())))
    np.testing.assert_allclose(found.loss[1], 1 - best, rtol=1e-5)


def test_finds_the_planted_templates(target):
    found = go(WhiteBox(target, LABELS), steps=100, learning_rate=1.0)
    np.testing.assert_array_equal(most_correlated(found.x), LABELS)
    assert found.queries == 0


def test_a_target_that_tells_nothing_stays_at_the_start():
    target = Target.from_function(regress, jnp.zeros((36, CLASSES)), SHAPE)
    found = go(WhiteBox(target, LABELS), steps=5, start=0.25)
    np.testing.assert_array_equal(found.x, 0.25)


def test_differences_are_nearly_the_gradient(target):
    white = go(WhiteBox(target, LABELS), steps=20, learning_rate=1.0)
    black = go(Scores.of(target, LABELS), steps=20, learning_rate=1.0)
    np.testing.assert_allclose(black.x, white.x, atol=0.02)
    np.testing.assert_allclose(black.loss, white.loss, atol=0.01)
    assert black.queries == CLASSES * (2 * 36 + 1) * 21


def test_rounding_stops_small_differences_alone(target):
    """The defense hides the gradient, and an adaptive adversary sees it again."""
    release = rounding(0.01).output
    rounded = Scores.of(target, LABELS, release=release)
    naive = go(rounded, steps=50, learning_rate=1.0, difference=1e-3)
    np.testing.assert_array_equal(naive.x, 0)
    adaptive = go(rounded, steps=50, learning_rate=1.0, difference=0.5)
    np.testing.assert_array_equal(most_correlated(adaptive.x), LABELS)


def test_process_and_finish(target):
    process = processing.denoise_and_sharpen
    options = {"steps": 5, "learning_rate": 1.0}
    for knowledge in (WhiteBox(target, LABELS), Scores.of(target, LABELS)):
        plain = go(knowledge, **options)
        processed = go(knowledge, process=process, **options)
        assert processed.x.min() >= 0 and processed.x.max() <= 1
        assert not np.allclose(plain.x, processed.x, atol=1e-3)
        finished = go(knowledge, finish=jnp.negative, **options)
        np.testing.assert_allclose(finished.x, -plain.x, atol=1e-6)
        np.testing.assert_allclose(finished.loss, plain.loss, rtol=1e-5)


@pytest.mark.parametrize("process", [mi_face.unprocessed, processing.sharpen])
def test_searches_in_the_code_of_an_autoencoder(process):
    module = DAE(CLASSES, SHAPE, widths=(12,))
    variables = module.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    coder = functools.partial(module.apply, depth=1)
    codec = Codec(
        encode=Partial(functools.partial(coder, method=DAE.encode), variables),
        decode=Partial(functools.partial(coder, method=DAE.decode), variables),
    )
    target = Target.from_linen(module, variables, SHAPE)
    knowledge = WhiteBox(target, LABELS, codec=codec)
    found = go(knowledge, steps=30, process=process)
    assert found.x.shape == (CLASSES, *SHAPE)
    assert found.x.min() >= 0 and found.x.max() <= 1
    assert np.all(found.loss <= found.trace[:, 0, 0])
    assert np.any(found.loss < found.trace[:, 0, 0])
    confidences = jax.nn.softmax(target.predict(found.x).logits)
    np.testing.assert_allclose(found.loss, 1 - confidences[LABELS, LABELS], rtol=1e-3)


@pytest.mark.parametrize("difference", [0.0, -0.1])
def test_a_difference_that_is_none_is_refused(difference):
    with pytest.raises(ValueError, match=f"difference is {difference}: it must be pos"):
        mi_face.Config(difference=difference)


def test_more_queries_than_can_be_counted_are_refused(target):
    knowledge = dataclasses.replace(
        Scores.of(target, LABELS), labels=jnp.zeros(10_000, jnp.int32)
    )
    config = mi_face.Config(steps=5000)
    with pytest.raises(ValueError, match="more than a counter holds"):
        jax.eval_shape(mi_face.attack, jax.random.key(0), knowledge, config)
