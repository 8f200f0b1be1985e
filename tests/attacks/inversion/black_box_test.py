"""What every attack on a black box promises: opaque, and each query counted."""

import dataclasses

import contract_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from sklearn.linear_model import LogisticRegression

from mijax.knowledge import Labels, Scores

CASES = [
    pytest.param(case, id=case.name)
    for case in contract_cases.CASES
    if case.kind in contract_cases.BLACK_BOXES
]


@pytest.fixture(scope="module")
def model():
    """Any model of anyone's, here scikit-learn's, that counts what it is asked."""
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    templates = rng.uniform(size=(3, 64))
    images = np.clip(templates[labels] + rng.normal(0, 0.1, (30, 64)), 0, 1)
    fitted = LogisticRegression().fit(images.astype(np.float32), labels)
    counter = []

    def predict(x):
        counter.append(len(x))
        return fitted.predict_proba(x.reshape(len(x), -1))

    return predict, counter


@pytest.mark.parametrize("case", CASES)
def test_queries_are_counted_exactly(case, model):
    predict, counter = model
    attack = jax.jit(case.attack.attack)
    answer = predict if case.kind is Scores else lambda x: predict(x).argmax(1)

    def make(**budget):
        box = case.kind.from_callable(
            answer, jnp.array([0, 2]), tiny.SHAPE, 3, prior=tiny.prior(), **budget
        )
        if case.kind is Labels:
            return box
        return dataclasses.replace(
            box,
            observed=jnp.eye(3)[jnp.array([0, 2])],
            public=jnp.linspace(0, 1, 320).reshape(5, *tiny.SHAPE),
        )

    counter.clear()
    found = attack(jax.random.key(0), make(), case.config)
    assert int(found.queries) == sum(counter) > 0
    exact = make(budget=int(found.queries))
    again = attack(jax.random.key(0), exact, case.config)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        again,
        found,
    )
    counter.clear()
    short = make(budget=int(found.queries) - 1)
    with pytest.raises(Exception, match="query budget is"):
        jax.block_until_ready(attack(jax.random.key(0), short, case.config))
    assert sum(counter) < found.queries  # The one too many was not asked.


@pytest.mark.parametrize("case", CASES)
def test_a_black_box_cannot_be_differentiated(case):
    def loss(x, knowledge):
        answer, _ = knowledge.query(x)
        return jnp.sum(answer * 1.0)

    knowledge = case.knowing(0, lambda function: function)
    with pytest.raises(TypeError, match="black box"):
        jax.make_jaxpr(jax.grad(loss))(jnp.zeros((1, *tiny.SHAPE)), knowledge)
