"""Labels read from updates: exact where each rule's assumptions hold."""

import jax
import jax.numpy as jnp
import numpy as np
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
