"""Targets of many forms: each works, or is refused in one clear sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from flax import linen as nn

from mijax import federation, training
from mijax.attacks import (
    dlg,
    ggl,
    gmi,
    grad_inversion,
    inverting_gradients,
    mi_face,
)
from mijax.attacks.inversion import processing
from mijax.core import Prediction, Prior, Target
from mijax.federation import Recipe
from mijax.knowledge import SharedUpdate, WhiteBox
from mijax.models.dcgan import Critic, Generator

KEY = jax.random.key(0)


class Normalized(nn.Module):
    """Its flag is `training`; it calls its normalization by keyword."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, x, training=False):
        x = nn.Dense(4)(x.reshape(x.shape[0], -1))
        x = nn.BatchNorm(name="norm")(x=x, use_running_average=not training)
        x = nn.Dropout(self.rate, deterministic=not training)(x)
        return Prediction(nn.Dense(3)(x), x)


class Frozen(nn.Module):
    """Its first layer is no parameter that is trained."""

    @nn.compact
    def __call__(self, x, train=False):
        draw = nn.initializers.lecun_normal()
        kernel = self.variable("frozen", "kernel", draw, jax.random.key(1), (16, 4))
        return nn.Dense(3)(x.reshape(x.shape[0], -1) @ kernel.value)


class NoFlag(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def made(module, shape=(4, 4, 1)):
    variables = module.init(KEY, jnp.zeros((1, *shape)))
    return Target.from_linen(module, variables, shape)


def batch(shape=(4, 4, 1)):
    x = jax.random.uniform(jax.random.key(2), (1, 2, *shape))
    return x, jnp.array([[0, 2]])


def test_a_flag_named_training_and_a_normalization_called_by_keyword():
    target, (x, labels) = made(Normalized()), batch()
    recipe = Recipe(train=True, share_statistics=True)
    shared = federation.share(KEY, recipe, target, x, labels)
    dense = target.params["params"]["Dense_0"]
    hidden = x[0].reshape(2, -1) @ dense["kernel"] + dense["bias"][None]
    np.testing.assert_allclose(
        shared.statistics["norm"]["mean"][0], hidden.mean(0), rtol=1e-4, atol=1e-6
    )


def test_dropout_in_training_draws_from_the_steps_key():
    module, optimizer = Normalized(rate=0.5), optax.sgd(0.1)
    state = training.train_state(KEY, module, (4, 4, 1), optimizer)
    step = jax.jit(training.supervised(module, optimizer))
    x, labels = batch()
    losses = [
        float(step(jax.random.key(seed), state, (x[0], labels[0]))[1]["loss"])
        for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_a_clients_dropout_is_refused():
    refused = r"dropout rate to 0.*Recipe\(train=False\)"
    recipe, target = Recipe(train=True), made(Normalized(0.5))
    with pytest.raises(ValueError, match=refused):
        federation.share(KEY, recipe, target, *batch())
    update = jax.tree.map(lambda leaf: leaf[None], target.trained)
    known = SharedUpdate(target, update, 2, recipe=recipe)
    with pytest.raises(ValueError, match=refused):
        dlg.attack(KEY, known, dlg.Config(steps=1))


def test_a_module_without_a_training_mode_is_refused():
    with pytest.raises(ValueError, match="NoFlag has no training mode"):
        federation.share(KEY, Recipe(train=True), made(NoFlag()), *batch())
    with pytest.raises(ValueError, match="NoFlag has no training mode"):
        training.supervised(NoFlag(), optax.sgd(0.1))


def test_a_frozen_layer_is_neither_shared_nor_trained():
    target, (x, labels) = made(Frozen()), batch()
    update = federation.share(KEY, Recipe(), target, x, labels).change
    assert jax.tree.structure(update) == jax.tree.structure(target.trained)
    assert list(update) == ["Dense_0"]
    found = dlg.attack(KEY, SharedUpdate(target, update, 2), dlg.Config(steps=1))
    assert found.x.shape == (1, 2, 4, 4, 1) and np.all(np.isfinite(found.x))


@pytest.mark.parametrize("shape", [(4, 4), (16,)])
def test_images_without_channels_and_vectors(shape):
    target, (x, labels) = made(NoFlag(), shape), batch(shape)
    found = mi_face.attack(
        KEY, WhiteBox(target, jnp.array([0, 2])), mi_face.Config(steps=20)
    )
    assert found.x.shape == (2, *shape)
    assert np.all(found.loss < found.trace[:, 0, 0])
    update = federation.share(KEY, Recipe(), target, x, labels).change
    leaked = dlg.attack(KEY, SharedUpdate(target, update, 2), dlg.Config(steps=1))
    assert leaked.x.shape == (1, 2, *shape)


@pytest.mark.parametrize("shape", [(4, 4), (16,)])
def test_what_needs_neighboring_pixels_refuses_other_shapes(shape):
    target, (x, labels) = made(NoFlag(), shape), batch(shape)
    update = federation.share(KEY, Recipe(), target, x, labels).change
    for attack in (inverting_gradients, grad_inversion):
        with pytest.raises(ValueError, match=r"total variation is of images.*use dlg"):
            attack.attack(KEY, SharedUpdate(target, update, 2), attack.Config(steps=1))
    config = mi_face.Config(steps=1, process=processing.denoise_and_sharpen)
    with pytest.raises(ValueError, match=r"only images .* can be denoised"):
        mi_face.attack(KEY, WhiteBox(target, jnp.array([0])), config)


def test_half_precision_parameters():
    target = made(NoFlag())
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), target.params)
    target = Target.from_linen(NoFlag(), half, (4, 4, 1))
    found = mi_face.attack(
        KEY, WhiteBox(target, jnp.array([0, 2])), mi_face.Config(steps=20)
    )
    assert np.all(np.isfinite(found.x)) and np.all(found.loss < found.trace[:, 0, 0])
    update = federation.share(KEY, Recipe(), target, *batch()).change
    leaked = dlg.attack(KEY, SharedUpdate(target, update, 2), dlg.Config(steps=1))
    assert np.all(np.isfinite(leaked.x))


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def test_doubles_are_allowed(double):
    """With float32 models, as shipped: what is drawn is float64."""
    generator, critic = Generator(8, width=1), Critic(8, width=1)
    drawn = tiny.drawn(generator, 3, (1, 4)), tiny.drawn(critic, 4, (1, *tiny.SHAPE))
    prior = Prior.from_linen(generator, drawn[0], critic, drawn[1], latent_size=4)
    target, config = tiny.target(), ggl.Config(steps=2, population=2, elite=2)
    labels = jnp.array([0, 2])
    found = jax.jit(gmi.attack)(
        KEY, WhiteBox(target, labels, prior), gmi.Config(steps=1, restarts=1)
    )
    x = jax.random.uniform(KEY, (1, 1, *tiny.SHAPE))
    update = federation.share(KEY, Recipe(), target, x, jnp.array([[1]])).change
    leaked = jax.jit(ggl.attack)(
        KEY, SharedUpdate(target, update, 1, prior=prior), config
    )
    for recovered in (found, leaked):
        assert recovered.x.dtype == jnp.float64 and np.all(np.isfinite(recovered.x))
