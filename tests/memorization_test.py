"""Song et al.'s four ways to hide data in a model, on a small trained network."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mijax.attacks import (
    capacity_abuse,
    correlated_values,
    least_significant_bits,
    sign_encoding,
)
from mijax.attacks.pipeline.weights import carriers
from mijax.core import Coding, Target, compressed, restored, to_bits, to_bytes
from mijax.knowledge import Labels, TrainingPipeline

SHAPE, CLASSES, WIDTH = (6,), 4, 64
KEY = jax.random.key(0)
BITS = jax.random.bernoulli(jax.random.key(1), shape=(120,)).astype(jnp.float32)


def network(params, x):
    return jax.nn.relu(x @ params["first"] + params["bias"][None]) @ params["second"]


def first_weights():
    keys = jax.random.split(jax.random.key(2))
    return {
        "first": jax.random.normal(keys[0], (SHAPE[0], WIDTH)) / 3,
        "bias": jnp.zeros(WIDTH),
        "second": jax.random.normal(keys[1], (WIDTH, CLASSES)) / 8,
    }


def data():
    x = jax.random.normal(jax.random.key(3), (256, *SHAPE))
    return x, jnp.argmax(x[:, :CLASSES], 1)


@functools.partial(jax.jit, static_argnames=("optimizer", "steps"))
def fitted(x, labels, optimizer, steps=400):
    def loss(params):
        logits = network(params, x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    def step(state, _):
        params, optimizer_state = state
        updates, optimizer_state = optimizer.update(
            jax.grad(loss)(params), optimizer_state, params
        )
        return (optax.apply_updates(params, updates), optimizer_state), None

    params = first_weights()
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return params


def target(params):
    return Target(params, network, SHAPE, CLASSES)


def accuracy(params):
    x, labels = data()
    return float(jnp.mean(jnp.argmax(network(params, x), 1) == labels))


def trained_with(transformation):
    return fitted(*data(), optimizer=optax.chain(transformation, optax.adam(1e-2)))


def read(method, params, length, config):
    return method.attack(KEY, TrainingPipeline(target(params), length), config)


class TestLeastSignificantBits:
    @pytest.mark.parametrize("size", [1, 8, 20, 23])
    def test_every_bit_returns_and_accuracy_stays(self, size):
        params = fitted(*data(), optimizer=optax.adam(1e-2))
        config = least_significant_bits.Config(bits_per_weight=size)
        hidden = least_significant_bits.embed(params, BITS, config)
        found = read(least_significant_bits, hidden, len(BITS), config)
        np.testing.assert_array_equal(found.values, BITS)
        assert abs(accuracy(hidden) - accuracy(params)) <= 0.05
        np.testing.assert_array_equal(hidden["bias"], params["bias"])

    def test_bytes_survive(self):
        content = b"a name, 1970-01-01"
        hidden = least_significant_bits.embed(first_weights(), to_bits(content))
        found = read(
            least_significant_bits,
            hidden,
            8 * len(content),
            least_significant_bits.Config(),
        )
        assert to_bytes(found.values) == content

    def test_rounding_the_weights_removes_them(self):
        hidden = least_significant_bits.embed(first_weights(), BITS)
        rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), hidden)
        config = least_significant_bits.Config()
        found = read(least_significant_bits, rounded, len(BITS), config)
        assert jnp.mean(found.values == BITS) < 0.75

    def test_a_longer_payload_than_the_weights_carry_is_refused(self):
        capacity = 20 * carriers(first_weights()).size
        bits = jnp.zeros(capacity + 3)
        with pytest.raises(ValueError, match=r"carries 12,800, 3 too few"):
            least_significant_bits.embed(first_weights(), bits)

    def test_sign_and_exponent_stay(self):
        with pytest.raises(ValueError, match="bits_per_weight is 24"):
            least_significant_bits.Config(bits_per_weight=24)


class TestSignEncoding:
    def test_signs_spell_the_payload_and_the_task_is_learned(self):
        config = sign_encoding.Config(weight=50.0)
        params = trained_with(sign_encoding.malicious_gradient(BITS, config))
        found = read(sign_encoding, params, len(BITS), config)
        assert jnp.mean(found.values == BITS) >= 0.95
        assert accuracy(params) >= 0.9

    def test_null_without_penalty_signs_spell_nothing(self):
        config = sign_encoding.Config(weight=0.0)
        params = trained_with(sign_encoding.malicious_gradient(BITS, config))
        found = read(sign_encoding, params, len(BITS), config)
        assert 0.35 <= jnp.mean(found.values == BITS) <= 0.65

    def test_the_penalty_is_zero_where_all_signs_agree(self):
        params = {"w": jnp.array([[2.0, -1.0], [0.5, 3.0]])}
        config = sign_encoding.Config(weight=3.0)
        agreeing = jnp.array([1.0, 0.0, 1.0, 1.0])
        assert sign_encoding.penalty(params, agreeing, config) == 0
        value = sign_encoding.penalty(params, 1 - agreeing, config)
        np.testing.assert_allclose(value, 3 * (2 + 1 + 0.5 + 3) / 4, rtol=1e-6)


class TestCorrelatedValues:
    def test_weights_follow_the_payload(self):
        values = jax.random.uniform(jax.random.key(5), (120,))
        config = correlated_values.Config(10.0, mean=0.5, deviation=12**-0.5)
        params = trained_with(correlated_values.malicious_gradient(values, config))
        assert correlated_values.correlation(params, values) >= 0.9
        found = read(correlated_values, params, len(values), config)
        assert jnp.mean(jnp.abs(found.values - values)) < 0.1
        assert accuracy(params) >= 0.9

    def test_null_without_weight_nothing_follows(self):
        values = jax.random.uniform(jax.random.key(5), (120,))
        config = correlated_values.Config(0.0)
        params = trained_with(correlated_values.malicious_gradient(values, config))
        assert abs(correlated_values.correlation(params, values)) < 0.3

    def test_correlation_is_pearsons(self):
        params = {"w": jax.random.normal(KEY, (3, 4))}
        values = jax.random.normal(jax.random.key(7), (12,))
        expected = np.corrcoef(np.ravel(params["w"]), values)[0, 1]
        found = correlated_values.correlation(params, values)
        np.testing.assert_allclose(found, expected, atol=1e-5)


class TestCapacityAbuse:
    @staticmethod
    def learned(bits, poisoned=True):
        x, labels = data()
        config = capacity_abuse.Config(length=len(bits))
        synthetic = capacity_abuse.synthetic(SHAPE, CLASSES, bits, config)
        if poisoned:
            x, labels = (
                jnp.concatenate(pair)
                for pair in zip((x, labels), synthetic, strict=True)
            )
        return fitted(x, labels, optimizer=optax.adam(3e-2), steps=1500), config

    def test_labels_spell_the_payload(self):
        params, config = self.learned(BITS[:40])
        box = Labels.of(target(params), jnp.zeros(1, jnp.int32))
        found = capacity_abuse.attack(KEY, box, config)
        assert jnp.mean(found.values == BITS[:40]) >= 0.95
        assert found.queries == 20  # Two bits per label of four classes.
        assert accuracy(params) >= 0.9

    def test_null_a_model_that_never_saw_them_spells_nothing(self):
        params, config = self.learned(BITS[:40], poisoned=False)
        box = Labels.of(target(params), jnp.zeros(1, jnp.int32))
        found = capacity_abuse.attack(KEY, box, config)
        assert jnp.mean(found.values == BITS[:40]) <= 0.75

    def test_a_budget_is_kept(self):
        box = Labels.of(target(first_weights()), jnp.zeros(1, jnp.int32), budget=10)
        with pytest.raises(Exception, match="budget"):
            found = capacity_abuse.attack(KEY, box, capacity_abuse.Config(length=40))
            jax.block_until_ready(found.values)

    def test_a_single_class_carries_nothing(self):
        with pytest.raises(ValueError, match="1 class: labels carry bits from 2"):
            capacity_abuse.bits_per_label(1)


def test_bits_and_bytes():
    assert to_bytes(to_bits(b"\x00\x80\xff ok")) == b"\x00\x80\xff ok"
    with pytest.raises(ValueError, match="7 bits"):
        to_bytes(jnp.zeros(7))


def test_compression():
    content = b"a name, 1970-01-01; " * 40
    short = compressed(content)
    assert len(short) < len(content) / 10
    assert restored(short + b"what the other weights say") == content
    with pytest.raises(ValueError, match="damaged"):
        restored(short[:-1] + bytes([short[-1] ^ 1]))
    with pytest.raises(ValueError, match="cut off"):
        restored(short[:-6])


@pytest.mark.parametrize(
    ("write", "unit"),
    [
        (lambda params, bits: sign_encoding.penalty(params, bits), "bits"),
        (lambda params, bits: correlated_values.correlation(params, bits), "values"),
    ],
)
def test_what_the_weights_cannot_carry(write, unit):
    params = first_weights()
    capacity = carriers(params).size
    said = f"has {capacity + 7} {unit} and the model carries {capacity}, 7 too few"
    with pytest.raises(ValueError, match=said):
        write(params, jnp.zeros(capacity + 7))


@pytest.mark.parametrize(
    "method", [least_significant_bits, sign_encoding, correlated_values]
)
def test_weights_of_another_architecture_are_refused(method):
    """The one that was released is smaller than the one that was written."""
    params = {"first": jnp.ones((6, 2)), "second": jnp.ones((2, 4))}
    with pytest.raises(ValueError, match=r"carries (20|400), \d+ too few"):
        read(method, params, 500, method.Config())
    with pytest.raises(ValueError, match="no weights of two axes or more"):
        read(method, {"bias": jnp.ones(4)}, 1, method.Config())


class TestCoding:
    CONTENT = b"a name, 1970-01-01; " * 40
    KEY = bytes(range(32))

    def test_content_returns_and_longer_payloads_are_refused(self):
        coding = Coding()
        bits = coding.encode(self.CONTENT)
        assert bits.size < 8 * len(self.CONTENT) / 10
        assert coding.encode(self.CONTENT, capacity=bits.size).size == bits.size
        assert coding.decode(bits) == self.CONTENT
        assert Coding(compress=False).encode(b"ab").size == 16
        with pytest.raises(ValueError, match=f"carries {bits.size - 5}, 5 too few"):
            coding.encode(self.CONTENT, capacity=bits.size - 5)
        with pytest.raises(ValueError, match="cut off"):
            coding.decode(bits[:-48])

    def test_sizes_are_checked(self):
        with pytest.raises(ValueError, match="5 bytes: AES-SIV takes 32, 48, 64"):
            Coding(key=b"short")
        with pytest.raises(ValueError, match="parity is 255"):
            Coding(parity=255)
        assert "key" not in repr(Coding(key=self.KEY))

    def test_packages_that_are_missing_are_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "reedsolo", None)
        with pytest.raises(ModuleNotFoundError, match=r"reedsolo: pip install"):
            Coding(parity=8).encode(self.CONTENT)

    def test_encrypted(self):
        pytest.importorskip("cryptography", reason="it is of the extra `payload`")
        coding = Coding(key=self.KEY)
        bits = coding.encode(self.CONTENT)
        plain = Coding().encode(self.CONTENT)
        assert bits.size == plain.size + 8 * 16
        share = float(jnp.mean(bits[-plain.size :] == plain))
        assert abs(share - 0.5) < 0.15  # Nothing of the content is seen.
        assert coding.decode(bits) == self.CONTENT
        for other in (bits.at[3].set(1 - bits[3]), coding.encode(b"x" * 9)[::-1]):
            with pytest.raises(ValueError, match="does not decrypt"):
                coding.decode(other)
        with pytest.raises(ValueError, match="or the key is another one"):
            Coding(key=bytes(32)).decode(bits)

    def test_wrong_bits_are_put_right(self):
        pytest.importorskip("reedsolo", reason="it is of the extra `payload`")
        coding = Coding(compress=False, parity=64)
        content = np.random.default_rng(0).bytes(3 * (255 - 64))
        bits = coding.encode(content)
        assert coding.room(bits.size) == len(content)
        wrong = jax.random.bernoulli(KEY, 0.005, bits.shape)
        assert int(wrong.sum()) > 10
        assert coding.decode(jnp.where(wrong, 1 - bits, bits)) == content
        with pytest.raises(ValueError, match="more wrong ones in a block than 64"):
            coding.decode(1 - bits)

    @pytest.mark.parametrize("bits", [8, 16 * 8, 255 * 8, 700 * 8, 1003 * 8 + 5])
    def test_room_is_what_fits(self, bits):
        pytest.importorskip("cryptography", reason="it is of the extra `payload`")
        pytest.importorskip("reedsolo", reason="it is of the extra `payload`")
        coding = Coding(compress=False, key=self.KEY, parity=10)
        room = coding.room(bits)
        if room:
            assert coding.encode(bytes(room), bits).size <= bits
        with pytest.raises(ValueError, match="too few: shorten"):
            coding.encode(bytes(room + 1), bits)
