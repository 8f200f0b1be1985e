"""L-BFGS against PyTorch's algorithm written again, SciPy, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from mijax import search

CURVATURES = jnp.array([[1.0, 4.0, 9.0], [0.5, 0.25, 30.0]])
CENTERS = jnp.array([[1.0, -2.0, 3.0], [0.1, 0.2, -0.3]])


def quadratics(x):
    return jnp.sum(CURVATURES * (x - CENTERS) ** 2, 1)


def rosenbrock(x):
    return (1 - x[..., 0]) ** 2 + 100 * (x[..., 1] - x[..., 0] ** 2) ** 2


def torch_lbfgs(function, x, steps, inner, history, rate=1.0):
    """`torch.optim.LBFGS.step`, called `steps` times; yields the loss before each."""
    slope = jax.grad(function)
    pairs, scale, before, step = [], 1.0, None, None
    for _ in range(steps):
        loss, gradient = function(x), slope(x)
        yield x, loss
        if np.abs(gradient).max() <= 1e-7:
            continue
        for i in range(inner):
            if before is not None:
                bend = gradient - before
                if bend @ step > 1e-10:
                    pairs = [*pairs, (step, bend)][-history:]
                    scale = (bend @ step) / (bend @ bend)
                direction, shares = -gradient, []
                for s, y in reversed(pairs):
                    shares.append((s @ direction) / (s @ y))
                    direction = direction - shares[-1] * y
                direction = scale * direction
                for s, y in pairs:
                    direction += (shares.pop() - (y @ direction) / (s @ y)) * s
                length = rate
            else:
                direction = -gradient
                length = min(1.0, 1.0 / np.abs(gradient).sum()) * rate
            before, loss_before = gradient, loss
            if gradient @ direction > -1e-9:
                break
            step = length * direction
            x = x + step
            loss, gradient = function(x), slope(x)
            if (
                i == inner - 1
                or np.abs(gradient).max() <= 1e-7
                or np.abs(step).max() <= 1e-9
                or abs(loss - loss_before) < 1e-9
            ):
                break
    yield x, function(x)


def minimized(objective, x, **options):
    slope = search.gradient_of(objective)
    return jax.jit(lambda x: search.lbfgs(slope, x, **options))(x)


def bowl(x):
    return jnp.cosh(x[..., 0]) + jnp.cosh(3 * x[..., 1])


# Rosenbrock's curvature is negative in places: pairs that are skipped there take a
# place in our history, so that only one which holds all of them is PyTorch's.
@pytest.mark.parametrize(("function", "history"), [(rosenbrock, 100), (bowl, 2)])
def test_takes_the_steps_that_pytorch_takes(function, history):
    x = jnp.array([[-1.2, 1.0], [0.0, 0.5], [1.1, 1.3]])
    options = {"steps": 5, "inner": 3, "history": history}
    with jax.enable_x64(True):
        x = x.astype(jnp.float64)
        found = minimized(function, x, **options, learning_rate=0.7)
        for i, start in enumerate(np.asarray(x)):
            steps = list(torch_lbfgs(function, start, *options.values(), 0.7))
            np.testing.assert_allclose(found.trace[i], [s[1] for s in steps], 1e-6)
            np.testing.assert_allclose(found.last[i], steps[-1][0], 1e-6)


def test_finds_the_minimum_of_quadratics_of_every_shape_of_tree():
    def objective(tree):
        x = jnp.concatenate([tree["a"][..., None], tree["b"]], -1)
        return quadratics(x.reshape(2, 3)).reshape(2, 1)

    start = {"a": jnp.zeros((2, 1)), "b": jnp.zeros((2, 1, 2))}
    found = minimized(objective, start, steps=4)
    np.testing.assert_allclose(found.best["a"], CENTERS[:, :1], atol=1e-4)
    np.testing.assert_allclose(found.best["b"][:, 0], CENTERS[:, 1:], atol=1e-4)
    assert found.loss.shape == (2, 1) and found.trace.shape == (2, 1, 5)


def test_ends_where_scipy_ends():
    start = jnp.array([[-1.2, 1.0]])
    found = minimized(rosenbrock, start, steps=10)
    expected = scipy.optimize.minimize(
        lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2,
        np.array([-1.2, 1.0]),
        method="L-BFGS-B",
    )
    np.testing.assert_allclose(found.best[0], expected.x, atol=1e-3)


def test_problems_do_not_see_one_another():
    both = minimized(quadratics, jnp.zeros((2, 3)), steps=2, inner=3)
    for i in range(2):
        alone = minimized(
            lambda x, i=i: quadratics(jnp.tile(x, (2, 1)))[i : i + 1],
            jnp.zeros((1, 3)),
            steps=2,
            inner=3,
        )
        np.testing.assert_allclose(alone.best[0], both.best[i], rtol=1e-5, atol=1e-6)


def test_a_problem_that_fails_is_reported_and_stops_no_other():
    def objective(x):
        broken = jnp.array([True, False])
        return jnp.where(broken, jnp.nan, quadratics(x))

    found = minimized(objective, jnp.zeros((2, 3)), steps=4)
    assert found.loss[0] == np.inf and np.all(np.isnan(found.trace[0]))
    np.testing.assert_allclose(found.best[1], CENTERS[1], atol=1e-4)


def test_a_problem_that_diverges_keeps_its_best():
    def steep(x):
        return jnp.exp(jnp.sum(jnp.abs(x - 1) ** 1.5, 1))

    start = jnp.full((1, 2), 3.0)
    found = minimized(steep, start, steps=3, learning_rate=1e6)
    assert not np.isfinite(found.trace[0, -1])
    np.testing.assert_allclose(found.loss, steep(start))
    np.testing.assert_array_equal(found.best, start)


def test_no_steps_and_bad_sizes():
    found = minimized(quadratics, jnp.zeros((2, 3)), steps=0)
    np.testing.assert_array_equal(found.best, 0)
    np.testing.assert_array_equal(found.trace[:, 0], found.loss)
    for options, message in [
        ({"steps": -1}, "steps is -1"),
        ({"steps": 1, "inner": 0}, "inner is 0"),
        ({"steps": 1, "history": 0}, "history 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            minimized(quadratics, jnp.zeros((2, 3)), **options)
