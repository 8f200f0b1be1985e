"""Keys, modules and labels of many forms work, or are refused in one sentence."""

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

from mijax import batching, defenses, federation, priors, training
from mijax.attacks import ggl, gmi, inverting_gradients, mi_face
from mijax.attacks.leakage import initial_images
from mijax.core import Target
from mijax.defenses import seeding
from mijax.federation import Recipe
from mijax.knowledge import Labels, Scores, SharedUpdate, WhiteBox

KEY = jax.random.key(0)
ONE_STEP = mi_face.Config(steps=1)


def traced(attack, knowledge, config, key=KEY):
    """The shapes of what an attack would find, without compiling it."""
    return jax.eval_shape(lambda key: attack.attack(key, knowledge, config), key)


def batch(clients=2):
    x = jax.random.uniform(KEY, (clients, 1, *tiny.SHAPE))
    return x, jnp.arange(clients)[:, None] % tiny.CLASSES


def taken(recipe, target):
    """Traces what clients share, which raises if they cannot."""
    x, labels = batch()
    jax.eval_shape(lambda x: federation.share(KEY, recipe, target, x, labels).change, x)


def update(target=None):
    trained = (target or tiny.target()).trained
    return jax.tree.map(lambda leaf: jnp.ones((2, *leaf.shape)), trained)


class TestKeys:
    OLD = jax.random.PRNGKey(3)

    def test_old_keys_are_typed_ones(self):
        found = batching.keys_of(self.OLD, 2)
        expected = batching.keys_of(jax.random.key(3), 2)
        np.testing.assert_array_equal(*map(jax.random.key_data, (found, expected)))
        several = jax.random.split(self.OLD, 2)
        assert batching.keys_of(several, 2).shape == (2,)
        known = SharedUpdate(tiny.target(), update())
        config = inverting_gradients.Config(steps=1)
        assert traced(inverting_gradients, known, config, self.OLD).x.shape[0] == 2

    @pytest.mark.parametrize("key", [0, None, "a", jnp.zeros(2), 1.5, [0, 1]])
    def test_what_is_no_key(self, key):
        known = SharedUpdate(tiny.target(), update())
        config = inverting_gradients.Config(steps=1)
        with pytest.raises(ValueError, match=r"The key is .*: give a random key, such"):
            inverting_gradients.attack(key, known, config)
        with pytest.raises(ValueError, match="The key is"):
            federation.share(key, Recipe(), tiny.target(), *batch())

    @pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
    def test_numbers_do_not_depend_on_how_many_are_drawn(self, kind):
        with jax.default_prng_impl(kind):
            key = jax.random.key(0)
            known = SharedUpdate(tiny.target(), update())
            sown = functools.partial(initial_images.sown, initial_images.uniform)
            both = sown(key, known, 2)
            first = dataclasses.replace(
                known, update=jax.tree.map(lambda leaf: leaf[:1], known.update)
            )
            np.testing.assert_array_equal(sown(key, first, 2), both[:1])
            assert not np.array_equal(both[0, 0], both[0, 1])
            assert not np.array_equal(both[0], both[1])

    def test_neither_does_the_noise_of_defenses(self):
        with jax.default_prng_impl("rbg"):
            key, scores = jax.random.key(0), jnp.array([[0.1, 0.9], [0.3, 0.7]])
            noise = functools.partial(jax.random.normal, shape=(2,))
            both = seeding.each(key, scores, noise)
            np.testing.assert_array_equal(
                seeding.each(key, scores[:1], noise), both[:1]
            )
            defense = defenses.noise.gaussian(0.1, 7)
            share = functools.partial(federation.share, key, Recipe())
            x, labels = (jnp.repeat(a[:1], 2, 0) for a in batch())
            change = jax.tree.leaves(
                jax.jit(share)(tiny.target(), x, labels, defense).change
            )[0]
            assert not np.array_equal(change[0], change[1])


@pytest.mark.parametrize("name", priors.available())
def test_shipped_priors_beside_doubles(name):
    prior = priors.load(name)
    target = Target.from_function(
        lambda w, x: x.reshape(x.shape[0], -1)[:, :3] * w, jnp.ones((1, 3)), prior.shape
    )
    with jax.enable_x64(True):
        known = WhiteBox(target, jnp.array([0, 2]), prior)
        traced(gmi, known, gmi.Config(steps=1))
        shared = SharedUpdate(target, update(target), labels=jnp.array([[0], [2]]))
        shared = dataclasses.replace(shared, prior=prior)
        traced(ggl, shared, ggl.Config(steps=1, population=2, elite=2))


class _Noisy(nn.Module):
    """Batch normalization and dropout, by a flag of any name."""

    rate: float = 0.5

    def say(self, x, train):
        x = nn.Dense(4)(x.reshape(x.shape[0], -1))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(3)(nn.Dropout(self.rate, deterministic=not train)(x))


class TrainsByDefault(_Noisy):
    @nn.compact
    def __call__(self, x, train=True):
        return self.say(x, train)


class MustBeTold(_Noisy):
    @nn.compact
    def __call__(self, x, training):
        return self.say(x, training)


class NotDeterministic(_Noisy):
    @nn.compact
    def __call__(self, x, *, deterministic=False):
        return self.say(x, not deterministic)


class AlwaysDrops(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dropout(0.5, deterministic=False)(x.reshape(x.shape[0], -1))
        return nn.Dense(3)(x)


class AlwaysNormalizes(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3)(x.reshape(x.shape[0], -1))
        return nn.BatchNorm(use_running_average=False)(x)


class TestLinen:
    @pytest.mark.parametrize("kind", [TrainsByDefault, MustBeTold, NotDeterministic])
    def test_flags_are_set_whatever_their_default(self, kind):
        module = kind()
        state = jax.eval_shape(
            lambda key: training.train_state(key, module, tiny.SHAPE, optax.sgd(0.1)),
            KEY,
        )
        variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), state.variables)
        target = Target.from_linen(module, variables, tiny.SHAPE)
        x, labels = batch()
        predict = jax.jit(lambda x: target.predict(x).logits)
        twice = [predict(x[:, 0]) for _ in range(2)]
        np.testing.assert_array_equal(*twice)
        with pytest.raises(ValueError, match=r"draws random numbers .* dropout rate"):
            federation.share(KEY, Recipe(train=True), target, x, labels)
        quiet = Target.from_linen(kind(0.0), variables, tiny.SHAPE)
        taken(Recipe(train=True), quiet)

    @pytest.mark.parametrize("kind", [AlwaysDrops, AlwaysNormalizes])
    def test_those_that_cannot_be_quiet(self, kind):
        module = kind()
        keys = {"params": KEY, "dropout": KEY}
        x = jax.ShapeDtypeStruct((1, *tiny.SHAPE), jnp.float32)
        shapes = jax.eval_shape(module.init, keys, x)
        variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)
        with pytest.raises(ValueError, match=f"{kind.__name__} draws random .*let its"):
            Target.from_linen(module, variables, tiny.SHAPE)


class Network(nnx.Module):
    def __init__(self, rate):
        rngs = nnx.Rngs(0)
        self.dense = nnx.Linear(64, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.dense(x.reshape(x.shape[0], -1))))


class Loud(Network):
    def __call__(self, x):
        self.dropout.deterministic = False
        return super().__call__(x)


class TestNnx:
    def test_training_mode_is_left(self):
        module = Network(0.5)
        module.train()
        target = Target.from_nnx(module, tiny.SHAPE)
        assert not module.dropout.deterministic
        traced(mi_face, WhiteBox(target, jnp.array([0])), ONE_STEP)
        module.eval()
        x = batch()[0][:, 0]
        np.testing.assert_array_equal(target.predict(x).logits, module(x))

    def test_clients_who_would_draw_the_same_dropout(self):
        target = Target.from_nnx(Network(0.5), tiny.SHAPE)
        with pytest.raises(ValueError, match=r"draws random numbers .* dropout rate"):
            federation.share(KEY, Recipe(train=True), target, *batch())
        taken(Recipe(), target)
        taken(Recipe(train=True), Target.from_nnx(Network(0.0), tiny.SHAPE))

    def test_what_is_no_quiet_module(self):
        with pytest.raises(ValueError, match="Loud draws random numbers"):
            Target.from_nnx(Loud(0.5), tiny.SHAPE)
        with pytest.raises(ValueError, match=r"give an instance of a flax\.nnx"):
            Target.from_nnx(Network, tiny.SHAPE)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("rate", [0.1, jnp.float32(0.1), np.float64(0.1)])
def test_local_steps_keep_the_precision_of_the_model(dtype, rate):
    variables = jax.tree.map(lambda leaf: leaf.astype(dtype), tiny.variables(1))
    target = Target.from_linen(tiny.CLASSIFIER, variables, tiny.SHAPE)
    recipe = Recipe(local_steps=2, learning_rate=rate)
    change = jax.eval_shape(
        lambda x: federation.share(KEY, recipe, target, x, batch()[1]).change,
        batch()[0],
    )
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(change))


class TestFunctions:
    def test_an_error_does_not_print_the_parameters(self):
        def wrong(params, x):
            raise TypeError(f"these do not fit:\n{params}")

        half = jnp.ones((50, 50), jnp.bfloat16)
        with pytest.raises(ValueError, match=r"give the shape of one") as caught:
            Target.from_function(wrong, [np.asarray(half, np.float32)] * 9, (4,))
        assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)
        with pytest.raises(ValueError, match=r"returns .*bfloat16\[50, 50\]"):
            Target.from_function(lambda params, x: params, half, (4,))

    def test_a_shape_that_is_a_number(self):
        with pytest.raises(ValueError, match="shape is 3: give that of one example"):
            Target.from_function(lambda params, x: x, None, 3)


NO_LABELS = [
    (1, "labels are an int: they must be an array of integers"),
    ([0, 1], "labels are a list"),
    ((0, 1), "labels are a tuple"),
    ("ab", "labels are a str"),
    (None, "labels are a NoneType"),
    (1.0, "labels are a float"),
    (jnp.array(1), r"labels are \(\)"),
    (jnp.array([[0]]), r"labels are \(1, 1\)"),
    (jnp.array([0.0, 1.0]), "labels are float32: they must be integers"),
    (np.array([True, False]), "labels are bool"),
    (jnp.zeros(0, int), "labels are empty"),
]


@pytest.mark.parametrize(("labels", "message"), NO_LABELS)
@pytest.mark.parametrize("kind", [WhiteBox, Scores.of, Labels.of])
def test_labels_of_no_victims(labels, message, kind):
    with pytest.raises(ValueError, match=message):
        mi_face.attack(KEY, kind(tiny.target(), labels), ONE_STEP)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (jnp.array([0, 2]), r"x is \(2, 1, 8, 8, 1\) and labels \(2,\): they must be"),
        (jnp.array([[[0]], [[2]]]), r"labels \(2, 1, 1\)"),
        (jnp.array([[0.0], [2.0]]), "labels are float32: they must be integers"),
        (1, "labels is a int: give an array"),
        ([[0], [2]], "labels is a list"),
    ],
)
def test_labels_of_no_clients(labels, message):
    with pytest.raises(ValueError, match=message):
        federation.share(KEY, Recipe(), tiny.target(), batch()[0], labels)


@pytest.mark.parametrize(
    "change", [lambda x: x[0], lambda x: x[:, :, :4], lambda x: x[..., None]]
)
def test_images_of_no_clients(change):
    x, labels = batch()
    with pytest.raises(ValueError, match=r"they must be .* for B examples of V client"):
        federation.share(KEY, Recipe(), tiny.target(), change(x), labels)


class TestLoneSigmoid:
    TARGET = Target.from_function(
        lambda w, x: x.reshape(x.shape[0], -1) @ w, jnp.ones((64, 1)), tiny.SHAPE
    )
    MESSAGE = r"one output, whose softmax is 1 .*return jnp.concatenate\(\[0 \* z, z"

    def test_has_no_class_to_recover(self):
        for kind in (WhiteBox, Scores.of):
            with pytest.raises(ValueError, match=self.MESSAGE):
                mi_face.attack(KEY, kind(self.TARGET, jnp.array([0])), ONE_STEP)

    def test_has_no_gradient_of_cross_entropy(self):
        x, labels = batch()
        with pytest.raises(ValueError, match=self.MESSAGE):
            federation.share(KEY, Recipe(), self.TARGET, x, 0 * labels)
        known = SharedUpdate(self.TARGET, update(self.TARGET), labels=0 * labels)
        with pytest.raises(ValueError, match=self.MESSAGE):
            inverting_gradients.attack(KEY, known)
