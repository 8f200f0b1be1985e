"""Property inference from weights: what was planted, what order may not change."""

import jax
import jax.numpy as jnp
import numpy as np

from mijax.attacks import deep_sets
from mijax.attacks.properties.deep_sets import Config, DeepSets, Flat, in_order
from mijax.knowledge import ReleasedParameters

RUN = jax.jit(deep_sets.attack)


def networks(rng, number, which=None):
    """Networks 12-8-2; a property gives one node, somewhere, an unusual bias."""
    biases = rng.normal(size=(number, 8))
    if which is not None:
        node = rng.integers(0, 8, number)
        biases[np.arange(number), node] = np.where(which, 4.0, -4.0)

    def layer(kernel, bias):
        return jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32)

    return (
        layer(rng.normal(size=(number, 12, 8)), biases),
        layer(rng.normal(size=(number, 8, 2)), rng.normal(size=(number, 2))),
    )


def permuted(rng, layers):
    """The same networks with their hidden nodes in another order."""
    (kernel, bias), (after, last) = layers
    order = rng.permutation(8)
    return (kernel[:, :, order], bias[:, order]), (after[:, order], last)


def both(network, layers, other):
    """The logits of two sets of networks by one classifier of random weights."""
    params = network.init(jax.random.key(0), layers)
    return [np.asarray(network.apply(params, each)) for each in (layers, other)]


def test_the_order_of_nodes_does_not_matter():
    rng = np.random.default_rng(0)
    layers = networks(rng, 3)
    other = permuted(rng, layers)
    for network in (DeepSets(4, 5), Flat(ordered=True)):
        told, again = both(network, layers, other)
        np.testing.assert_allclose(told, again, rtol=1e-4, atol=1e-5)
    told, again = both(Flat(), layers, other)
    assert np.abs(told - again).max() > 0.1


def test_ordered_networks_compute_the_same():
    layers = networks(np.random.default_rng(0), 3)
    x = np.random.default_rng(1).normal(size=(3, 12))

    def output(layers):
        (kernel, bias), (after, last) = layers
        hidden = np.tanh(np.einsum("bi,bio->bo", x, kernel) + bias)
        return np.einsum("bi,bio->bo", hidden, after) + last

    ordered = in_order(layers)
    np.testing.assert_allclose(output(layers), output(ordered), rtol=1e-4, atol=1e-5)
    sums = np.abs(ordered[0][0]).sum(1)
    assert np.all(np.diff(sums, axis=1) >= 0)


def test_it_finds_a_planted_property_and_none_where_there_is_none():
    rng = np.random.default_rng(0)
    which, truth = np.arange(200) % 2, np.arange(100) % 2
    config = Config(DeepSets(16, 16), steps=600, learning_rate=3e-3)
    known = ReleasedParameters(
        networks(rng, 100, truth), networks(rng, 200, which), jnp.asarray(which)
    )
    found = RUN(jax.random.key(1), known, config)
    assert np.mean(found.guess == truth) > 0.7  # 4 standard errors above chance
    shuffled = ReleasedParameters(
        known.released, known.shadows, jnp.asarray(rng.permutation(which))
    )
    null = RUN(jax.random.key(1), shuffled, config)
    assert abs(np.mean(null.guess == truth) - 0.5) < 0.2
