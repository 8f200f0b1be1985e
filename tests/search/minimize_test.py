"""The engines against closed forms: what they return is what they found."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mijax import search

KEY = jax.random.key(0)
CENTERS = jnp.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])


def sphere(x):
    return jnp.sum((x - CENTERS) ** 2, -1)


def descend(objective, x, optimizer=None, **options):
    """Compiled, as an attack would run it."""
    optimizer = optimizer or optax.sgd(0.1)
    return jax.jit(
        lambda x: search.descend(search.gradient_of(objective), x, optimizer, **options)
    )(x)


class TestDescend:
    def test_a_quadratic_in_closed_form(self):
        x = jnp.zeros((2, 3))
        found = descend(sphere, x, steps=20)
        shrunk = 0.8 ** np.arange(21)[None]
        np.testing.assert_allclose(
            found.trace, shrunk**2 * np.sum(CENTERS**2, -1)[:, None], rtol=1e-4
        )
        np.testing.assert_allclose(found.best, CENTERS * (1 - shrunk[0, -1]), rtol=1e-5)
        np.testing.assert_array_equal(found.best, found.last)

    def test_the_best_iterate_carries_its_own_loss(self):
        def rugged(x):
            return jnp.sum(x**2 + 2 * jnp.sin(9 * x), -1) + 0.1 * jnp.cos(40 * x[:, 0])

        x = jax.random.normal(KEY, (5, 3))
        found = descend(rugged, x, optax.sgd(0.05, 0.9), steps=50)
        np.testing.assert_array_equal(found.loss, found.trace.min(1))
        np.testing.assert_allclose(found.loss, rugged(found.best), rtol=1e-5)
        assert np.any(found.trace[:, -1] > found.loss)  # The last one is not the best.

    def test_a_planted_nan_cannot_win(self):
        def broken(x):
            losses = sphere(x)
            return jnp.where(losses < 1.0, jnp.nan, losses)

        found = descend(broken, jnp.zeros((2, 3)), steps=30)
        assert np.all(np.isnan(found.trace[:, -1]))
        np.testing.assert_array_equal(found.loss, np.nanmin(found.trace, 1))
        np.testing.assert_allclose(sphere(found.best), found.loss, rtol=1e-5)

    @pytest.mark.parametrize("bad", [jnp.nan, -jnp.inf, jnp.inf])
    def test_nothing_finite_wins_nothing(self, bad):
        x = jnp.ones((2, 3))
        found = descend(lambda x: sphere(x) * 0 + bad, x, steps=2)
        np.testing.assert_array_equal(found.best, x)
        np.testing.assert_array_equal(found.loss, np.inf)

    def test_problems_are_independent(self):
        def broken(x):
            return sphere(x) + jnp.array([jnp.nan, 0.0])

        found = descend(broken, jnp.zeros((2, 3)), steps=5)
        alone = descend(sphere, jnp.zeros((2, 3)), steps=5)
        np.testing.assert_allclose(found.best[1], alone.best[1], rtol=1e-6)

    def test_the_projection_holds_after_every_step(self):
        seen = []

        def watched(x):
            jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
            return sphere(x)

        found = descend(
            watched,
            jnp.zeros((2, 3)),
            steps=60,
            project=lambda x: jnp.clip(x, -0.5, 0.75),
        )
        jax.effects_barrier()
        assert len(seen) == 61
        assert np.min(seen) >= -0.5 and np.max(seen) <= 0.75
        np.testing.assert_allclose(found.best, np.clip(CENTERS, -0.5, 0.75), atol=1e-3)

    def test_no_steps(self):
        x = jnp.ones((2, 3))
        found = descend(sphere, x, steps=0)
        np.testing.assert_array_equal(found.best, x)
        np.testing.assert_allclose(found.trace, sphere(x)[:, None], rtol=1e-6)

    def test_negative_steps(self):
        with pytest.raises(ValueError, match="steps is -1"):
            descend(sphere, jnp.zeros((2, 3)), steps=-1)

    def test_trees_and_any_optimizer(self):
        def objective(x):
            return jnp.sum(x["a"] ** 2, -1) + (x["b"] - 2) ** 2

        x = {"a": jnp.ones((4, 3)), "b": jnp.zeros(4)}
        found = descend(objective, x, optax.adam(0.1), steps=200)
        np.testing.assert_allclose(found.best["a"], 0, atol=1e-2)
        np.testing.assert_allclose(found.best["b"], 2, atol=1e-2)

    def test_a_stochastic_objective_draws_per_iteration_and_per_victim(self):
        def noisy(keys, x):
            return jax.vmap(jax.random.normal)(keys) + 0 * x[:, 0]

        keys = jax.random.split(KEY, 2)
        found = descend(noisy, CENTERS, steps=9, keys=keys)
        assert found.trace.shape == (2, 10) and len(np.unique(found.trace)) == 20
        alone = descend(noisy, CENTERS[1:], steps=9, keys=keys[1:])
        np.testing.assert_allclose(alone.trace[0], found.trace[1], rtol=1e-6)
        with pytest.raises(ValueError, match="one per victim"):
            descend(noisy, CENTERS, steps=9, keys=KEY)

    def test_a_noisy_gradient_still_finds_the_mean_minimum(self):
        def jittered(keys, x):
            shifts = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
            return jnp.sum((x - CENTERS - shifts) ** 2, -1)

        keys = jax.random.split(KEY, 2)
        decay = optax.sgd(optax.polynomial_schedule(0.5, 0.0, 1, 2000))
        found = descend(jittered, 0 * CENTERS, decay, steps=2000, keys=keys)
        np.testing.assert_allclose(found.last, CENTERS, atol=0.3)

    def test_memory_does_not_grow_with_the_iterations(self):
        problems, dimensions = 8, 500

        def bytes_of(steps):
            def run(x):
                slope = search.gradient_of(lambda x: jnp.sum(x**2, -1))
                return search.descend(slope, x, optax.sgd(0.1), steps=steps)

            x = jax.ShapeDtypeStruct((problems, dimensions), jnp.float32)
            memory = jax.jit(run).lower(x).compile().memory_analysis()
            if memory is None:
                pytest.skip("this backend does not tell its memory")
            return memory.temp_size_in_bytes + memory.output_size_in_bytes

        more = 1000
        grown = (bytes_of(100 + more) - bytes_of(100)) / more
        trace, index = 4 * problems, 4
        assert grown <= 4 * trace + 4 * index < 4 * problems * dimensions / 100


class TestCentralDifferences:
    @pytest.mark.parametrize("dimensions", [3, 256, 300])
    def test_against_the_analytic_gradient(self, dimensions):
        weights = jax.random.normal(KEY, (dimensions,))

        def objective(x, asked):
            return jnp.sum(jnp.sin(x) * weights[None], -1), asked + len(x)

        x = jax.random.normal(jax.random.key(1), (2, dimensions))
        slope = jax.jit(search.central_differences(objective, 0.01))
        losses, gradients, asked = slope(x, 0)
        np.testing.assert_allclose(losses, objective(x, 0)[0], rtol=1e-5)
        np.testing.assert_allclose(gradients, jnp.cos(x) * weights[None], atol=5e-3)
        assert asked == 2 * (2 * dimensions + 1)

    def test_exact_for_a_quadratic_at_any_distance(self):
        slope = search.central_differences(
            lambda x, none: (jnp.sum(x**2, -1), none), 0.5
        )
        x = jnp.array([[1.0, -2.0], [0.25, 4.0]])
        np.testing.assert_allclose(slope(x, None)[1], 2 * x, rtol=1e-6)


def evolve(objective, x, strategy=None, **options):
    strategy = strategy or search.elite_gaussian(32, 6, 1.0)
    keys = jax.random.split(KEY, len(x))
    return jax.jit(lambda x: search.evolve(keys, objective, x, strategy, **options))(x)


def spheres(x, asked):
    centers = jnp.repeat(CENTERS, len(x) // 2, 0)
    return jnp.sum((x - centers) ** 2, -1), asked + len(x)


class TestEvolve:
    def test_finds_the_minimum_of_a_sphere(self):
        found = evolve(spheres, jnp.zeros((2, 3)), generations=60, aux=0)
        np.testing.assert_allclose(found.best, CENTERS, atol=0.05)
        np.testing.assert_allclose(spheres(found.best, 0)[0], found.loss, rtol=1e-4)
        np.testing.assert_array_equal(found.loss, found.trace.min(1))
        assert found.trace.shape == (2, 60) and found.aux == 60 * 2 * 32

    @pytest.mark.parametrize("bad", [jnp.nan, -jnp.inf, jnp.inf])
    def test_failed_evaluations_cannot_win(self, bad):
        def broken(x, asked):
            losses, asked = spheres(x, asked)
            return jnp.where(x[:, 0] > 0.5, bad, losses), asked

        found = evolve(broken, jnp.zeros((2, 3)), generations=60, aux=0)
        assert np.all(np.isfinite(found.loss)) and np.all(found.best[:, 0] <= 0.5)
        nearest = jnp.minimum(CENTERS, jnp.array([[0.5, 9.0, 9.0]]))
        np.testing.assert_allclose(found.best, nearest, atol=0.1)

    def test_all_failed(self):
        found = evolve(
            lambda x, none: (jnp.full(len(x), jnp.nan), none),
            jnp.ones((2, 3)),
            generations=3,
        )
        np.testing.assert_array_equal(found.best, 1.0)
        np.testing.assert_array_equal(found.loss, np.inf)

    def test_bad_sizes(self):
        with pytest.raises(ValueError, match="generations is 0"):
            evolve(spheres, jnp.zeros((2, 3)), generations=0)
        with pytest.raises(ValueError, match="elite is 9"):
            search.elite_gaussian(8, 9, 1.0)
