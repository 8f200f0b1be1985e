"""Training: chunks are one go, many models are one program, noise teaches nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from mijax import training
from mijax.core import Prediction
from mijax.models.mlp import MLP

SHAPE = (4, 4, 1)
OPTIMIZER = optax.adam(0.01)
KEY = jax.random.key(0)


class Normalized(nn.Module):
    """A classifier that carries statistics beside its parameters."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(8)(x.reshape(x.shape[0], -1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return Prediction(nn.Dense(3)(x), x)


def blobs(seed, number, noise=0.1):
    rng = np.random.default_rng(seed)
    templates = np.random.default_rng(9).uniform(size=(3, *SHAPE))
    labels = rng.integers(0, 3, number)
    images = templates[labels] + rng.normal(0, noise, (number, *SHAPE))
    return jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32)


def accuracy(module, variables, images, labels):
    logits = jax.jit(module.apply)(variables, images).logits
    return float(np.mean(np.argmax(logits, 1) == labels))


def trained(module, data, steps=100, **options):
    step = training.supervised(module, OPTIMIZER, **options)
    start = training.train_state(jax.random.key(0), module, SHAPE, OPTIMIZER)
    run = jax.jit(
        lambda start: training.fit(
            jax.random.key(1), start, step, data, batch_size=32, steps=steps
        )
    )
    return run(start)


class TestFit:
    def test_chunks_are_one_go_bit_for_bit(self, optimized):
        module, data = Normalized(), blobs(0, 70)
        augment = training.shift_and_mirror(1)
        step = training.supervised(module, OPTIMIZER, augment=augment)
        start = training.train_state(jax.random.key(0), module, SHAPE, OPTIMIZER)

        @jax.jit
        def advance(state, first):
            return training.fit(
                jax.random.key(1),
                state,
                step,
                data,
                batch_size=32,
                steps=4,
                first=first,
            )

        state, losses = start, []
        for first in (0, 4, 8):
            state, metrics = advance(state, first)
            losses.append(metrics["loss"])
        whole, metrics = trained(module, data, steps=12, augment=augment)
        assert jax.tree.all(jax.tree.map(np.array_equal, state, whole))
        np.testing.assert_array_equal(np.concatenate(losses), metrics["loss"])

    def test_an_epoch_sees_each_example_once(self):
        def step(key, state, batch):
            return state, {"batch": batch}

        _, metrics = training.fit(
            jax.random.key(0), None, step, jnp.arange(10), batch_size=3, steps=6
        )
        first, second = metrics["batch"][:3].ravel(), metrics["batch"][3:].ravel()
        assert len(set(first.tolist())) == len(set(second.tolist())) == 9
        assert first.tolist() != second.tolist()

    def test_vmap_trains_many(self):
        module, data = MLP(3, widths=(4,)), blobs(0, 64)
        step = training.supervised(module, OPTIMIZER)

        def train(key):
            start_key, fit_key = jax.random.split(key)
            start = training.train_state(start_key, module, SHAPE, OPTIMIZER)
            return training.fit(fit_key, start, step, data, batch_size=32, steps=10)

        keys = jax.random.split(jax.random.key(0), 3)
        many, metrics = jax.jit(jax.vmap(train))(keys)
        alone, _ = jax.jit(train)(keys[1])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-5),
            many,
            alone,
        )
        assert metrics["loss"].shape == (3, 10)

    def test_a_training_is_its_parts_in_turn(self):
        def step(key, state, batch):
            state = state + jax.random.normal(key) * jnp.mean(batch)
            return state, {"state": state}

        whole = training.Training(jax.random.normal, step, lambda state: 2 * state)
        key, data = jax.random.key(0), jnp.arange(8.0)
        product, metrics = whole.fit(key, data, batch_size=2, steps=5)
        init_key, fit_key = jax.random.split(key)
        state = whole.init(init_key)
        for first, steps in ((0, 2), (2, 3)):
            state, _ = training.fit(
                fit_key, state, step, data, batch_size=2, steps=steps, first=first
            )
        np.testing.assert_allclose(product, whole.finish(state), rtol=1e-6)
        np.testing.assert_allclose(2 * metrics["state"][-1], product, rtol=1e-6)

    def test_bad_sizes(self):
        def run(data, batch_size=2, steps=1):
            step = lambda key, state, batch: (state, {})
            training.fit(
                jax.random.key(0), 0, step, data, batch_size=batch_size, steps=steps
            )

        with pytest.raises(ValueError, match="batch_size is 2 but there are 1"):
            run(jnp.zeros(1))
        with pytest.raises(ValueError, match="batch_size is 0"):
            run(jnp.zeros(4), batch_size=0)
        with pytest.raises(ValueError, match="steps is -3"):
            run(jnp.zeros(4), steps=-3)
        with pytest.raises(ValueError, match=r"arrays of \[4, 5\] examples"):
            run((jnp.zeros(4), jnp.zeros(5)))


class TestSupervised:
    @pytest.mark.parametrize("module", [MLP(3, widths=(8,)), Normalized()])
    def test_learns_a_separable_problem(self, module):
        learner, metrics = trained(module, blobs(0, 200))
        assert accuracy(module, learner.variables, *blobs(1, 200)) >= 0.98
        assert metrics["loss"][-10:].mean() < 0.2 * metrics["loss"][0]
        assert metrics["accuracy"].shape == (100,)

    def test_shuffled_labels_give_chance(self):
        images, labels = blobs(0, 96)
        test, truth = blobs(1, 60)
        module, runs = MLP(3, widths=(8,)), 100
        step = training.supervised(module, OPTIMIZER)

        @jax.jit
        @jax.vmap
        def hits(key):
            shuffle_key, start_key, fit_key = jax.random.split(key, 3)
            data = images, jax.random.permutation(shuffle_key, labels)
            start = training.train_state(start_key, module, SHAPE, OPTIMIZER)
            learner, _ = training.fit(
                fit_key, start, step, data, batch_size=32, steps=40
            )
            logits = module.apply(learner.variables, test).logits
            return jnp.mean(jnp.argmax(logits, 1) == truth)

        # A run guesses a whole class right or wrong: deviation 0.27 at most.
        found = hits(jax.random.split(jax.random.key(0), runs))
        assert abs(found.mean() - 1 / 3) < 4 * 0.27 / np.sqrt(runs)

    def test_the_objective_is_where_a_defense_acts(self):
        def halved(prediction, labels):
            return 0.5 * training.cross_entropy(prediction, labels)

        module, data = MLP(3, widths=(4,)), blobs(0, 64)
        _, plain = trained(module, data, steps=1)
        _, defended = trained(module, data, steps=1, objective=halved)
        np.testing.assert_allclose(defended["loss"], plain["loss"] / 2, rtol=1e-6)


class TestAugment:
    def test_no_reach_and_no_mirror_changes_nothing(self):
        images, _ = blobs(0, 5)
        same = training.shift_and_mirror(0, mirror=False)(jax.random.key(0), images)
        np.testing.assert_array_equal(same, images)

    def test_shifts_and_mirrors(self):
        image = jnp.arange(16.0).reshape(1, *SHAPE)
        images = jnp.repeat(image, 64, 0)
        shifted = training.shift_and_mirror(1)(jax.random.key(0), images)
        seen = {bytes(np.asarray(x)) for x in shifted}
        assert 10 < len(seen) <= 2 * 9
        padded = np.pad(image[0, :, :, 0], 1, mode="edge")
        places = [padded[i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
        mirrored = np.pad(image[0, :, ::-1, 0], 1, mode="edge")
        places += [mirrored[i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
        assert seen <= {np.ascontiguousarray(x).tobytes() for x in places}


def test_any_loss_is_minimized():
    step = training.minimizing(
        lambda key, params, x: jnp.mean((x - params) ** 2), optax.sgd(0.5)
    )
    variables = {"params": jnp.float32(7.0), "kept": jnp.float32(3.0)}
    state = training.TrainState(variables, optax.sgd(0.5).init(jnp.float32(7.0)))
    state, metrics = step(KEY, state, jnp.array([1.0, 3.0]))
    assert float(metrics["loss"]) == 26.0  # The mean of 36 and 16.
    assert float(state.variables["params"]) == 2.0  # One Newton step: the mean.
    assert float(state.variables["kept"]) == 3.0
