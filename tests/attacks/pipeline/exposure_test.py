"""Extraction of secrets from language models of known probabilities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax.attacks import exposure
from mijax.core import Target
from mijax.knowledge import PartialText, validate
from mijax.metrics import exposure as metric

KEY = jax.random.key(0)
LENGTH, ALPHABET = 3, 6  # symbols 1 to 5; secrets are of 2, 3, 4 and 5
SYMBOLS = jnp.arange(2, 6)


def model(params, x):
    """Logits by the last two symbols: a Markov chain of order two."""
    symbols = x.astype(jnp.int32)
    return params[symbols[:, -2], symbols[:, -1]]


def knowledge(seed=0, scale=2.0, prefixes=((0, 0, 1), (0, 1, 1)), **options):
    params = scale * jax.random.normal(jax.random.key(seed), (ALPHABET,) * 3)
    target = Target.from_function(model, params, (3,))
    prefix = jnp.array(prefixes)
    return PartialText.of(target, prefix, SYMBOLS, LENGTH, **options), params


def by_hand(params, prefix):
    """Log-perplexity of every secret, in NumPy, one after another."""
    log = np.log2(np.asarray(jax.nn.softmax(params)))
    found = []
    for secret in itertools.product(np.asarray(SYMBOLS), repeat=LENGTH):
        text = [*prefix, *secret]
        found.append(
            -sum(log[text[i - 2], text[i - 1], text[i]] for i in range(3, len(text)))
        )
    return np.array(found)


ENUMERATE = jax.jit(exposure.log_perplexities)


def test_enumeration_is_that_of_a_loop():
    known, params = knowledge()
    found, left = ENUMERATE(known)
    expected = [by_hand(params, row) for row in np.asarray(known.prefix)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert left.spent == 2 * (1 + 4 + 16)


def test_given_secrets_have_their_perplexity():
    known, _ = knowledge()
    every = np.array(list(itertools.product(range(4), repeat=LENGTH)))
    secrets = jnp.asarray(np.broadcast_to(every[[3, 40]], (2, 2, LENGTH)))
    found, left = exposure.log_perplexity(known, secrets)
    np.testing.assert_allclose(found, ENUMERATE(known)[0][:, [3, 40]], rtol=1e-4)
    assert left.spent == 2 * 2 * LENGTH


@pytest.mark.parametrize("width", [1, 5])
def test_the_search_finds_the_best_of_all(width):
    search = jax.jit(exposure.attack)
    config = exposure.Config(width=width, frontier=64)
    for seed in range(3):
        known, _ = knowledge(seed)
        found = search(KEY, known, config)
        costs = np.asarray(ENUMERATE(known)[0])
        np.testing.assert_allclose(found.bits, costs.min(1), rtol=1e-4)
        secrets = np.array(list(itertools.product(range(2, 6), repeat=LENGTH)))
        np.testing.assert_array_equal(found.secret, secrets[costs.argmin(1)])
        assert found.exact.all()
        assert found.queries > 0


def test_a_frontier_too_small_says_that_it_may_be_wrong():
    known, _ = knowledge(scale=0.3)
    found = exposure.attack(KEY, known, exposure.Config(width=1, frontier=2))
    best = np.asarray(ENUMERATE(known)[0]).min(1)
    assert not found.exact.any()
    assert np.all(np.asarray(found.bits) >= best - 1e-4)
    assert np.all(np.asarray(found.dropped) <= found.bits)


def test_a_search_that_ends_early_returns_no_secret():
    found = exposure.attack(KEY, knowledge()[0], exposure.Config(rounds=1))
    assert not found.exact.any()
    assert (found.secret[:, -1] == 0).all()


def test_a_planted_secret_has_all_bits_and_others_have_the_mean():
    known, params = knowledge(scale=0.1)
    planted = [2, 5, 3]
    text = [0, 1, *planted]
    for i in range(2, len(text)):
        params = params.at[text[i - 2], text[i - 1], text[i]].add(6.0)
    target = Target.from_function(model, params, (3,))
    known = PartialText.of(target, known.prefix[:1], SYMBOLS, LENGTH)
    found = exposure.attack(KEY, known)
    np.testing.assert_array_equal(found.secret[0], planted)
    costs = np.asarray(ENUMERATE(known)[0])
    each = metric.exact(costs[0], np.repeat(costs, costs.size, 0))
    assert each[np.argmin(costs)] == np.log2(4**LENGTH)
    # The mean over all secrets, each as likely to be the canary, is log2(e) for many.
    many = np.arange(10_000.0)
    ranks = np.log2(1e4) - np.log2(many + 1)
    assert abs(ranks.mean() - metric.NEVER_INSERTED) < 2e-3
    assert each.mean() == pytest.approx(np.mean(6 - np.log2(np.arange(1, 65))))


def test_ties_share_their_ranks():
    found = metric.exact([1.0, 1.0], [[1.0, 1.0, 2.0, 3.0], [0.0, 0.5, 1.0, 2.0]])
    np.testing.assert_allclose(found, [2 - np.log2(1.5), 2 - np.log2(3)])


def test_the_approximation_is_near_the_exact_exposure():
    rng = np.random.default_rng(0)
    costs = np.sort(rng.normal(40, 5, 20_000) + rng.exponential(4, 20_000))
    canary = costs[[10_000, 2_000, 60]]
    rows = np.broadcast_to(costs, (3, costs.size))
    approximate = metric.approximate(canary, rng.permuted(rows, axis=1)[:, :3_000])
    np.testing.assert_allclose(approximate, metric.exact(canary, rows), atol=0.7)
    beyond = metric.approximate([costs.min() - 30], rows[:1, ::20])
    assert beyond[0] > np.log2(costs.size)


def test_bad_input():
    known, _ = knowledge(prefixes=((0, 0, 7),))
    with pytest.raises(ValueError, match="prefix holds symbol 7, outside the model's"):
        exposure.attack(KEY, known)
    with pytest.raises(ValueError, match="outside the model's alphabet"):
        validate(PartialText(known.oracle, known.prefix * 0, jnp.array([0, 2]), 2))
    with pytest.raises(ValueError, match="NaN"):
        metric.exact([float("nan")], [[1.0]])
    with pytest.raises(ValueError, match=r"give \[V\]"):
        metric.exact([1.0], [1.0])
    known, _ = knowledge(budget=5)
    with pytest.raises(Exception, match="budget"):
        jax.block_until_ready(exposure.log_perplexities(known))
