"""Linear models beside scikit-learn's."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from mijax.models import linear


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5, 0.0, 1.0] + rng.normal(0, 0.5, 200) + 3).astype(
        np.float32
    )
    return x, y


@pytest.mark.parametrize("penalty", [0.0, 0.01, 1.0])
def test_ridge(data, penalty):
    x, y = data
    found = linear.ridge(jnp.asarray(x), jnp.asarray(y), penalty)
    expected = Ridge(penalty * len(x)).fit(x.astype(np.float64), y)
    np.testing.assert_allclose(found.weights[:, 0], expected.coef_, atol=1e-4)
    np.testing.assert_allclose(found.bias, [expected.intercept_], atol=1e-4)


def test_collinear_columns_share_the_weight(data):
    x, y = data
    twice = np.concatenate([x, x[:, :1]], 1)
    found = linear.ridge(jnp.asarray(twice), jnp.asarray(y)).weights[:, 0]
    np.testing.assert_allclose(found[0], found[5], atol=1e-4)
    np.testing.assert_allclose(found[0] + found[5], 1, atol=0.1)


def test_logistic(data):
    x, y = data
    labels = np.digitize(y, [2.0, 4.0]).astype(np.int32)
    found = linear.logistic(jnp.asarray(x), jnp.asarray(labels), 3, 0.01)
    expected = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-8).fit(x, labels)
    logits = linear.target(found).predict(jnp.asarray(x)).logits
    shares = np.exp(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
    np.testing.assert_allclose(shares, expected.predict_proba(x), atol=2e-3)
