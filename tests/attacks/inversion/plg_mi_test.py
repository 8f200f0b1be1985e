"""PLG-MI's generator learns the classes that the target knows, and its search adds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import ppa_test as planted
import pytest
from flax import linen as nn

from mijax import training
from mijax.attacks import plg_mi
from mijax.core import Target
from mijax.knowledge import WhiteBox
from mijax.priors import adversarial

CLASSES, SHAPE = planted.CLASSES, planted.SHAPE
CONFIG = plg_mi.Config(
    steps=150, restarts=8, view=lambda key, image: image, learning_rate=0.05
)
attack = jax.jit(plg_mi.attack)


def of_class(basis, z, labels):
    return planted.generate(basis, z) + 0.0 * labels[:, None, None, None]


def knowing(function, generate=of_class):
    known = planted.knowing(function)
    return dataclasses.replace(
        known, prior=dataclasses.replace(known.prior, generate=generate)
    )


def test_finds_what_was_planted():
    found = attack(jax.random.key(0), knowing(planted.bumps), CONFIG)
    np.testing.assert_allclose(planted.invert(found.x), planted.PLANTED, atol=0.2)


def test_a_target_that_tells_nothing_moves_nothing():
    found = attack(jax.random.key(0), knowing(planted.blind), CONFIG)
    start = dataclasses.replace(CONFIG, steps=0)
    begun = attack(jax.random.key(0), knowing(planted.blind), start)
    np.testing.assert_allclose(found.candidates, begun.candidates, atol=1e-5)


def test_each_victim_is_drawn_as_its_class():
    def shifted(basis, z, labels):
        return planted.generate(basis, 0 * z + planted.PLANTED[labels])

    config = dataclasses.replace(CONFIG, steps=0)
    found = attack(jax.random.key(0), knowing(planted.blind, shifted), config)
    np.testing.assert_allclose(planted.invert(found.x), planted.PLANTED, atol=1e-3)


def test_refuses_what_it_cannot_search():
    with pytest.raises(ValueError, match="does not take labels"):
        plg_mi.attack(jax.random.key(0), planted.knowing(planted.blind), CONFIG)
    config = dataclasses.replace(CONFIG, views=0)
    with pytest.raises(ValueError, match="views is 0"):
        plg_mi.attack(jax.random.key(0), knowing(planted.blind), config)


# Its generator ------------------------------------------------------------------------


class Drawer(nn.Module):
    """One dense layer, and a pattern for each class."""

    @nn.compact
    def __call__(self, z, labels=None, train=False):
        x = 0.2 * nn.Dense(64)(z)
        if labels is not None:
            x += nn.Embed(CLASSES, 64, embedding_init=nn.initializers.zeros)(labels)
        return nn.sigmoid(x).reshape(-1, *SHAPE)


class Judge(nn.Module):
    """Two dense layers, and a direction for each class."""

    @nn.compact
    def __call__(self, x, labels=None):
        x = nn.leaky_relu(nn.Dense(16)(2 * x.reshape(len(x), -1) - 1))
        score = nn.Dense(1)(x)[:, 0]
        if labels is None:
            return score
        return score + jnp.sum(nn.Embed(CLASSES, 16)(labels) * x, -1)


PRIOR = plg_mi.PriorConfig(
    latent_size=4,
    critic_steps=1,
    batch_size=32,
    learning_rate=1e-2,
    critic_learning_rate=1e-2,
    average=0.9,
    view=CONFIG.view,
)


@pytest.fixture(scope="module")
def public():
    """Images of each planted class, and noise."""
    key, noise_key = jax.random.split(jax.random.key(1))
    labels = jax.random.randint(key, (300,), 0, CLASSES)
    z = planted.PLANTED[labels] + 0.3 * jax.random.normal(noise_key, (300, 4))
    return planted.generate(planted.BASIS, z)


def sure(height, x):
    return height * (planted.bumps(1.0, x) + 1)


def flat(height, x):
    return 0 * sure(height, x)


def taught(function, public, top=60):
    target = Target.from_function(function, jnp.float32(10.0), SHAPE)
    known = WhiteBox(target, planted.LABELS)
    data = plg_mi.pseudo_labelled(known, public, top)
    return data, plg_mi.prior(known, Drawer(), Judge(), PRIOR)


def test_pseudo_labels_are_the_surest_images_of_each_class(public):
    (images, labels), _ = taught(sure, public, top=10)
    np.testing.assert_array_equal(labels, np.repeat(np.arange(CLASSES), 10))
    scores = sure(10.0, public)
    for label in range(CLASSES):
        own = sure(10.0, images[labels == label])[:, label]
        assert own.min() > np.quantile(scores[:, label], 0.7)
    with pytest.raises(ValueError, match="top is 301: it must be 1 to the 300"):
        taught(sure, public, top=301)


def drawn(prior):
    labels = jnp.tile(planted.LABELS, 50)
    x = prior.images(prior.sample(jax.random.key(3), len(labels)), labels)
    return np.mean(np.argmin(planted.distances(x), 1) == labels)


@pytest.mark.parametrize(("function", "low", "high"), [(sure, 0.9, 1), (flat, 0, 0.6)])
def test_it_draws_the_classes_that_the_target_knows(public, function, low, high):
    data, method = taught(function, public)
    prior, metrics = jax.jit(
        lambda key, data: method.fit(key, data, batch_size=32, steps=300)
    )(jax.random.key(2), data)
    assert all(np.isfinite(leaf).all() for leaf in metrics.values())
    assert low <= drawn(prior) <= high


def test_layers_of_the_critic_have_unit_norm():
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 4, 6)), jnp.float32)
    variables = {"kernel": 7 * kernel, "bias": jnp.full(6, 3.0)}
    for iterations, within in ((100, 1e-4), (5, 0.1)):
        found = adversarial.unit_spectral_norms(variables, iterations)
        norm = np.linalg.norm(found["kernel"].reshape(-1, 6), 2)
        assert norm == pytest.approx(1, abs=within)
        np.testing.assert_array_equal(found["bias"], variables["bias"])


def test_training_goes_on_where_it_stopped(public):
    data, method = taught(sure, public)
    state, key = method.init(jax.random.key(5)), jax.random.key(6)

    @jax.jit
    def two(state, first):
        return training.fit(
            key, state, method.step, data, batch_size=32, steps=2, first=first
        )[0]

    once = two(two(state, 0), 2)
    stored = jax.tree.map(np.asarray, two(state, 0))
    jax.tree.map(np.testing.assert_array_equal, once, two(stored, 2))
    other = two(two(state, 0), 3)
    assert not np.array_equal(
        jax.tree.leaves(once.averaged)[0], jax.tree.leaves(other.averaged)[0]
    )


def test_it_may_start_from_an_unconditional_prior(public):
    generator, critic = Drawer(), Judge()
    z, x = jnp.zeros((1, 4)), jnp.zeros((1, *SHAPE))
    start = dataclasses.replace(
        planted.knowing(planted.blind).prior,
        generator=generator.init(jax.random.key(7), z),
        critic=critic.init(jax.random.key(8), x),
    )
    known = WhiteBox(Target.from_function(sure, jnp.float32(1.0), SHAPE), None)
    state = plg_mi.prior(known, generator, critic, PRIOR, start).init(jax.random.key(9))
    np.testing.assert_array_equal(
        state.generator["params"]["Dense_0"]["kernel"],
        start.generator["params"]["Dense_0"]["kernel"],
    )
    assert not np.any(state.generator["params"]["Embed_0"]["embedding"])
    np.testing.assert_array_equal(
        state.critic["params"]["Dense_1"]["bias"],
        start.critic["params"]["Dense_1"]["bias"],
    )
