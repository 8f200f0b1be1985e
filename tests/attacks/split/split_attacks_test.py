"""Split networks: planted inputs are found, and features that say nothing give none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mijax import attacks
from mijax.attacks import query_free, regularized_mle
from mijax.knowledge import Half, SplitQueries, SplitQueryFree, SplitWhiteBox
from mijax.models import cut
from mijax.models.convolution import convolve
from mijax.models.decoders import DenseDecoder, MapDecoder

inverse_network = attacks.split_inverse_network
SHAPE = (4, 4, 1)
RNG = np.random.default_rng(0)
ROTATION = jnp.asarray(np.linalg.qr(RNG.normal(size=(16, 16)))[0], jnp.float32)


def images(seed, number):
    """Images that three numbers determine, so that a decoder learns them soon."""
    rng = np.random.default_rng(seed)
    parts = np.random.default_rng(5).uniform(size=(3, 16))
    mixed = rng.dirichlet(np.ones(3), number) @ parts
    return jnp.asarray(mixed.reshape(number, *SHAPE), jnp.float32)


def rotate(params, x):
    return x.reshape(len(x), -1) @ params


def test_rmle_finds_the_only_image_with_these_features():
    x, first = images(0, 3), Half(ROTATION, rotate)
    known = SplitWhiteBox(first(x), SHAPE, first)
    config = regularized_mle.Config(steps=300, learning_rate=0.02, weight=0.0)
    found = jax.jit(regularized_mle.attack)(jax.random.key(0), known, config)
    np.testing.assert_allclose(found.x, x, atol=0.01)


def test_rmle_of_features_that_say_nothing_is_smooth():
    first = Half(jnp.zeros((16, 16)), rotate)
    known = SplitWhiteBox(jnp.zeros((2, 16)), SHAPE, first)
    config = regularized_mle.Config(steps=5)
    found = jax.jit(regularized_mle.attack)(jax.random.key(0), known, config)
    np.testing.assert_allclose(found.x, 0.5)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_variation(power):
    x = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(3.0)
    # The pixel itself differs by (3, 3); the ones above and left of it by 3 each.
    expected = ((2 * 9) ** (power / 2) + 2 * 3**power) / 9
    found = regularized_mle.variation(x, power)
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def asked(params):
    first = Half(params, rotate)
    return SplitQueries.of(first(images(1, 8)), SHAPE, first, images(2, 200))


def test_inverse_network_finds_what_features_determine():
    config = inverse_network.Config(
        lambda shape: DenseDecoder(shape, (32,)), steps=1500, learning_rate=3e-3
    )
    run = jax.jit(inverse_network.attack)
    truth = np.asarray(images(1, 8))
    mean = np.mean(np.asarray(images(2, 200)), 0)
    baseline = np.mean((truth - mean) ** 2)
    found = run(jax.random.key(0), asked(ROTATION), config)
    assert found.queries == 200
    assert np.mean((found.x - truth) ** 2) < 0.05 * baseline
    blind = run(jax.random.key(0), asked(jnp.zeros((16, 16))), config)
    assert np.mean((blind.x - truth) ** 2) > 0.8 * baseline


class Scaled(nn.Module):
    """A shadow of one number."""

    @nn.compact
    def __call__(self, x):
        return self.param("scale", nn.initializers.ones, ()) * x.reshape(len(x), -1)


def test_query_free_finds_the_scale_of_the_first_half():
    x = images(0, 4000)
    weights = 4 * jnp.asarray(RNG.normal(size=(16, 3)), jnp.float32)
    rest = Half(weights, rotate)
    features = 0.3 * x.reshape(-1, 16)
    labels = jax.random.categorical(jax.random.key(1), rest(features))
    config = query_free.Config(
        lambda shape: Scaled(),
        regularized_mle.Config(steps=300, learning_rate=0.02, weight=0.0),
        steps=400,
        learning_rate=0.01,
    )
    run = jax.jit(query_free.attack)
    known = SplitQueryFree(features[:3], SHAPE, rest, x, labels)
    found = run(jax.random.key(0), known, config)
    np.testing.assert_allclose(found.x, x[:3], atol=0.15)
    null = SplitQueryFree(
        features[:3], SHAPE, Half(jnp.zeros((16, 3)), rotate), x, labels
    )
    blind = run(jax.random.key(0), null, config)  # Its scale stays 1.
    np.testing.assert_allclose(blind.x, 0.3 * x[:3], atol=0.02)


def test_a_cut_network_is_its_halves():
    module = cut.lenet(3, ((2,), (2, 3)), (4,), 3, "SAME")
    x = jnp.asarray(RNG.uniform(size=(2, 8, 8, 1)), jnp.float32)
    variables = module.init(jax.random.key(0), x)
    whole = module.apply(variables, x)
    assert whole.features.shape == (2, 4)
    for layer in ("conv1", "relu21", "pool2", "fc_relu1"):
        first, rest = cut.cut(module, layer)
        own, other = first.of(variables), rest.of(variables)
        assert not own["params"].keys() & other["params"].keys()
        logits = rest(other, first(own, x))
        np.testing.assert_allclose(logits, whole.logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", ["conv3", "logits"])
def test_a_layer_that_cannot_be_cut_after_is_refused(layer):
    with pytest.raises(ValueError, match=f"cannot be cut after '{layer}': choose"):
        cut.cut(cut.lenet(), layer)


def test_a_decoder_of_maps_refuses_vectors():
    decoder = MapDecoder((8, 8, 1))
    made = decoder.init_with_output(jax.random.key(0), jnp.zeros((2, 4, 4, 3)))[0]
    assert made.shape == (2, 8, 8, 1)
    with pytest.raises(ValueError, match=r"codes are \(2, 4\).*give maps"):
        decoder.init(jax.random.key(0), jnp.zeros((2, 4)))


def test_a_decoder_of_maps_undoes_a_convolution():
    kernel = jnp.asarray(RNG.normal(size=(3, 3, 1, 9)), jnp.float32)
    x = jnp.asarray(RNG.uniform(size=(60, 8, 8, 1)), jnp.float32)
    first = Half(kernel, lambda params, x: convolve(x, params, padding="VALID"))
    known = SplitQueries.of(first(x[:3]), (8, 8, 1), first, x[3:])
    config = inverse_network.Config(
        lambda shape: MapDecoder(shape, (), (1,), 3, margins=(1,)),
        steps=2000,
        learning_rate=1e-2,
    )
    found = jax.jit(inverse_network.attack)(jax.random.key(0), known, config)
    # Pixels at the border are seen by fewer features.
    assert jnp.mean((found.x - x[:3]) ** 2) < 0.25 * jnp.var(x)
    assert found.x.min() >= 0 and found.x.max() <= 1


def test_queries_beyond_the_budget_are_refused():
    first = Half(ROTATION, rotate)
    known = SplitQueries.of(jnp.zeros((1, 16)), SHAPE, first, images(2, 9), budget=8)
    with pytest.raises(Exception, match="query budget is 8 and the attack asked for 9"):
        jax.block_until_ready(known.query(known.public))
