"""The informed adversary against a model whose weights tell its last record."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mijax.attacks import informed_adversary
from mijax.knowledge import AllButOne, validate

SIZE, KNOWN, SHADOWS, VICTIMS = 4, 12, 256, 24
CONFIG = informed_adversary.Config(
    widths=(64,), steps=1500, batch_size=32, learning_rate=1e-2, noise=0.0
)
INITIAL = {"w": jnp.zeros((SIZE, 2)), "b": jnp.zeros(2)}
ATTACK = jax.jit(informed_adversary.attack)


def losses(params, records):
    x, labels = records
    logits = x @ params["w"] + params["b"][None]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


LEARN = informed_adversary.trained_with(losses, optax.sgd(0.5), INITIAL, 20)


def drawn(seed, number):
    keys = jax.random.split(jax.random.key(seed))
    x = jax.random.uniform(keys[0], (number, SIZE))
    return x, jax.random.bernoulli(keys[1], shape=(number,)).astype(jnp.int32)


KNOWN_RECORDS = drawn(0, KNOWN)
MANY = jax.jit(lambda known, rows: informed_adversary.shadows(LEARN, known, rows, 64))


def knowledge(released):
    x, labels = drawn(1, SHADOWS)
    return AllButOne(released, MANY(KNOWN_RECORDS, (x, labels)), x)


def test_shadows_are_what_training_on_all_records_gives():
    x, labels = drawn(2, 3)
    found = MANY(KNOWN_RECORDS, (x, labels))
    whole = jax.tree.map(
        lambda a, b: jnp.concatenate([a, b[1:2]]), KNOWN_RECORDS, (x, labels)
    )
    params = INITIAL
    slope = jax.jit(jax.grad(lambda params: losses(params, whole).mean()))
    for _ in range(20):
        params = jax.tree.map(lambda p, g: p - 0.5 * g, params, slope(params))
    np.testing.assert_allclose(found["w"][1], params["w"], rtol=1e-4, atol=1e-6)


def test_recovers_the_missing_record_and_a_null_case_recovers_nothing():
    x, labels = drawn(3, VICTIMS)
    known = knowledge(MANY(KNOWN_RECORDS, (x, labels)))
    found = ATTACK(jax.random.key(0), known, CONFIG)
    x = np.asarray(x)
    guess = np.mean((np.asarray(known.x).mean(0) - x) ** 2)
    error = np.mean((found.x - x) ** 2)
    assert error < 0.15 * guess
    # What the adversary measures by itself is the error on the victims.
    assert found.loss[0] == pytest.approx(error, rel=1.0)
    assert found.trace.shape == (VICTIMS, 1, CONFIG.steps)
    # Null: models that were trained with other people's records.
    others = knowledge(MANY(KNOWN_RECORDS, drawn(4, VICTIMS)))
    null = ATTACK(jax.random.key(0), others, CONFIG)
    assert np.mean((null.x - x) ** 2) > guess


def test_weights_of_another_architecture():
    known = knowledge({"w": jnp.zeros((2, SIZE, 3)), "b": jnp.zeros((2, 3))})
    with pytest.raises(ValueError, match="of the released architecture"):
        informed_adversary.attack(jax.random.key(0), known, CONFIG)
    with pytest.raises(ValueError, match="of the released architecture"):
        validate(known)
    with pytest.raises(ValueError, match="steps is 0"):
        informed_adversary.Config(steps=0)
