"""Defenses that are trainings: private regressions, MID, feature priority."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.tree import DecisionTreeClassifier

from mijax.defenses.output_noise import output_noise
from mijax.defenses.trainers.feature_priority import feature_priority
from mijax.defenses.trainers.functional_mechanism import functional_mechanism, perturbed
from mijax.defenses.trainers.mid_linear import information, mid_linear
from mijax.defenses.trainers.mid_tree import information as told
from mijax.defenses.trainers.mid_tree import mid_tree
from mijax.defenses.trainers.objective_perturbation import objective_perturbation
from mijax.defenses.trainers.private_histogram import private_histogram, sample
from mijax.defenses.trainers.public_range import PublicRange
from mijax.models import cart
from mijax.models.linear import logistic, predict, ridge, target

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def regression():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 5, (400, 3)).astype(np.float32)
    y = (x @ [0.5, -1, 0.2] + 3 + rng.normal(0, 0.1, 400)).astype(np.float32)
    low, high = jnp.full(3, -2.0), jnp.full(3, 5.0)
    return jnp.asarray(x), jnp.asarray(y), PublicRange(low, high, -4.0, 8.0)


@pytest.fixture(scope="module")
def classes():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 5)).astype(np.float32)
    x[:, 4] = rng.integers(0, 2, 600)
    y = (x[:, 0] + x[:, 1] * x[:, 4] + rng.normal(0, 0.5, 600) > 0).astype(np.int32)
    return x, y


def test_scaled_records_lie_in_the_unit_ball_and_models_come_back(regression):
    x, y, public = regression
    rows, aims = public.records(x), public.outcomes(y)
    assert float(jnp.linalg.norm(rows, axis=1).max()) <= 1 + 1e-6
    assert float(jnp.abs(aims).max()) <= 1
    weights = jnp.array([0.3, -0.2, 0.5, 0.1])
    np.testing.assert_allclose(
        2 * (predict(public.linear(weights), x)[:, 0] + 4) / 12 - 1,
        rows @ weights,
        atol=1e-5,
    )


def test_ridge_and_logistic_regression_meet_their_conditions(regression, classes):
    x, y, _ = regression
    fitted = ridge(x, y, 0.3)
    error = predict(fitted, x)[:, 0] - y
    slope = 2 * jnp.mean(error[:, None] * x, 0) + 0.6 * fitted.weights[:, 0]
    np.testing.assert_allclose(slope, 0, atol=1e-3)
    np.testing.assert_allclose(jnp.mean(error), 0, atol=1e-4)
    x, labels = classes
    fitted = logistic(jnp.asarray(x), jnp.asarray(labels), 2, 0.01)
    residual = jax.nn.softmax(predict(fitted, x)) - jax.nn.one_hot(labels, 2)
    slope = x.T @ residual / len(x) + 0.01 * fitted.weights
    np.testing.assert_allclose(slope, 0, atol=2e-3)
    np.testing.assert_allclose(
        target(fitted).predict(jnp.asarray(x)).logits, predict(fitted, x), rtol=1e-6
    )


@pytest.mark.parametrize("mechanism", [functional_mechanism, objective_perturbation])
def test_without_privacy_a_private_regression_is_least_squares(regression, mechanism):
    x, y, public = regression
    private = mechanism(KEY, x, y, 1e9, public)
    np.testing.assert_allclose(predict(private, x), predict(ridge(x, y), x), atol=2e-2)
    with pytest.raises(ValueError, match="epsilon is 0"):
        mechanism(KEY, x, y, 0, public)


@pytest.mark.parametrize("mechanism", [functional_mechanism, objective_perturbation])
def test_more_privacy_costs_more_error(regression, mechanism):
    x, y, public = regression

    def error(key, epsilon):
        private = mechanism(key, x, y, epsilon, public)
        return jnp.mean(jnp.abs(predict(private, x)[:, 0] - y))

    keys = jax.random.split(KEY, 32)
    sweep = jax.jit(jax.vmap(jax.vmap(error, (0, None)), (None, 0)))
    errors = np.mean(sweep(keys, jnp.array([0.1, 10.0, 1e5])), 1)
    assert errors[0] > 1.2 * errors[1] > 1.4 * errors[2]
    assert errors[2] < 0.15


def test_the_functional_mechanism_adds_the_noise_that_it_says():
    rows, aims = jnp.zeros((2, 3)), jnp.zeros(2)
    keys = jax.random.split(KEY, 500)
    square, line = jax.vmap(lambda key: perturbed(key, rows, aims, 2.0))(keys)
    scale = 2 * 4**2 / 2
    np.testing.assert_array_equal(square, square.swapaxes(1, 2))
    ridge_added = 4 * np.sqrt(2) * scale
    samples = {
        "line": np.asarray(line).ravel(),
        "off the diagonal": np.asarray(square[:, 0, 1:]).ravel(),
        "diagonal": np.asarray(jax.vmap(jnp.diag)(square)).ravel() - ridge_added,
    }
    for name, values in samples.items():
        right = stats.kstest(values, stats.laplace(scale=scale).cdf).pvalue
        wrong = stats.kstest(values, stats.laplace(scale=1.3 * scale).cdf).pvalue
        assert right > 0.01 > wrong, name


def test_objective_perturbation_is_the_minimum_in_the_ball(regression):
    x, y, public = regression
    rows, aims = public.records(x), public.outcomes(y)
    tight = objective_perturbation(KEY, x, y, 1e9, public, radius=0.5)
    half = (8.0 + 4.0) / 2
    weights = tight.weights[:, 0] * 7 * 2 / half
    bias = (predict(tight, public.low[None])[0, 0] + 4) / half - 1
    weights = jnp.append(weights, bias * 2)
    np.testing.assert_allclose(jnp.linalg.norm(weights), 0.5, atol=1e-3)
    slope = rows.T @ (rows @ weights - aims)
    cosine = slope @ weights / jnp.linalg.norm(slope) / jnp.linalg.norm(weights)
    np.testing.assert_allclose(cosine, -1, atol=1e-3)  # the ball alone holds it back


def test_a_histogram_counts_with_noise_of_one_over_epsilon():
    codes = jnp.array([[0, 1], [0, 1], [1, 2]])
    exact = private_histogram(KEY, codes, (2, 3), 1e9)
    np.testing.assert_allclose(exact, [[0, 2, 0], [0, 0, 1]], atol=1e-6)
    drawn = sample(KEY, exact, 3000)
    assert set(map(tuple, drawn.tolist())) == {(0, 1), (1, 2)}
    assert float(jnp.mean(drawn[:, 0] == 0)) == pytest.approx(2 / 3, abs=0.04)
    many = jnp.tile(codes, (100, 1))
    keys = jax.random.split(KEY, 2000)
    noisy = jax.vmap(lambda key: private_histogram(key, many, (2, 3), 0.5, 0.0))(keys)
    noise = np.asarray(noisy[:, 0, 1]) - 200
    assert stats.kstest(noise, stats.laplace(scale=2).cdf).pvalue > 0.01
    assert stats.kstest(noise, stats.laplace(scale=2.6).cdf).pvalue < 0.01
    empty = jax.vmap(lambda key: private_histogram(key, many, (2, 3), 0.5))(keys)
    passed = jnp.mean(empty[:, 0, 0] > 0)
    assert float(passed) == pytest.approx(1 / 12, abs=0.03)


def test_a_histogram_refuses_what_does_not_fit():
    codes = jnp.array([[0, 3]])
    with pytest.raises(ValueError, match="Codes must lie"):
        private_histogram(KEY, codes, (2, 3), 1.0)
    with pytest.raises(ValueError, match="project onto fewer"):
        private_histogram(KEY, codes, (10**4, 10**4), 1.0)


def test_information_of_a_prediction_has_its_closed_forms():
    far = jnp.repeat(jnp.array([0.0, 1e3]), 50)
    np.testing.assert_allclose(information(far, 1.0), np.log(2), atol=1e-5)
    np.testing.assert_allclose(information(jnp.ones(100), 1.0), 0, atol=1e-5)
    spread = 10 * jax.random.normal(KEY, (2000,))
    normal = 0.5 * np.log(1 + 100)
    np.testing.assert_allclose(information(spread, 1.0), normal, atol=0.05)


def test_mid_linear_tells_less_for_a_larger_weight(regression):
    x, y, _ = regression
    fit = jax.jit(functools.partial(mid_linear, centers=200, steps=20))
    fits = [fit(x, y, weight, 0.5) for weight in (0.0, 1.0, 5.0)]
    plain = predict(fits[0].model, x)
    np.testing.assert_allclose(plain, predict(ridge(x, y), x), atol=1e-3)
    told_by = [float(fit.information) for fit in fits]
    errors = [float(jnp.mean((predict(f.model, x)[:, 0] - y) ** 2)) for f in fits]
    assert told_by[0] > told_by[1] + 0.05 > told_by[2] + 0.1
    assert errors[0] < errors[1] < errors[2]
    with pytest.raises(ValueError, match="weight is -1"):
        mid_linear(x, y, -1, 0.5)


def test_a_released_prediction_keeps_its_noise():
    release = output_noise(KEY, 0.5).output
    asked = jnp.linspace(0, 1, 4000)[:, None]
    once, twice = release(asked), release(asked[::-1])[::-1]
    np.testing.assert_array_equal(once, twice)
    assert stats.kstest((once - asked)[:, 0], stats.norm(scale=0.5).cdf).pvalue > 0.01
    with pytest.raises(ValueError, match="deviation is 0"):
        output_noise(KEY, 0.0)


@pytest.mark.parametrize("impurity", ["gini", "entropy"])
@pytest.mark.parametrize("depth", [1, 4, 30])
def test_cart_grows_the_tree_that_scikit_learn_grows(classes, impurity, depth):
    x, y = classes
    grown = cart.grow(x, y, 2, max_depth=depth, impurity=getattr(cart, impurity))
    model = DecisionTreeClassifier(criterion=impurity, max_depth=depth).fit(x, y)
    ours = np.exp(grown.target.predict(jnp.asarray(x)).logits)
    np.testing.assert_allclose(ours, model.predict_proba(x), atol=1e-6)
    low, high = np.asarray(grown.paths.low), np.asarray(grown.paths.high)
    inside = (x[:, None] > low) & (x[:, None] <= high)
    member = inside.all(2)
    np.testing.assert_array_equal(member.sum(1), 1)
    counts = member.T.astype(int) @ np.eye(2)[y]
    np.testing.assert_array_equal(counts, grown.paths.counts)


def test_feature_priority_gives_the_field_one_place(classes):
    x, y = classes
    fields = {}
    for priority in (1, 3, None):
        grown = feature_priority(x, y, 2, [4], priority, max_depth=4)
        trees = jax.tree.map(lambda a: np.asarray(a[0]), grown.target.params)
        depth = np.zeros(len(trees.feature), int)
        for node, (left, right) in enumerate(trees.children):
            depth[[left, right]] = np.where(
                [left == node] * 2, depth[node], depth[node] + 1
            )
        splits = trees.children[:, 0] != np.arange(len(depth))
        fields[priority] = set(depth[splits & (trees.feature == 4)])
    assert fields == {1: {0}, 3: {2}, None: set()}
    with pytest.raises(ValueError, match="priority is 5"):
        feature_priority(x, y, 2, [4], 5, max_depth=4)
    with pytest.raises(ValueError, match="Sensitive columns are"):
        feature_priority(x, y, 2, [7], 1, max_depth=4)


def test_mid_trees_tell_less_and_at_weight_one_nothing(classes):
    x, y = classes
    grown = [mid_tree(x, y, 2, weight, max_depth=8) for weight in (0, 0.05, 0.2, 1.0)]
    informations = [float(told(tree.paths)) for tree in grown]
    assert informations == sorted(informations, reverse=True)
    assert informations[0] > informations[2] > informations[3] == 0
    free = cart.grow(x, y, 2, max_depth=8, impurity=cart.entropy)
    np.testing.assert_allclose(informations[0], float(told(free.paths)))
    with pytest.raises(ValueError, match="weight is -1"):
        mid_tree(x, y, 2, -1, 3)
