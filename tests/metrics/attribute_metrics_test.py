"""Verdicts on inferred attributes: closed forms, imbalance, what cannot be computed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mijax.metrics import attributes, intervals

TRUTH = np.array([0, 0, 0, 0, 1, 1])
GUESS = np.array([0, 0, 0, 1, 1, 0])


def test_shares_are_of_whom_their_name_says():
    np.testing.assert_array_equal(attributes.correct(GUESS, TRUTH), [1, 1, 1, 0, 1, 0])
    assert attributes.precision(GUESS, TRUTH, 1).mean() == 0.5
    assert attributes.recall(GUESS, TRUTH, 0).mean() == 0.75
    assert attributes.g_mean(GUESS, TRUTH) == pytest.approx(np.sqrt(0.75 * 0.5))
    # tp 1, tn 3, fp 1, fn 1
    assert attributes.matthews_correlation(GUESS, TRUTH) == pytest.approx(2 / 8)


def test_a_guess_of_none_is_no_success():
    none = np.full(6, -1)
    assert attributes.correct(none, TRUTH).sum() == 0
    assert attributes.precision(none, TRUTH, 1).size == 0


def test_the_mode_gets_nothing_but_accuracy():
    mode = np.zeros(6, int)
    assert attributes.correct(mode, TRUTH).mean() == pytest.approx(4 / 6)
    assert attributes.g_mean(mode, TRUTH) == 0
    assert attributes.matthews_correlation(mode, TRUTH) == 0
    assert attributes.macro_auc(np.tile([0.7, 0.3], (6, 1)), TRUTH) == 0.5


def test_macro_auc_is_the_mean_over_values_that_occur():
    beliefs = np.eye(3)[[0, 0, 0, 1, 1, 0]]
    assert attributes.macro_auc(beliefs, TRUTH) == pytest.approx((0.625 + 0.625) / 2)
    assert attributes.macro_auc(np.eye(3)[TRUTH], TRUTH) == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_bounds_hold_for_any_guess(pairs):
    guess, truth = np.array(pairs).T
    assert 0 <= attributes.g_mean(guess, truth) <= 1
    assert -1 <= attributes.matthews_correlation(guess, truth) <= 1


@pytest.mark.parametrize(
    ("beliefs", "truth", "message"),
    [
        (np.ones((3, 2)), np.zeros(3, int), "one value"),
        (np.ones((3, 2)), np.zeros(4, int), r"must be \[B, C\]"),
        (np.full((2, 2), np.nan), np.array([0, 1]), "not finite"),
    ],
)
def test_refuses_what_has_no_curve(beliefs, truth, message):
    with pytest.raises(ValueError, match=message):
        attributes.macro_auc(beliefs, truth)


def test_refuses_guesses_of_other_records():
    with pytest.raises(ValueError, match="must both be"):
        attributes.correct(GUESS, TRUTH[:3])


def test_a_difference_of_groups_covers_the_truth():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(40):
        a, b = rng.random(150) < 0.7, rng.random(120) < 0.5
        line = intervals.difference(a, b, resamples=400, seed=trial)
        assert line.n == 150
        covered += line.low <= 0.2 <= line.high
    assert covered >= 34
    with pytest.raises(ValueError, match="independent"):
        intervals.difference([1.0], [0.0, 1.0])
