"""WGAN-GP: its penalty in closed form, its sizes, and a tiny training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mijax.models.dcgan import Critic, Generator
from mijax.priors import wgan_gp

CONFIG = wgan_gp.Config(
    latent_size=4,
    critic_steps=2,
    batch_size=16,
    penalty_examples=8,
    learning_rate=1e-2,
    critic_learning_rate=1e-2,
    average=0.9,
)
TINY = Generator(8, width=2), Critic(8, width=4)


class Constant(nn.Module):
    """Draws one image whatever the latent is."""

    image_size: int = 8
    channels: int = 1

    @nn.compact
    def __call__(self, z, train=False):
        self.variable("batch_stats", "unused", jnp.zeros, ())
        level = self.param("level", nn.initializers.zeros, ())
        return level + jnp.zeros((z.shape[0], self.image_size, self.image_size, 1))


class Linear(nn.Module):
    """A critic of constant slope, whose norm is its one parameter."""

    slope: float

    @nn.compact
    def __call__(self, x):
        SEEN.add(x.shape[0])
        norm = self.param("norm", nn.initializers.constant(self.slope), ())
        return norm * jnp.sum(x, axis=(1, 2, 3)) / 8


SEEN = set()


def stepped(generator, critic, config, images):
    state = wgan_gp.init(jax.random.key(0), generator, critic, config)
    step = jax.jit(wgan_gp.step(generator, critic, config))
    return state, *step(jax.random.key(1), state, images)


@pytest.mark.parametrize(("slope", "sign"), [(1.0, 0), (2.0, -1), (0.5, 1)])
def test_the_penalty_wants_unit_slope(slope, sign):
    # Real and drawn images are alike, so that the penalty alone moves the critic.
    generator, critic = Constant(), Linear(slope)
    SEEN.clear()
    _, state, metrics = stepped(generator, critic, CONFIG, jnp.zeros((32, 8, 8, 1)))
    moved = float(state.critic["params"]["norm"]) - slope
    np.testing.assert_allclose(
        moved, sign * 2 * CONFIG.critic_learning_rate, rtol=0.2, atol=1e-7
    )
    assert metrics["wasserstein"] == 0
    # Images are penalized, compared, and drawn by the generator.
    assert {CONFIG.penalty_examples, 2 * CONFIG.batch_size} <= SEEN


def test_the_wasserstein_estimate_in_closed_form():
    _, _, metrics = stepped(Constant(), Linear(1.0), CONFIG, jnp.ones((32, 8, 8, 1)))
    np.testing.assert_allclose(metrics["wasserstein"], 64 / 8, rtol=1e-2)


def test_steps_of_each_network_and_the_average():
    before, after, _ = stepped(*TINY, CONFIG, jnp.ones((32, 8, 8, 1)))
    assert after.critic_optimizer[0].count == CONFIG.critic_steps
    assert after.generator_optimizer[0].count == 1
    jax.tree.map(
        lambda averaged, old, new: np.testing.assert_allclose(
            averaged, 0.9 * old + 0.1 * new, rtol=1e-4, atol=1e-6
        ),
        after.averaged,
        before.generator,
        after.generator,
    )
    moved = jax.tree.map(
        lambda old, new: not np.array_equal(old, new), before.averaged, after.averaged
    )
    assert any(jax.tree.leaves(moved["params"]))


@pytest.mark.parametrize("examples", [0, 17])
def test_penalty_examples_within_a_batch(examples):
    config = wgan_gp.Config(batch_size=16, penalty_examples=examples)
    with pytest.raises(ValueError, match=f"penalty_examples is {examples}"):
        wgan_gp.step(*TINY, config)


@pytest.mark.slow
def test_a_tiny_training_approaches_the_public_images():
    noise = 0.05 * jax.random.normal(jax.random.key(3), (64, 8, 8, 1))
    public = jnp.where(jnp.arange(8) < 4, 0.1, 0.9)[None, None, :, None] + noise
    config = dataclasses.replace(CONFIG, mirror=False)
    training = wgan_gp.training(*TINY, config)
    before = training.finish(training.init(jax.random.key(0)))
    after, metrics = jax.jit(
        lambda key: training.fit(key, public, batch_size=32, steps=200)
    )(jax.random.key(1))
    leaves = jax.tree.leaves((after, metrics))
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
    wasserstein = metrics["wasserstein"]
    assert wasserstein[-20:].mean() < 0.5 * wasserstein.max()

    def away(prior):
        drawn = prior.images(prior.sample(jax.random.key(4), 64))
        return float(np.mean((np.mean(drawn, 0) - np.mean(public, 0)) ** 2))

    assert away(after) < 0.2 * away(before)
