"""Was the missing field inferred? Verdicts on guesses and on posteriors.

Letters: `B` records, `C` candidate values of the sensitive field, numbered from 0.
Under imbalance accuracy flatters whoever names the mode; `g_mean` and
`matthews_correlation` give that guess 0.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def correct(guess: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Whether each guess is right, `[B]` of 0 and 1; its mean is the accuracy."""
    guess, truth = _pair(guess, truth)
    return (guess == truth).astype(np.float64)


def precision(guess: ArrayLike, truth: ArrayLike, value: int) -> NDArray[np.float64]:
    """Of the records guessed to have `value`, whether each has it; maybe none."""
    guess, truth = _pair(guess, truth)
    return (truth[guess == value] == value).astype(np.float64)


def recall(guess: ArrayLike, truth: ArrayLike, value: int) -> NDArray[np.float64]:
    """Of the records that have `value`, whether each is guessed to have it."""
    guess, truth = _pair(guess, truth)
    return (guess[truth == value] == value).astype(np.float64)


def macro_auc(posterior: ArrayLike, truth: ArrayLike) -> float:
    """Area under the ROC curve of each value against the others, mean over values.

    Args:
      posterior: `[B, C]`, any increasing function of the belief in each value.
      truth: `[B]`.

    Returns:
      The mean over the values that occur; a posterior that says nothing gets 0.5.

    Raises:
      ValueError: shapes do not match, a belief is not finite, or all records have one
        value, so that there is no curve.
    """
    from sklearn.metrics import roc_auc_score  # Late, as it takes a second to import.

    posterior, truth = np.asarray(posterior, np.float64), np.asarray(truth)
    if posterior.ndim != 2 or truth.shape != posterior.shape[:1]:
        raise ValueError(
            f"posterior {posterior.shape} and truth {truth.shape} must be [B, C] and "
            "[B]"
        )
    if not np.isfinite(posterior).all():
        raise ValueError("the posterior holds a value that is not finite")
    values = np.unique(truth)
    if len(values) < 2:
        raise ValueError("all records have one value: there is no ROC curve")
    areas = [roc_auc_score(truth == value, posterior[:, value]) for value in values]
    return float(np.mean(areas))


def g_mean(guess: ArrayLike, truth: ArrayLike) -> float:
    """Geometric mean of the recalls of the values that occur.

    References:
      Mehnaz et al. Are your sensitive attributes private? USENIX Security 2022.
      arXiv:2201.09370
    """
    guess, truth = _pair(guess, truth)
    recalls = [recall(guess, truth, value).mean() for value in np.unique(truth)]
    return float(np.prod(recalls) ** (1 / len(recalls)))


def matthews_correlation(guess: ArrayLike, truth: ArrayLike) -> float:
    """Matthews' correlation of guesses and truths; 0 if all guesses are the same.

    References:
      Matthews 1975, Comparison of the predicted and observed secondary structure.
      doi:10.1016/0005-2795(75)90109-9
    """
    from sklearn.metrics import matthews_corrcoef  # Late, as is `roc_auc_score`.

    guess, truth = _pair(guess, truth)
    if len(np.unique(guess)) < 2 or len(np.unique(truth)) < 2:
        return 0.0
    return float(matthews_corrcoef(truth, guess))


def _pair(guess: ArrayLike, truth: ArrayLike) -> tuple[NDArray, NDArray]:
    guess, truth = np.asarray(guess), np.asarray(truth)
    if guess.shape != truth.shape or guess.ndim != 1 or not len(guess):
        raise ValueError(
            f"guess {guess.shape} and truth {truth.shape} must both be [B], B at "
            "least 1"
        )
    return guess, truth
