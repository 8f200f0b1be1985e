"""Targets, priors and results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from mijax.core import Prediction, Prior, Target, choose, concrete, pytree, static

SHAPE = (8, 8, 1)


class Flat(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3, name="dense")(x.reshape(x.shape[0], -1))


class FlatNnx(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(64, 3, rngs=rngs)

    def __call__(self, x):
        return self.dense(x.reshape(x.shape[0], -1))


def plain(params, x):
    kernel, bias = params
    logits = x.reshape(x.shape[0], -1) @ kernel + bias[None]
    return Prediction(logits, x.reshape(x.shape[0], -1))


class TestTarget:
    def test_linen_nnx_and_a_function_agree(self):
        module = FlatNnx(nnx.Rngs(0))
        kernel, bias = module.dense.kernel[...], module.dense.bias[...] + 0.5
        module.dense.bias[...] = bias
        weights = {"params": {"dense": {"kernel": kernel, "bias": bias}}}
        targets = [
            Target.from_linen(Flat(), weights, SHAPE),
            Target.from_nnx(module, SHAPE),
            Target.from_function(plain, (kernel, bias), SHAPE),
        ]
        x = jax.random.uniform(jax.random.key(0), (4, *SHAPE))
        expected = np.asarray(x).reshape(4, -1) @ np.asarray(kernel) + np.asarray(bias)
        for target in targets:
            assert (target.shape, target.num_classes) == (SHAPE, 3)
            logits = jax.jit(Target.predict)(target, x).logits
            np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
        assert targets[0].predict(x).features is None
        assert targets[2].predict(x).features.shape == (4, 64)

    def test_equal_linen_modules_compile_once(self):
        traces = []

        @jax.jit
        def predict(target, x):
            traces.append(1)
            return target.predict(x).logits

        x = jnp.zeros((1, *SHAPE))
        for seed in range(3):
            module = Flat()
            variables = module.init(jax.random.key(seed), x)
            predict(Target.from_linen(module, variables, SHAPE), x)
        assert len(traces) == 1

    def test_nnx_states_of_one_graph_compile_once(self):
        traces = []

        @jax.jit
        def predict(target, x):
            traces.append(1)
            return target.predict(x).logits

        for seed in range(2):
            target = Target.from_nnx(FlatNnx(nnx.Rngs(seed)), SHAPE)
            predict(target, jnp.zeros((1, *SHAPE)))
        assert len(traces) == 1

    def test_refuses_images_of_another_shape(self, target):
        with pytest.raises(ValueError, match=r"\(8, 8, 3\).*\(8, 8, 1\)"):
            target.predict(jnp.zeros((2, 8, 8, 3)))

    def test_refuses_a_model_of_other_images(self, classifier, variables):
        with pytest.raises(ValueError, match=r"does not accept images of shape \(4, 4"):
            Target.from_linen(classifier, variables[0], (4, 4, 1))

    def test_refuses_what_is_no_classifier(self):
        with pytest.raises(ValueError, match="must return logits"):
            Target.from_function(lambda params, x: jnp.sum(x), None, SHAPE)


def test_prior_draws_and_scores(prior):
    z = jax.random.normal(jax.random.key(0), (3, prior.latent_size))
    images = prior.images(z)
    assert prior.shape == SHAPE and images.shape == (3, *SHAPE)
    assert images.min() >= 0 and images.max() <= 1
    assert prior.score(images).shape == (3,)


def test_the_law_of_latents_is_the_priors(prior):
    key = jax.random.key(0)
    normal = jax.random.normal(key, (3, prior.latent_size))
    np.testing.assert_array_equal(prior.sample(key, 3), normal)

    def on_the_sphere(scale, key, n):
        z = jax.random.normal(key, (n, 4))
        return scale * z / jnp.linalg.norm(z, axis=1, keepdims=True)

    curved = Prior(2.0, None, abs, abs, 4, SHAPE, on_the_sphere)
    z = jax.jit(lambda prior, key: prior.sample(key, 5))(curved, key)
    assert z.shape == (5, 4)
    np.testing.assert_allclose(jnp.linalg.norm(z, axis=1), 2.0, rtol=1e-5)


def test_a_conditional_prior_draws_and_scores_classes():
    def generate(templates, z, labels):
        return templates[labels] + z[:, :1, None, None]

    def criticize(templates, x, labels):
        return -jnp.mean((x[:, :2, :2] - templates[labels][:, :2, :2]) ** 2, (1, 2, 3))

    templates = jnp.arange(3.0)[:, None, None, None] + jnp.zeros((3, *SHAPE))
    prior = Prior(templates, templates, generate, criticize, 2, SHAPE)
    labels, z = jnp.array([2, 0]), jnp.zeros((2, 2))
    images = prior.images(z, labels)
    np.testing.assert_array_equal(images[:, 0, 0, 0], [2, 0])
    np.testing.assert_array_equal(prior.score(images, labels), 0)
    np.testing.assert_array_equal(prior.score(images, labels[::-1]), -4)
    small = prior.resized(4, 4)
    assert small.images(z, labels).shape == (2, 4, 4, 1)
    np.testing.assert_allclose(
        small.score(small.images(z, labels), labels), 0, atol=1e-6
    )


def test_a_resized_prior_is_the_same_but_for_its_size(prior):
    height, width, channels = prior.shape
    images = prior.images(jnp.zeros((3, prior.latent_size)))
    small = prior.resized(height // 2, width // 2)
    drawn = small.images(jnp.zeros((3, prior.latent_size)))
    assert drawn.shape[1:] == small.shape == (height // 2, width // 2, channels)
    np.testing.assert_allclose(
        drawn, jax.image.resize(images, drawn.shape, "linear"), atol=1e-6
    )
    assert small.score(drawn).shape == (3,)
    same = prior.resized(height, width)
    np.testing.assert_array_equal(same.score(images), prior.score(images))
    assert hash(small.generate) == hash(prior.resized(height // 2, width // 2).generate)


class TestChoose:
    losses = jnp.array([[2.0, jnp.nan, 1.0], [-jnp.inf, 3.0, jnp.inf]])
    candidates = jnp.arange(6.0).reshape(2, 3, 1, 1, 1)

    def test_takes_the_least_finite_loss(self):
        found = choose(self.candidates, self.losses, self.losses[None])
        np.testing.assert_array_equal(found.x.ravel(), [2, 4])
        np.testing.assert_array_equal(found.loss, [1, 3])
        assert np.isnan(found.losses[0, 1])  # What failed is still told.
        assert found.queries.dtype == jnp.int32

    def test_all_failed(self):
        losses = jnp.full((2, 3), jnp.nan)
        found = choose(self.candidates, losses, losses[None], 5)
        assert np.all(np.isnan(found.loss)) and found.queries == 5


class TestPytree:
    def test_numbers_are_leaves_and_sizes_are_not(self):
        @pytree
        class Sized:
            rate: float
            size: int = static(default=3)

        assert jax.tree.leaves(Sized(0.5)) == [0.5]
        assert jax.tree.map(lambda x: 2 * x, Sized(0.5, 4)) == Sized(1.0, 4)
        with pytest.raises(AttributeError):
            Sized(0.5).rate = 1.0

    def test_concrete_numbers(self):
        seen = []
        jax.jit(lambda x: seen.append(concrete(x)))(1.0)
        assert seen == [None]
        assert concrete(jax.random.key(0)) is None
        assert concrete(jax.ShapeDtypeStruct((), jnp.float32)) is None
        assert concrete(None) is None
        np.testing.assert_array_equal(concrete(jnp.arange(3)), [0, 1, 2])
