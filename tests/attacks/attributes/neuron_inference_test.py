"""Neurons that respond to a value give it away, and others do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax import audit
from mijax.attacks import neuron_inference
from mijax.core import Prediction, Target
from mijax.knowledge import Candidates, WhiteBoxRecord, validate

KNOWN, VICTIMS, WIDTH = 400, 300, 6


def network(params, x):
    """One layer; the last column of records is the sensitive field."""
    features = jnp.tanh(x @ params["hidden"])
    return Prediction(features @ params["out"], features)


def knowledge(proxy, seed=0, prior=(0.5, 0.5)):
    """Of records whose first column follows the field as `proxy` says."""
    random = np.random.default_rng(seed)
    value = random.integers(0, 2, KNOWN + VICTIMS)
    x = random.normal(size=(KNOWN + VICTIMS, WIDTH))
    x[:, 0] += proxy * (2 * value - 1)
    x[:, -1] = value
    params = {
        "hidden": jnp.asarray(random.normal(size=(WIDTH, 20)) / 3, jnp.float32),
        "out": jnp.asarray(random.normal(size=(20, 2)), jnp.float32),
    }
    x = jnp.asarray(x, jnp.float32)
    known = WhiteBoxRecord(
        Target.from_function(network, params, (WIDTH,)),
        x[KNOWN:].at[:, -1].set(0.0),
        Candidates.of(WIDTH - 1, [0.0, 1.0], prior),
        x[:KNOWN],
        jnp.asarray(value[:KNOWN], jnp.int32),
    )
    return validate(known), value[KNOWN:]


attack = jax.jit(neuron_inference.attack)


def test_neurons_that_follow_the_value_name_it():
    known, truth = knowledge(proxy=2.0)
    found = attack(jax.random.key(0), known, neuron_inference.Config())
    assert np.mean(found.guess == truth) > 0.9 and found.queries == 0
    surest = np.argsort(-found.log_posterior.max(1))[:50]
    assert np.mean(found.guess[surest] == truth[surest]) > 0.97


def test_neurons_that_follow_nothing_name_nothing():
    right = []
    for seed in range(4):
        known, truth = knowledge(proxy=0.0, seed=seed)
        found = attack(jax.random.key(0), known, neuron_inference.Config())
        right.append(np.mean(found.guess == truth))
    # Four times 300 coins: a standard error of .014.
    assert abs(np.mean(right) - 0.5) < 0.05


def test_the_score_is_the_weighted_mean_of_quantiles():
    random = np.random.default_rng(0)
    complete, victims = random.normal(size=(50, 4)), random.normal(size=(7, 4))
    has = random.integers(0, 2, 50).astype(bool)
    complete[:, 1] += 2 * has
    complete[:, 3] -= has
    correlation = np.array([np.corrcoef(complete[:, j], has)[0, 1] for j in range(4)])
    best, sign = np.argsort(-abs(correlation))[:2], np.sign(correlation)
    assert 1 in best and 3 in best and correlation[3] < 0 < correlation[1]
    quantile = np.stack(
        [(sign[j] * complete[:, j] < sign[j] * victims[:, [j]]).mean(1) for j in best],
        axis=1,
    )
    expected = np.average(quantile, weights=abs(correlation[best]), axis=1)
    found = neuron_inference.scores(
        jnp.asarray(complete), jnp.asarray(has), jnp.asarray(victims), 2
    )
    np.testing.assert_allclose(found, np.maximum(expected, 1e-6), rtol=1e-4, atol=1e-6)


def test_a_lone_neuron_that_falls_with_the_value_names_it():
    has = jnp.arange(40) % 2 == 0
    falls = jnp.where(has, -1.0, 1.0)[:, None] + jnp.linspace(0, 0.1, 40)[:, None]
    found = neuron_inference.scores(falls, has, jnp.array([[-1.0], [1.0]]), 10)
    assert found[0] > 0.9 and found[1] < 0.6


def test_constant_neurons_say_nothing():
    found = neuron_inference.scores(
        jnp.ones((9, 3)), jnp.arange(9) < 4, jnp.ones((5, 3)), 10
    )
    np.testing.assert_allclose(found, 0.5)


def test_the_prior_is_multiplied():
    known, _ = knowledge(proxy=0.0, prior=(0.99, 0.01))
    found = attack(jax.random.key(0), known, neuron_inference.Config())
    np.testing.assert_array_equal(found.guess, 0)


@pytest.mark.parametrize("proxy", [True, False])
def test_an_audit_of_a_network_reads_its_neurons(proxy):
    """The model's label ignores the field; two neurons hold what it knows of it."""
    random = np.random.default_rng(0)
    size = 600
    value = random.integers(0, 2, size)
    code = random.uniform(size=size)
    # The field is the parity of a digit that no imputation of a few hundred rows reads.
    value = (np.floor(code * 64) % 2).astype(int) if proxy else value
    frame = {
        "code": code,
        "other": random.normal(size=size),
        "field": value,
        "outcome": random.integers(0, 2, size),
        "trained": np.repeat([1, 0], size // 2),
    }

    def reads(params, x):
        odd = jnp.floor(x[:, :1] * 64) % 2
        neuron = jnp.concatenate([odd, 1 - odd], 1)
        logits = jnp.concatenate([x[:, 1:2], 0.01 * x[:, 2:3]], 1)
        return Prediction(logits, jnp.concatenate([neuron, params * x], 1))

    target = Target.from_function(reads, jnp.ones(()), (3,))
    report = audit.table(
        target,
        frame,
        sensitive="field",
        target="outcome",
        members="trained",
        knows="outcome",
        categorical="field",
        groups=(),
    )
    neurons = next(a for a in report.fields[0].attacks if a.name == "neurons")
    if proxy:
        assert neurons.others.precision_at_100 > 0.9
        assert neurons.adds and "holds the network's weights" in report.verdicts[0]
    else:
        assert not neurons.adds and not neurons.remembers
