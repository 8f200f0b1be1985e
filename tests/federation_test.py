"""What clients compute: closed forms, modes of batch normalization, rounds."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from flax import linen as nn
from flax import nnx

from mijax import federation
from mijax.attacks.leakage import gradient_distance
from mijax.core import Defense, Prediction, Target
from mijax.federation import Recipe
from mijax.knowledge import SharedUpdate, securely_summed
from mijax.training import cross_entropy

KEY = jax.random.key(0)
SHARE = jax.jit(federation.share)


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(5)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dense(tiny.CLASSES)(nn.tanh(x))


class NormalizedNnx(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.logits = nnx.Linear(5, tiny.CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nn.tanh(self.norm(self.hidden(x.reshape(len(x), -1))))
        return self.logits(x)


def of_linen():
    variables = Normalized().init(jax.random.key(2), jnp.zeros((1, *tiny.SHAPE)))
    return Target.from_linen(Normalized(), variables, tiny.SHAPE)


def of_nnx():
    module = NormalizedNnx(nnx.Rngs(2))
    module.eval()
    return Target.from_nnx(module, tiny.SHAPE)


@pytest.fixture(scope="module")
def batch():
    x = jax.random.uniform(jax.random.key(1), (2, 4, *tiny.SHAPE))
    return x, jnp.array([[0, 1, 2, 1], [2, 2, 0, 1]])


def close(a, b, **options):
    options = {"rtol": 1e-5, "atol": 1e-6, **options}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **options), a, b)


def mean_loss(target, trained, x, labels):
    return jnp.mean(cross_entropy(target.with_trained(trained).predict(x), labels))


def test_a_gradient_is_that_of_the_mean_loss(batch):
    x, labels = (each[0] for each in batch)
    target = tiny.target()
    found = federation.client_update(Recipe(), target, x, labels)
    expected = jax.grad(lambda w: mean_loss(target, w, x, labels))(target.trained)
    close(found.change, expected)


def test_local_steps_are_those_of_a_loop(batch):
    x, labels = (each[0] for each in batch)
    target = tiny.target()
    recipe = Recipe(local_steps=3, local_batch=2, learning_rate=0.5)
    found = federation.client_update(recipe, target, x, labels)
    weights = target.trained
    for part in (slice(0, 2), slice(2, 4), slice(0, 2)):
        slope = jax.grad(mean_loss, 1)(target, weights, x[part], labels[part])
        weights = jax.tree.map(lambda w, g: w - 0.5 * g, weights, slope)
    close(found.change, jax.tree.map(jnp.subtract, weights, target.trained))


def momentum(rate):
    decay = optax.add_decayed_weights(0.1)
    return optax.chain(decay, optax.sgd(rate, momentum=0.9))


def test_a_client_may_have_momentum_and_weight_decay(batch):
    x, labels = (each[0] for each in batch)
    target = tiny.target()
    recipe = Recipe(local_steps=3, learning_rate=0.5, optimizer=momentum)
    found = federation.client_update(recipe, target, x, labels)
    weights = target.trained
    velocity = jax.tree.map(jnp.zeros_like, weights)
    for _ in range(3):
        slope = jax.grad(mean_loss, 1)(target, weights, x, labels)
        velocity = jax.tree.map(
            lambda v, g, w: 0.9 * v + g + 0.1 * w, velocity, slope, weights
        )
        weights = jax.tree.map(lambda w, v: w - 0.5 * v, weights, velocity)
    close(found.change, jax.tree.map(jnp.subtract, weights, target.trained))


def test_adams_first_step_is_as_long_everywhere_and_has_slopes(batch):
    x, labels = (each[0] for each in batch)
    adam = functools.partial(optax.adam, eps_root=1e-12)
    recipe = Recipe(local_steps=1, learning_rate=0.5, optimizer=adam)

    def length(x):
        found = federation.client_update(recipe, tiny.target(), x, labels).change
        return optax.tree.norm(found), found

    slope, found = jax.grad(length, has_aux=True)(x)
    gradient = federation.client_update(Recipe(), tiny.target(), x, labels).change
    signs = jax.tree.map(lambda g: -0.5 * jnp.sign(g) * (abs(g) > 1e-3), gradient)
    known = jax.tree.map(lambda c, s: jnp.where(s == 0, 0, c), found, signs)
    close(known, signs, rtol=1e-3)
    assert np.all(np.isfinite(slope)) and np.any(slope != 0)


def test_soft_labels_of_one_class_are_that_class(batch):
    x, labels = (each[0] for each in batch)
    hard = federation.client_update(Recipe(), tiny.target(), x, labels)
    soft = jax.nn.one_hot(labels, tiny.CLASSES)
    close(federation.client_update(Recipe(), tiny.target(), x, soft), hard)


RECIPES = {
    "gradient": Recipe(),
    "steps": Recipe(local_steps=2, local_batch=2),
    "train": Recipe(train=True, share_statistics=True),
    "train-steps": Recipe(train=True, local_steps=2),
}


@pytest.mark.parametrize(
    ("make", "name"), [*((of_linen, name) for name in RECIPES), (of_nnx, "train")]
)
def test_only_at_the_true_batch_is_the_distance_rounding(make, name, batch):
    x, labels = batch
    target, recipe = make(), RECIPES[name]
    one_pixel = x.at[:, 0, 0, 0].add(1e-2)  # of the first image

    @jax.jit
    def relative_distances(x, labels, guesses):  # [V, R]
        update = federation.share(KEY, recipe, target, x, labels).change
        known = SharedUpdate(target, update, 4, recipe).checked()
        labels = jnp.repeat(labels[:, None], 2, 1)
        found, _ = gradient_distance.between(
            known, guesses, labels, gradient_distance.squared
        )
        return found / (jax.vmap(gradient_distance.length)(update) ** 2)[:, None]

    distances = relative_distances(x, labels, jnp.stack([x, one_pixel], 1))
    assert np.all(distances[:, 0] < 1e-11)  # float32 rounds to 1e-7, squared
    assert np.all(distances[:, 1] > 1e-8)


def test_running_statistics_are_not_trained_and_the_batchs_are_told(batch):
    x = batch[0][0]
    hidden = {}
    for make in (of_linen, of_nnx):
        target = make()
        assert len(jax.tree.leaves(target.trained)) == 6
        assert len(jax.tree.leaves(target.running_statistics)) == 2
        for train in (False, True):
            prediction, statistics = target.observe(x, train)
            hidden[make, train] = prediction.logits
            like = jax.tree.structure(target.running_statistics)
            assert jax.tree.structure(statistics) == like
        close(hidden[make, False], target.predict(x).logits)
        assert not np.allclose(hidden[make, True], hidden[make, False])
    target = of_linen()
    dense = target.params["params"]["Dense_0"]
    inputs = x.reshape(4, -1) @ dense["kernel"] + dense["bias"][None]
    _, statistics = target.observe(x)
    close(statistics["norm"]["mean"], inputs.mean(0))
    close(statistics["norm"]["var"], inputs.var(0))


def test_a_plain_function_has_no_training_mode(batch):
    target = Target.from_function(tiny.classify, tiny.variables(1), tiny.SHAPE)
    with pytest.raises(ValueError, match="no training mode"):
        federation.share(KEY, Recipe(train=True), target, *batch)


class TestDefended:
    def test_examples_that_are_left_alone_change_nothing(self, batch):
        plain = SHARE(KEY, Recipe(), tiny.target(), *batch)
        alone = federation.share(
            KEY,
            Recipe(),
            tiny.target(),
            *batch,
            Defense(example_gradient=lambda tree: tree),
        )
        close(alone.change, plain.change)

    def test_examples_that_mix_are_refused(self, batch):
        with pytest.raises(ValueError, match="running statistics"):
            federation.share(
                KEY,
                Recipe(train=True),
                of_linen(),
                *batch,
                Defense(example_gradient=lambda t: t),
            )

    def test_each_client_has_its_own_noise(self, batch):
        def noise(updates, state, params=None, *, key, **extra):
            del params, extra
            draw = lambda leaf: leaf + jax.random.normal(key, leaf.shape)
            return jax.tree.map(draw, updates), state

        update = optax.GradientTransformationExtraArgs(lambda _: (), noise)
        same = [each[:1].repeat(2, 0) for each in batch]
        found = federation.share(
            KEY, Recipe(), tiny.target(), *same, Defense(update=update)
        )
        for leaf in jax.tree.leaves(found.change):
            assert np.all(leaf[0] != leaf[1])


class TestRounds:
    def test_fedsgd_is_a_step_on_all_examples(self, batch):
        x, labels = batch
        target = tiny.target()
        after, _ = federation.round_of(
            KEY, Recipe(learning_rate=0.3), target, x, labels
        )
        pooled = x.reshape(-1, *tiny.SHAPE), labels.reshape(-1)
        slope = jax.grad(mean_loss, 1)(target, target.trained, *pooled)
        close(
            after.trained, jax.tree.map(lambda w, g: w - 0.3 * g, target.trained, slope)
        )

    def test_fedavg_of_one_step_is_fedsgd(self, batch):
        recipe = Recipe(learning_rate=0.3)
        once = dataclasses.replace(recipe, local_steps=1)
        target = tiny.target()
        sgd, _ = federation.round_of(KEY, recipe, target, *batch)
        average, _ = federation.round_of(KEY, once, target, *batch)
        close(average.trained, sgd.trained)

    def test_clients_may_weigh_differently(self):
        target = tiny.target()
        change = jax.tree.map(lambda w: jnp.stack([w, 3 * w]), target.trained)
        recipe = Recipe(local_steps=1)
        after = federation.aggregate(
            recipe, target, change, weights=jnp.array([3.0, 1.0])
        )
        close(after.trained, jax.tree.map(lambda w: 2.5 * w, target.trained))


def test_bad_recipes_are_refused(batch):
    for options, message in [
        ({"loss": "cross_entropy"}, "loss is 'cross_entropy'"),
        ({"local_steps": -1}, "local_steps is -1"),
        ({"local_batch": 0}, "local_batch is 0"),
        ({"optimizer": "adam"}, "optimizer is 'adam'"),
        ({"local_steps": 1, "learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ]:
        with pytest.raises(ValueError, match=message):
            Recipe(**options)
    recipe = Recipe(local_steps=1, local_batch=3)
    with pytest.raises(ValueError, match="local_batch is 3"):
        federation.share(KEY, recipe, tiny.target(), *batch)
    x, labels = batch
    with pytest.raises(ValueError, match=r"labels hold 9: .* classes are 0 to 2"):
        federation.share(KEY, Recipe(), tiny.target(), x, jnp.full_like(labels, 9))
    standing = Recipe(local_steps=1, learning_rate=0)  # as axes of vmap may be
    update = SHARE(KEY, Recipe(), tiny.target(), *batch).change
    known = SharedUpdate(tiny.target(), update, x.shape[1], standing)
    with pytest.raises(ValueError, match="learning_rate is 0"):
        known.checked()


def test_predictions_are_taken_as_they_come(batch):
    logits = batch[0][0].reshape(4, -1)[:, :3]
    losses = federation.batch_losses(Recipe(), Prediction(logits), batch[1][0])
    close(losses, cross_entropy(Prediction(logits), batch[1][0]))


def test_a_secure_sum_is_the_update_of_all_examples(batch):
    x, labels = batch
    target = tiny.target()
    shared = federation.share(KEY, Recipe(), target, x, labels)
    known = securely_summed(SharedUpdate(target, shared.change, 4, labels=labels))
    joined = x.reshape(1, 8, *tiny.SHAPE), labels.reshape(1, 8)
    close(known.update, federation.share(KEY, Recipe(), target, *joined).change)
    assert known.checked().batch_size == 8
    np.testing.assert_array_equal(known.labels, joined[1])
