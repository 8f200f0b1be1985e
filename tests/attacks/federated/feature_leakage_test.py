"""Properties of batches in updates: planted, shuffled, aggregated; words exactly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mijax import federation
from mijax.attacks import feature_leakage
from mijax.attacks.federated.feature_leakage import Config, magnitudes, touched_rows
from mijax.core import Prediction, Target
from mijax.federation import Clients, Federation, Recipe
from mijax.knowledge import FederationSeat
from mijax.metrics.attributes import macro_auc
from mijax.models.mlp import MLP

SHAPE, ROUNDS, BATCH = (4, 4, 1), 40, 8
RUN = jax.jit(feature_leakage.attack)
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
    found = sorted(magnitudes(seat().target, change).tolist())
    assert found == [0.0, 1.0, 2.0, 3.0, 4.0]


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
