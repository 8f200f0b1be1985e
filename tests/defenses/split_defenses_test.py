"""Defenses of split networks and of confidences: scales, closed forms, references."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.spatial import distance

from mijax import training
from mijax.core import Prediction, chain
from mijax.defenses import feature_noise, mid, nopeek, posterior_noise, seeding
from mijax.defenses.trainers.purifier import purifier
from mijax.models.variational import VariationalMLP

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def reference(x, y):
    """The definition's distance correlation, in double precision."""
    centered = []
    for z in (x, y):
        d = distance.cdist(z, z)
        centered.append(d - d.mean(0) - d.mean(1)[:, None] + d.mean())
    a, b = centered
    return np.sqrt((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean()))


@pytest.mark.parametrize("mixed", [0.0, 0.3, 1.0])
def test_distance_correlation_is_the_definitions(mixed):
    x = RNG.normal(size=(30, 5))
    y = mixed * x[:, :3] + (1 - mixed) * RNG.normal(size=(30, 3))
    with jax.enable_x64(True):
        found = nopeek.distance_correlation(jnp.asarray(x), jnp.asarray(y))
        np.testing.assert_allclose(found, reference(x, y), rtol=1e-6)
    single = nopeek.distance_correlation(jnp.asarray(x, "f4"), jnp.asarray(y, "f4"))
    np.testing.assert_allclose(single, reference(x, y), rtol=1e-4)


def test_distance_correlation_of_rotated_and_of_constant():
    x = jnp.asarray(RNG.normal(size=(20, 4)), jnp.float32)
    turned = x @ jnp.asarray(np.linalg.qr(RNG.normal(size=(4, 4)))[0], jnp.float32)
    np.testing.assert_allclose(nopeek.distance_correlation(x, 3 * turned), 1, rtol=1e-5)
    value, slope = jax.value_and_grad(nopeek.distance_correlation, 1)(
        x, jnp.ones((20, 2))
    )
    assert value == 0 and np.all(slope == 0)
    with pytest.raises(ValueError, match="20 inputs and 3 features"):
        nopeek.distance_correlation(x, jnp.ones((3, 2)))


def test_laplace_noise_has_its_scale_and_follows_from_the_features():
    features = jnp.asarray(RNG.normal(size=(50, 400)), jnp.float32)
    send = jax.jit(feature_noise.laplace_features(KEY, 0.5).feature)
    added = np.asarray(send(features) - features)
    assert abs(np.abs(added).mean() - 0.5) < 0.02  # E|Laplace(b)| = b
    np.testing.assert_array_equal(send(features), send(features))
    alone = send(features[3:4]) - features[3:4]
    np.testing.assert_allclose(alone[0], added[3], atol=1e-5)
    assert abs(np.corrcoef(added[0], added[1])[0, 1]) < 0.2
    # Equal features, such as the zeros of a ReLU, do not get equal noise.
    assert len(np.unique(send(jnp.zeros((1, 400))))) > 300


def test_dropout_sends_this_share():
    features = 1 + jnp.asarray(RNG.uniform(size=(50, 400)), jnp.float32)
    sent = np.asarray(feature_noise.feature_dropout(KEY, 0.3).feature(features))
    assert abs(np.mean(sent == 0) - 0.3) < 0.02
    np.testing.assert_array_equal(sent[sent > 0], np.asarray(features)[sent > 0])


def test_posterior_noise_leaves_posteriors():
    p = jnp.asarray(RNG.dirichlet(np.ones(10), 500), jnp.float32)
    noised = posterior_noise.posterior_noise(KEY, 0.01).output(p)
    np.testing.assert_allclose(jnp.sum(noised, 1), 1, rtol=1e-5)
    assert noised.min() >= 0
    moved = np.std(np.asarray(noised - p)[np.asarray(p) > 0.05])
    assert 0.008 < moved < 0.012
    none = posterior_noise.posterior_noise(KEY, 0.0).output(p)
    np.testing.assert_allclose(none, p, rtol=1e-5)


def test_noise_of_examples_that_differ_in_one_number_is_another():
    x = jnp.zeros((2, 3)).at[1, 2].set(1e-6)
    drawn = seeding.each(KEY, x, lambda key: jax.random.normal(key, ()))
    assert drawn[0] != drawn[1]


def test_divergence():
    features = jnp.array([[0.0, 1.0, 0.0, np.log(2.0)]])
    expected = 0.5 * (0 + 1 - 1 - 0) + 0.5 * (1 + 4 - 1 - 2 * np.log(2))
    np.testing.assert_allclose(mid.divergence(features), [expected], rtol=1e-6)


def test_mid_trains_a_bottleneck_that_says_less():
    x = jnp.asarray(RNG.uniform(size=(300, 4, 4, 1)), jnp.float32)
    labels = (x[:, 0, 0, 0] > 0.5).astype(jnp.int32)
    module = VariationalMLP(2, (16,), 4)
    assert module.init_with_output(KEY, x)[0].features.shape == (300, 8)

    @jax.jit
    def told(weight):
        objective = mid.mid(weight).objective(training.cross_entropy)
        optimizer = optax.adam(0.01)
        state = training.train_state(KEY, module, (4, 4, 1), optimizer)
        step = training.supervised(module, optimizer, objective)
        state, _ = training.fit(KEY, state, step, (x, labels), batch_size=50, steps=300)
        found = module.apply(state.variables, x)
        hits = jnp.argmax(found.logits, 1) == labels
        return jnp.mean(mid.divergence(found.features)), jnp.mean(hits)

    (plain, accuracy), (little, _) = told(0.0), told(1.0)
    assert accuracy > 0.9 and little < 0.1 * plain


def test_mid_needs_a_bottleneck():
    loss = mid.mid(1.0).objective(training.cross_entropy)
    prediction = Prediction(jnp.zeros((1, 2)), jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match="MID needs a network whose features"):
        loss(prediction, jnp.zeros(1, jnp.int32))


def test_nopeek_trains_features_that_depend_less():
    x = jnp.asarray(RNG.uniform(size=(200, 6)), jnp.float32)
    labels = (x[:, 0] > 0.5).astype(jnp.int32)

    def first(variables, x):
        return jnp.tanh(x @ variables["params"]["first"])

    def rest(variables, v):
        return v @ variables["params"]["rest"]

    shapes = {"first": (6, 5), "rest": (5, 2)}
    params = {
        k: jnp.asarray(RNG.normal(size=s), jnp.float32) for k, s in shapes.items()
    }

    @jax.jit
    def correlation(weight):
        defense = chain(nopeek.nopeek(weight), nopeek.nopeek(weight))
        optimizer = optax.adam(0.02)
        state = training.TrainState({"params": params}, optimizer.init(params))
        step = training.split(first, rest, optimizer, defense)
        state, metrics = training.fit(
            KEY, state, step, (x, labels), batch_size=50, steps=300
        )
        v = first(state.variables, x)
        return nopeek.distance_correlation(x, v), metrics["accuracy"][-20:].mean()

    (plain, _), (less, accuracy) = correlation(0.0), correlation(1.0)
    assert less < plain - 0.05 and accuracy > 0.85


def test_a_purifier_keeps_labels_and_takes_off_the_rest():
    labels = jnp.asarray(RNG.integers(0, 3, 600))
    logits = 4 * jax.nn.one_hot(labels, 3) + RNG.normal(size=(600, 3))
    p = jax.nn.softmax(logits.astype(jnp.float32))
    said = jnp.argmax(p, 1)
    train = jax.jit(lambda key: purifier(key, p, said, 3.0, (16, 2, 16), 2000))
    purified = train(KEY).output(p)
    assert np.mean(jnp.argmax(purified, 1) == said) > 0.97
    within = lambda q: np.mean([np.std(q[said == k], 0) for k in range(3)])
    assert within(np.asarray(purified)) < 0.9 * within(np.asarray(p))
    with pytest.raises(ValueError, match=r"confidences are \(600, 3\).*\(2,\)"):
        purifier(KEY, p, said[:2])
