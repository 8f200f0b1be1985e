"""Labels read from updates: exact where each rule's assumptions hold."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from mijax import federation
from mijax.attacks.leakage import label_rules
from mijax.core import Prediction, Target
from mijax.federation import Recipe
from mijax.knowledge import SharedUpdate

SHAPE = (4, 4, 1)
SIZES = (1, 7, 64)
SHARE = jax.jit(federation.share)
BIAS_CORRECTED = jax.jit(label_rules.bias_corrected)


class Net(nn.Module):
    classes: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x, train=False):
        del train
        features = nn.sigmoid(nn.Dense(8)(x.reshape(len(x), -1)))
        small = nn.initializers.normal(0.01)
        logits = nn.Dense(self.classes, use_bias=self.use_bias, kernel_init=small)
        return Prediction(logits(features), features)


def shared(labels, classes=10, scale=1.0, recipe=Recipe(), **options):
    net = Net(classes, **options)
    variables = net.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    variables = jax.tree.map(lambda leaf: scale * leaf, variables)
    target = Target.from_linen(net, variables, SHAPE)
    labels = jnp.asarray(labels, jnp.int32)
    x = jax.random.uniform(jax.random.key(1), (*labels.shape, *SHAPE))
    update = SHARE(jax.random.key(2), recipe, target, x, labels)
    return SharedUpdate(target, update.change, labels.shape[1], recipe)


def drawn(size, classes=10, victims=3, **options):
    rng = np.random.default_rng(size)
    return np.sort([rng.choice(classes, size, **options) for _ in range(victims)])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("use_bias", [True, False])
def test_bias_corrected_counts_labels_that_repeat(size, use_bias):
    labels = drawn(size)
    knowledge = shared(labels, use_bias=use_bias)
    np.testing.assert_array_equal(BIAS_CORRECTED(knowledge), labels)


def test_bias_corrected_uses_public_images_of_a_confident_model():
    labels = drawn(16)
    knowledge = shared(labels, scale=20.0)
    public = jax.random.uniform(jax.random.key(9), (64, *SHAPE))
    informed = SharedUpdate(knowledge.target, knowledge.update, 16, public=public)
    np.testing.assert_array_equal(BIAS_CORRECTED(informed), labels)


def test_confidences_follow_the_features_of_the_batch():
    rng = np.random.default_rng(0)
    labels = np.array([0, 2, 2, 3])
    own, public = rng.uniform(size=(4, 6)), rng.uniform(size=6)  # Features.
    z = 1 / 5 - np.eye(5)[labels]  # All confidences alike: this is exact.
    slopes = own.T @ z / 4
    weights = jnp.asarray(rng.normal(size=(6, 5)))
    found = label_rules._confidence_of_batch(
        jnp.asarray(np.eye(5)[labels].mean(0)),
        jnp.asarray(slopes),
        jnp.asarray(z.mean(0)),
        jnp.zeros((7, 5)),
        jnp.asarray(public),
        weights,
    )
    expected = jax.nn.softmax((own.mean(0) - public) @ np.asarray(weights))
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.abs(expected - 1 / 5).max() > 0.1  # What public images would say.


def test_confidences_of_other_images_do_not_mislead():
    labels = drawn(16, victims=8)
    public = 0.5 * jax.random.uniform(jax.random.key(9), (64, *SHAPE))  # It is darker.
    known = dataclasses.replace(shared(labels, scale=60.0), public=public)
    np.testing.assert_array_equal(BIAS_CORRECTED(known), labels)


class Normalized(nn.Module):
    """Its confidences depend on whether it normalizes by the batch."""

    @nn.compact
    def __call__(self, x, train=False):
        x = 40 * x.reshape(len(x), -1)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(10, bias_init=nn.initializers.normal(2.0))(nn.relu(x))


@pytest.mark.parametrize("size", [8, 16, 32])
def test_bias_corrected_normalizes_as_clients_do(size):
    labels = jnp.asarray(drawn(size, victims=8), jnp.int32)
    variables = Normalized().init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    target = Target.from_linen(Normalized(), variables, SHAPE)
    x = jax.random.uniform(jax.random.key(1), (*labels.shape, *SHAPE))
    public = jax.random.uniform(jax.random.key(9), (250, *SHAPE))
    recipe = Recipe(train=True)
    update = SHARE(jax.random.key(2), recipe, target, x, labels).change
    knowledge = SharedUpdate(target, update, size, recipe, public=public)
    running = dataclasses.replace(knowledge, recipe=Recipe())
    counts, wrong = (
        jax.nn.one_hot(BIAS_CORRECTED(known), 10).sum(1)
        for known in (knowledge, running)
    )
    expected = jax.nn.one_hot(labels, 10).sum(1)
    found, missed = (
        np.minimum(c, expected).sum() / labels.size for c in (counts, wrong)
    )
    assert found >= 0.98 > missed


@pytest.mark.parametrize("size", SIZES)
def test_wainakh_counts_few_classes_of_many(size):
    labels = 7 * drawn(size, classes=min(3, -(-size // 8)))
    knowledge = shared(labels, classes=100)
    np.testing.assert_array_equal(label_rules.wainakh(knowledge), labels)


@pytest.mark.parametrize("size", SIZES)
def test_yin_finds_distinct_labels(size):
    labels = drawn(size, classes=100, replace=False)
    knowledge = shared(labels, classes=100)
    np.testing.assert_array_equal(label_rules.yin(knowledge), labels)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_idlg_is_exact_for_one(use_bias, scale):
    labels = np.arange(10)[:, None]
    knowledge = shared(labels, scale=scale, use_bias=use_bias)
    np.testing.assert_array_equal(label_rules.idlg(knowledge), labels)


def test_changes_of_weights_tell_as_gradients_do():
    labels = drawn(8)
    knowledge = shared(labels, recipe=Recipe(local_steps=3, learning_rate=0.01))
    np.testing.assert_array_equal(BIAS_CORRECTED(knowledge), labels)


def momentum(rate):
    return optax.chain(optax.add_decayed_weights(0.5), optax.sgd(rate, momentum=0.9))


def test_momentum_and_weight_decay_are_taken_off():
    labels = drawn(8)
    recipe = Recipe(local_steps=5, learning_rate=1e-3, optimizer=momentum)
    np.testing.assert_array_equal(BIAS_CORRECTED(shared(labels, recipe=recipe)), labels)


def test_optimizers_whose_change_is_no_sum_of_gradients_are_refused():
    adam = Recipe(local_steps=2, optimizer=optax.adam)
    uneven = Recipe(local_steps=4, local_batch=2, optimizer=momentum)
    for recipe, message in [(adam, "twice as far"), (uneven, "early local steps more")]:
        with pytest.raises(ValueError, match=message):
            BIAS_CORRECTED(shared(drawn(8), recipe=recipe))


@pytest.mark.parametrize("guess", [1e-5, 1.0])
def test_an_unknown_learning_rate_is_estimated(guess):
    labels = drawn(8)
    known = shared(labels, recipe=Recipe(local_steps=4, learning_rate=3e-3))
    unknown = dataclasses.replace(
        known, recipe=dataclasses.replace(known.recipe, learning_rate=guess)
    )
    found = jax.jit(label_rules.learning_rate)(unknown)
    np.testing.assert_allclose(found, 3e-3, rtol=0.05)


@pytest.mark.parametrize("steps", [5, 7])
def test_visits_of_unequal_local_steps_are_counted(steps):
    labels = drawn(8, victims=20)
    labels = np.random.default_rng(0).permuted(labels, axis=1)
    recipe = Recipe(local_steps=steps, local_batch=2, learning_rate=1e-4)
    knowledge = shared(labels, recipe=recipe)
    taken = np.resize(np.arange(8), 2 * steps)
    one_hot = np.eye(10, dtype=int)[labels]
    found = jax.jit(label_rules.visited)(knowledge)
    np.testing.assert_array_equal(found, one_hot[:, taken].sum(1))
    counts = np.eye(10, dtype=int)[BIAS_CORRECTED(knowledge)].sum(1)
    assert np.minimum(counts, one_hot.sum(1)).sum() >= 0.9 * labels.size


def test_examples_that_no_step_takes_are_refused():
    recipe = Recipe(local_steps=3, local_batch=2)
    with pytest.raises(ValueError, match=r"take 6 of 8 examples.*batch_size=6"):
        label_rules.bias_corrected(shared(drawn(8), recipe=recipe))


def test_restarts_try_every_order_of_labels():
    recipe = Recipe(local_steps=2, local_batch=2)
    knowledge = shared(np.array([[3, 1, 4, 0]]), recipe=recipe)
    rule = label_rules.bias_corrected
    tried = np.asarray(label_rules.labels_of_restarts(knowledge, rule, 7))
    assert tried.shape == (1, 7, 4)
    firsts = {tuple(sorted(order[:2])) for order in tried[0]}
    assert len(firsts) == 6 and np.all(np.sort(tried) == [0, 1, 3, 4])
    with pytest.raises(ValueError, match=r"in 6 orders, but restarts is 5: .*=6"):
        label_rules.labels_of_restarts(knowledge, rule, 5)


def test_labels_that_are_known_are_taken():
    labels = drawn(2)
    knowledge = shared(labels)
    known = SharedUpdate(
        knowledge.target, knowledge.update, 2, labels=jnp.asarray(labels[:, ::-1])
    )
    found = label_rules.labels_of(known, label_rules.idlg)
    np.testing.assert_array_equal(found, labels[:, ::-1])


def test_rules_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="batch of 1, not 2"):
        label_rules.idlg(shared(drawn(2)))
    with pytest.raises(ValueError, match="16 examples share 10 classes"):
        label_rules.yin(shared(drawn(16)))


def test_a_last_layer_that_cannot_be_told_is_refused():
    def logits(params, x):
        return x.reshape(len(x), -1) @ params["a"] @ params["b"]

    params = {"a": jnp.ones((16, 3)), "b": jnp.ones((3, 3))}
    target = Target.from_function(logits, params, SHAPE)
    update = jax.tree.map(lambda leaf: leaf[None], params)
    with pytest.raises(ValueError, match=r"last layer.*\['a'\], \['b'\]"):
        label_rules.idlg(SharedUpdate(target, update))
