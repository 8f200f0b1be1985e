"""Properties of batches in updates: planted, shuffled, aggregated; words exactly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mijax import federation
from mijax.attacks import feature_leakage
from mijax.attacks.federated.feature_leakage import Config, magnitudes, touched_rows
from mijax.core import Prediction, Target
from mijax.federation import Clients, Federation, Recipe, client_update
from mijax.knowledge import FederationSeat
from mijax.metrics.attributes import macro_auc
from mijax.models.mlp import MLP

SHAPE, ROUNDS, BATCH = (4, 4, 1), 40, 8
RUN = jax.jit(feature_leakage.attack)
WATCH = jax.jit(feature_leakage.watch)
CONFIG = Config(rounds=ROUNDS, batches=4, steps=300)


def examples(rng, number):
    """Class: the left or the right is bright. Property: the first row is, too."""
    labels, has = rng.integers(0, 2, number), rng.integers(0, 2, number).astype(bool)
    x = rng.uniform(0, 0.3, (number, *SHAPE))
    for row in range(number):
        x[row, 1:, 2 * labels[row] : 2 * labels[row] + 2] += 0.6
        x[row, :1] += 0.6 * has[row]
    return x.astype(np.float32), labels, has


def seat():
    """One client, whose batches of every fourth round have the property."""
    rng = np.random.default_rng(0)
    x, labels, has = examples(rng, 200)
    rows = np.stack(
        [rng.choice(np.flatnonzero(has == (t % 4 == 0)), BATCH) for t in range(ROUNDS)]
    )
    clients = dataclasses.replace(
        Clients.of([(x, labels)]), rows=jnp.asarray(rows[:, None])
    )
    module = MLP(2, (12,), nn.relu)
    variables = module.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    target = Target.from_linen(module, variables, SHAPE)
    world = Federation.of(Recipe(learning_rate=0.1), target, clients, batch_size=BATCH)
    own_x, own_labels, own_has = examples(rng, 100)
    return FederationSeat.of(
        jax.random.key(1),
        world,
        jnp.asarray(own_x),
        jnp.asarray(own_labels),
        has_property=jnp.asarray(own_has),
    )


def test_it_tells_when_a_property_appears_and_not_where_it_is_shuffled():
    truth = (np.arange(ROUNDS) % 4 == 0).astype(int)
    known = seat()
    found = RUN(jax.random.key(2), known, CONFIG)
    assert macro_auc(np.exp(found.log_posterior), truth) > 0.95
    shuffled = jax.random.permutation(
        jax.random.key(5), jnp.asarray(known.has_property)
    )
    null = dataclasses.replace(known, has_property=shuffled)
    found = RUN(jax.random.key(2), null, CONFIG)
    assert 0.2 < macro_auc(np.exp(found.log_posterior), truth) < 0.8


def test_magnitudes_read_kernels_and_no_biases():
    change = {
        "kernel": jnp.array([[1.0, -2.0]]),
        "bias": jnp.array([9.0]),
        "convolution": jnp.array([[[[1.0]]], [[[-3.0]]]]),
        "wide": jnp.zeros((3_000, 2)).at[7, 1].set(-4.0),
    }
    found = np.sort(magnitudes(seat().target, change)) * np.sqrt(30)
    np.testing.assert_allclose(found, [0, 1, 2, 3, 4], rtol=1e-5)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.slow
def test_what_the_active_adversary_shared_is_subtracted(steps):
    """The others' mean is what it is without the adversary."""
    recipe = Recipe(learning_rate=0.1, local_steps=steps)
    known = seat()
    known = dataclasses.replace(
        known, _world=dataclasses.replace(known._world, recipe=recipe)
    )
    own = jax.tree.map(jnp.ones_like, known.target.trained)
    alone, beside = (
        feature_leakage._mean_update(
            recipe,
            jax.tree.map(
                jnp.subtract, known.act(each).target.trained, known.target.trained
            ),
        )
        for each in (None, own)
    )
    found = feature_leakage._without(own, beside, clients=1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, alone)
    clients = known._world.clients
    first = clients.rows[0, 0]
    x, labels = clients.x[0], clients.labels[0]
    shared = client_update(recipe, known.target, x[first], labels[first]).change
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, shared
    )


def test_the_active_adversary_teaches_the_model_the_property():
    known, config = seat(), dataclasses.replace(CONFIG, rounds=150)
    passive, _ = WATCH(jax.random.key(2), known, config)
    active = dataclasses.replace(config, active=True)
    taught, observed = WATCH(jax.random.key(2), known, active)
    has = np.asarray(known.has_property)
    apart = {}
    for name, after in (("passive", passive), ("active", taught)):
        features = np.asarray(after.target.predict(known.x).features)
        away = features[has].mean(0) - features[~has].mean(0)
        apart[name] = np.linalg.norm(away) / features.std()
    assert apart["active"] > 1.2 * apart["passive"]
    assert np.all(np.isfinite(observed.seen))


def test_a_share_that_rounds_to_no_example_is_refused():
    config = dataclasses.replace(CONFIG, mixtures=(0.5, 0.05))
    with pytest.raises(ValueError, match=r"batch of 8, a share of 0.05 rounds to no"):
        feature_leakage.attack(jax.random.key(0), seat(), config)


def bag(weights, tokens):
    """A bag of embeddings and a linear classifier of it; token 0 pads."""
    tokens = tokens.reshape(len(tokens), -1).astype(int)
    one_hot = jax.nn.one_hot(tokens, 50)[..., 1:]
    return Prediction(jnp.sum(one_hot @ weights["embedding"][1:], 1) @ weights["out"])


def test_the_words_of_a_batch_are_the_rows_that_are_touched():
    rng = np.random.default_rng(0)
    weights = {
        "embedding": jnp.asarray(rng.normal(size=(50, 4)), jnp.float32),
        "out": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32),
    }
    tokens = rng.integers(1, 50, (3, 4, 6))
    target = Target.from_function(bag, weights, (6,))
    labels = jnp.asarray(rng.integers(0, 3, (3, 4)))
    for recipe in (Recipe(), Recipe(local_steps=2, local_batch=2)):
        shared = federation.share(
            jax.random.key(0), recipe, target, jnp.asarray(tokens), labels
        )
        found = touched_rows(shared.change["embedding"])
        for batch, rows in zip(tokens, found, strict=True):
            assert set(np.flatnonzero(rows)) == set(batch.ravel())
