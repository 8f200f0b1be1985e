"""The baseline of attribute inference: a field imputed from the others, out of fold.

An attack is worth what it adds to the best imputation of the same knowledge without the
model. A weak imputer makes every model look leaky, so that boosted trees stand beside
logistic regression and a forest, and the one of least loss out of fold is taken.
"""

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from threadpoolctl import threadpool_limits

FOLDS = 4
_CHOICE = 10_000  # rows on which the imputer is chosen; it is then fitted to all
_FLOOR = 1e-12
_MANY = 20_000  # rows from which folds are fitted at once
_WIDE = 400  # coefficients up to which Newton's steps are the cheaper ones


class _Logistic(LogisticRegression):
    """Logistic regression by the solver that is the quicker one for its size."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "_Logistic":
        """Fits; the optimum is the same."""
        few = X.shape[1] * len(np.unique(y)) <= _WIDE
        self.solver = "newton-cholesky" if few else "lbfgs"
        return super().fit(X, y, sample_weight)


def boosting(seed: int) -> HistGradientBoostingClassifier:
    """Boosted trees; they read a one-hot column as a number, which loses nothing."""
    return HistGradientBoostingClassifier(
        learning_rate=0.1, max_iter=60, random_state=seed
    )


def one_thread() -> threadpool_limits:
    """A fit takes one thread: on a busy machine several wait for each other in loops.

    The limit is of the thread that asks for it.
    """
    return threadpool_limits(1, "openmp")


_CANDIDATES: dict[str, Callable[[int], Any]] = {
    "logistic regression": lambda seed: _Logistic(max_iter=2000),
    "random forest": lambda seed: RandomForestClassifier(
        50, min_samples_leaf=5, random_state=seed
    ),
    "gradient boosting": boosting,
}


@dataclasses.dataclass(frozen=True)
class Imputation:
    """Beliefs in each value of a field, and where they come from.

    Attributes:
      imputer: the name of the candidate with the least loss.
      loss: of each member out of fold, minus the log-probability of the true value,
        `[N]`.
      members: probabilities out of fold, `[N, S]`.
      others: probabilities by a model of all members, `[M, S]`.
    """

    imputer: str
    loss: NDArray[np.float64]
    members: NDArray[np.float64]
    others: NDArray[np.float64]


def impute(
    x: NDArray[Any],
    values: NDArray[Any],
    x_others: NDArray[Any],
    size: int,
    seed: int,
    imputers: Sequence[str] = tuple(_CANDIDATES),
    choice: int = _CHOICE,
) -> Imputation:
    """Imputes a field of members, by models of other members, and of others.

    Args:
      x: what is known of each member, `[N, D]`, finite numbers.
      values: codes of the field, `[N]` in 0..S-1, at least two of them.
      x_others: what is known of each other, `[M, D]`.
      size: S.
      seed: of the folds and the imputers.
      imputers: the names of those that are tried; all, by default.
      choice: at most so many rows say which one is best.

    Raises:
      ValueError: all members have the same value, or they are fewer than 4.
    """
    present = np.unique(values)
    if len(present) < 2 or len(values) < FOLDS:
        raise ValueError(
            f"{len(values)} members have {len(present)} value(s) of the field: an "
            f"imputation needs at least two values and {FOLDS} members."
        )
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # The loss is what counts.
        return _chosen(x, values, x_others, size, seed, imputers, choice)


def _chosen(
    x: NDArray[Any],
    values: NDArray[Any],
    x_others: NDArray[Any],
    size: int,
    seed: int,
    imputers: Sequence[str],
    choice: int,
) -> Imputation:
    present, place = np.unique(values, return_inverse=True)
    few = np.arange(len(values))
    if len(values) > choice:
        few = np.sort(np.random.default_rng(seed).permutation(few)[:choice])
    best, least, inside = "", np.inf, np.zeros(0)
    for name in imputers:
        said = _out_of_fold(
            _CANDIDATES[name](seed), x[few], place[few], len(present), seed
        )
        loss = float(_loss(said, place[few]).mean())
        if loss < least:
            best, least, inside = name, loss, said
    model = _CANDIDATES[best](seed)
    if len(few) < len(values):
        inside = _out_of_fold(model, x, place, len(present), seed)
    members, others = np.zeros((len(x), size)), np.zeros((len(x_others), size))
    members[:, present] = inside
    if len(x_others):
        others[:, present] = model.fit(x, place).predict_proba(x_others)
    return Imputation(best, _loss(inside, place), members, others)


def _out_of_fold(
    model: Any, x: NDArray[Any], place: NDArray[Any], size: int, seed: int
) -> NDArray[np.float64]:
    """Probabilities of each row by a model of three quarters of the others."""
    rare = np.bincount(place, minlength=size).min() < FOLDS
    folds = (KFold if rare else StratifiedKFold)(FOLDS, shuffle=True, random_state=seed)
    said = np.zeros((len(x), size))

    def fill(fold: tuple[NDArray, NDArray]) -> None:
        inside, outside = fold
        if len(np.unique(place[inside])) < 2:  # Only one value is left to name.
            said[outside, place[inside][0]] = 1.0
            return
        with one_thread():
            fitted: Any = clone(model)
            fitted.fit(x[inside], place[inside])
            known = fitted.predict_proba(x[outside])
        said[np.ix_(outside, fitted.classes_)] = known

    if len(x) < _MANY:
        for fold in folds.split(x, place):
            fill(fold)
    else:
        with ThreadPoolExecutor(min(FOLDS, os.cpu_count() or 1)) as pool:
            list(pool.map(fill, folds.split(x, place)))
    return said


def _loss(said: NDArray[np.float64], place: NDArray[Any]) -> NDArray[np.float64]:
    return -np.log(np.maximum(said[np.arange(len(place)), place], _FLOOR))


def better(informed: Imputation, uninformed: Imputation) -> tuple[str, Imputation]:
    """The imputation with the outcome, unless the one without is clearly better.

    Clearly is a mean loss out of fold that is lower by more than two standard errors:
    who knows the outcome can always ignore it.
    """
    worse = informed.loss - uninformed.loss
    error = float(np.std(worse)) / np.sqrt(len(worse))
    if float(np.mean(worse)) > 2 * error > 0:
        return "imputation without outcome", uninformed
    return "imputation with outcome", informed
