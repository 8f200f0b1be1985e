"""The prior-aware adversary where its success has a closed form, and its bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mijax.attacks import prior_aware
from mijax.defenses import dp_sgd
from mijax.knowledge import PrivateHistory, validate

VICTIMS, UPDATES, SIZE = 600, 4, 8
ATTACK = jax.jit(prior_aware.attack)


def gradient(params, record):
    """The record itself, which has length 1."""
    return record + 0 * params


def histories(deviation, sampling=1.0, number=SIZE, there=True):
    """Trainings that each saw one of `number` orthogonal records."""
    rng = np.random.default_rng(0)
    candidates = np.eye(SIZE, dtype=np.float32)[:number]
    truth = rng.integers(0, number, VICTIMS)
    took = rng.uniform(size=(VICTIMS, UPDATES, 1)) < sampling
    noise = deviation * rng.normal(size=(VICTIMS, UPDATES, SIZE))
    residual = noise + there * took * candidates[truth][:, None]
    known = PrivateHistory(
        jnp.zeros((VICTIMS, UPDATES, SIZE)),
        jnp.asarray(residual, jnp.float32),
        jnp.asarray(candidates),
        gradient,
        deviation,
        sampling,
    )
    return known, truth


def success(known, truth):
    return float(np.mean(ATTACK(jax.random.key(0), known).guess == truth))


def test_success_is_that_of_a_shift_of_a_normal():
    # Of two orthogonal records: their difference has length sqrt(2), over all updates
    # sqrt(2 T), and the better of two is right with probability Phi(sqrt(2 T) / 2 s).
    known, truth = histories(2.0, number=2)
    expected = stats.norm.cdf(np.sqrt(2 * UPDATES) / 2 / 2.0)
    assert success(known, truth) == pytest.approx(expected, abs=0.05)


def test_the_posterior_is_calibrated():
    known, truth = histories(1.5, sampling=0.5)
    posterior = np.exp(ATTACK(jax.random.key(0), known).log_posterior)
    assert np.mean(posterior.max(1)) == pytest.approx(success(known, truth), abs=0.05)


@pytest.mark.parametrize("sampling", [1.0, 0.5])
@pytest.mark.parametrize("deviation", [1.0, pytest.param(3.0, marks=pytest.mark.slow)])
def test_success_is_below_the_bound_and_above_a_guess(deviation, sampling):
    found = success(*histories(deviation, sampling))
    bound = dp_sgd.reconstruction_bound(1 / SIZE, deviation, sampling, UPDATES)
    error = 3 * np.sqrt(found * (1 - found) / VICTIMS)
    assert 1 / SIZE - error <= found <= bound + error
    assert found > 1.5 / SIZE


def test_null_a_record_that_took_no_part_is_not_found():
    known, truth = histories(1.0, there=False)
    assert success(known, truth) == pytest.approx(1 / SIZE, abs=0.05)


@pytest.mark.parametrize(
    ("prior", "noise"),
    [
        (0.1, 1.0),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [(0.01, 1.0), (0.5, 1.0), (0.01, 5.0), (0.1, 5.0), (0.5, 5.0)]
        ),
    ],
)
def test_the_bound_of_full_batches_is_that_of_two_normals(prior, noise):
    found = dp_sgd.reconstruction_bound(prior, noise, 1.0, UPDATES)
    shift = np.sqrt(UPDATES) / noise
    expected = stats.norm.cdf(stats.norm.ppf(prior) + shift)
    assert expected - 1e-6 <= found <= expected + 0.01


@pytest.mark.slow
def test_the_bound_at_its_ends():
    assert dp_sgd.reconstruction_bound(0.1, 1e4, 1.0, 1) == pytest.approx(0.1, abs=1e-3)
    assert dp_sgd.reconstruction_bound(0.1, 0.05, 1.0, 10) == pytest.approx(1, abs=1e-3)
    less = dp_sgd.reconstruction_bound(0.1, 1.0, 0.1, 10)
    assert less < dp_sgd.reconstruction_bound(0.1, 1.0, 1.0, 10)


def test_bad_input():
    with pytest.raises(ValueError, match="prior="):
        dp_sgd.reconstruction_bound(1.5, 1.0, 1.0, 1)
    with pytest.raises(ValueError, match="updates=0"):
        dp_sgd.reconstruction_bound(0.5, 1.0, 1.0, 0)
    known, _ = histories(1.0)
    with pytest.raises(ValueError, match="give one update for each weight"):
        validate(
            PrivateHistory(known.params[:1], known.residual, known.candidates, gradient)
        )
