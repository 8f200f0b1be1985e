"""Training through a defense of single examples' gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mijax import private_training, training
from mijax.defenses import chain, clipping, dp_sgd, rounding

X = jax.random.normal(jax.random.key(0), (32, 3))
Y = X @ jnp.array([1.0, -2.0, 0.5])
DATA = X, Y


def losses(params, batch):
    x, y = batch
    return (x @ params - y) ** 2


def fitted(defense, steps=300, rate=0.05):
    optimizer = optax.sgd(rate)
    run = private_training.step(losses, optimizer, defense)
    state = private_training.init(jnp.zeros(3), optimizer)
    fit = functools.partial(training.fit, step=run, batch_size=16, steps=steps)
    return jax.jit(lambda key, data: fit(key, state, data=data))(
        jax.random.key(1), DATA
    )


def test_without_a_defense_it_learns():
    state, metrics = fitted(chain())
    np.testing.assert_allclose(state.params, [1.0, -2.0, 0.5], atol=1e-3)
    assert metrics["loss"][-1] < 1e-5 < metrics["loss"][0]


def test_a_clip_that_touches_nothing_changes_nothing():
    plain, _ = fitted(chain(), steps=5)
    clipped, _ = fitted(clipping.clip_examples(1e6), steps=5)
    np.testing.assert_allclose(clipped.params, plain.params, rtol=1e-4)


def test_one_step_moves_no_further_than_the_clip():
    state, _ = fitted(clipping.clip_examples(0.1), steps=1, rate=1.0)
    assert 0 < jnp.linalg.norm(state.params) <= 0.1 + 1e-6


def test_noise_has_its_deviation():
    defense = dp_sgd.dp_sgd(1e-6, 1e5, 16)  # The noise alone: 1e-6 * 1e5 / 16.
    steps, rate = 400, 1.0
    optimizer = optax.sgd(rate)
    run = private_training.step(losses, optimizer, defense)
    state = private_training.init(jnp.zeros(3), optimizer)

    def moved(state, t):
        after, _ = run(jax.random.fold_in(jax.random.key(2), t), state, (X, Y))
        return after, after.params - state.params

    _, changes = jax.jit(lambda state: jax.lax.scan(moved, state, jnp.arange(steps)))(
        state
    )
    assert np.std(changes) == pytest.approx(0.1 / 16, rel=0.1)


def test_a_defense_of_another_place():
    with pytest.raises(ValueError, match="acts on output"):
        private_training.step(losses, optax.sgd(0.1), rounding.rounding(0.1))
