"""Trees as arrays take the paths that they take in scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mijax.models import trees

predict = jax.jit(lambda target, x: target.predict(x).logits)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(400, 5)), 1).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0) + 2 * (x[:, 2] > 0.5)
    return x, y.astype(np.int32)


@pytest.mark.parametrize("depth", [1, 3, None])
def test_a_tree_of_classes(data, depth):
    x, y = data
    model = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(x, y)
    target = trees.from_sklearn(model)
    other = np.random.default_rng(1).normal(size=(1000, 5)).astype(np.float32)
    for rows in (x, other):
        logits = np.asarray(predict(target, jnp.asarray(rows)))
        np.testing.assert_array_equal(logits.argmax(1), model.predict(rows))
        expected = model.predict_proba(rows)
        np.testing.assert_allclose(np.exp(logits), expected, atol=1e-6)


def test_thresholds_that_no_float32_is(data):
    """Features next to a threshold, on both sides, go where scikit-learn sends them."""
    x, y = data
    model = DecisionTreeClassifier(random_state=0).fit(x, y)
    inner = model.tree_.feature >= 0
    near = model.tree_.threshold[inner].astype(np.float32)
    sides = [
        near,
        np.nextafter(near, np.float32(9)),
        np.nextafter(near, np.float32(-9)),
    ]
    rows = np.repeat(np.concatenate(sides)[:, None], 5, 1)
    logits = predict(trees.from_sklearn(model), jnp.asarray(rows))
    np.testing.assert_array_equal(logits.argmax(1), model.predict(rows))


def test_a_forest_of_classes(data):
    x, y = data
    model = RandomForestClassifier(20, max_depth=6, random_state=0).fit(x, y)
    logits = np.asarray(predict(trees.from_sklearn(model), jnp.asarray(x)))
    expected = model.predict_proba(x)
    np.testing.assert_allclose(np.exp(logits), expected, atol=2e-6)
    np.testing.assert_array_equal(logits.argmax(1), model.predict(x))


@pytest.mark.parametrize(
    "model", [DecisionTreeRegressor(random_state=0), ExtraTreesRegressor(5)]
)
def test_regressors(data, model):
    x, y = data
    model.fit(x, y + x[:, 0])
    found = predict(trees.from_sklearn(model), jnp.asarray(x))
    np.testing.assert_allclose(found[:, 0], model.predict(x), rtol=1e-5, atol=1e-6)


def test_paths_hold_who_took_them(data):
    x, y = data
    model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(x, y)
    paths = trees.paths(model)
    low, high = np.asarray(paths.low), np.asarray(paths.high)
    takes = ((x[:, None] > low) & (x[:, None] <= high)).all(-1)
    np.testing.assert_array_equal(takes.sum(1), 1)
    counts = takes.T.astype(int) @ np.eye(4, dtype=int)[y]
    np.testing.assert_allclose(paths.counts, counts, atol=1e-3)


def test_what_has_no_form_in_arrays_is_refused(data):
    x, y = data
    with pytest.raises(ValueError, match="as a black box"):
        trees.from_sklearn(GradientBoostingClassifier())
    with pytest.raises(ValueError, match="not fitted"):
        trees.from_sklearn(DecisionTreeClassifier())
    with pytest.raises(ValueError, match="predicts 2 things"):
        trees.from_sklearn(DecisionTreeRegressor().fit(x, np.stack([y, y], 1)))
    with pytest.raises(ValueError, match="DecisionTreeClassifier"):
        trees.paths(DecisionTreeRegressor().fit(x, y))
