"""Records with fields missing: what an adversary who infers attributes has."""

import dataclasses
import math
from collections.abc import Callable
from functools import reduce
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mijax.core import Paths, concrete, in_chunks, pytree, static
from mijax.knowledge import validation
from mijax.knowledge.black_box import Oracle, afforded

T = TypeVar("T")

_NUMBERS = 2**16  # of answers at a time; changes no result
_COUNTABLE = 2**31 - 1


@pytree
class Candidates:
    """The values that a sensitive field may take, and how a record spells them.

    Where more fields are unknown, each candidate is a completion of all of them, and
    `value` says which sensitive value it holds: see `product`.

    Attributes:
      columns: which columns of a record they fill, `[d]` int32.
      encodings: what they fill in, `[K, d]`; a one-hot field spans several columns.
      log_prior: of each candidate, `[K]`, or of each record's, `[V, K]`; up to a
        constant.
      value: the sensitive value of each, `[K]` int32; None where they are the values.
      num_values: S; None where it is K.
    """

    columns: Array
    encodings: Array
    log_prior: Array
    value: Array | None = None
    num_values: int | None = static(default=None)

    def check_values(self) -> None:
        """Raises ValueError if columns, encodings or priors cannot be right."""
        validation.check_finite("The candidates' encodings", self.encodings)
        columns, prior = concrete(self.columns), concrete(self.log_prior)
        if columns is not None and columns.ndim == 1:
            columns = columns.tolist()
            if len(set(columns)) < len(columns):
                raise ValueError(f"columns are {columns}: one stands twice.")
        if prior is not None and not np.all(np.isfinite(prior.max(-1))):
            raise ValueError(
                "log_prior leaves no candidate possible, or holds NaN: give the log of "
                "probabilities, of which at least one is positive."
            )

    @classmethod
    def of(cls, columns: Any, encodings: Any, prior: Any | None = None) -> "Candidates":
        """Makes candidates of one field.

        Args:
          columns: the columns that it fills, `[d]`, or one column.
          encodings: its values as the model takes them, `[K, d]`, or `[K]` of one.
          prior: probabilities, `[K]` or `[V, K]`; uniform if None.

        Raises:
          ValueError: if the shapes differ.
        """
        columns = np.atleast_1d(np.asarray(columns))
        if not np.issubdtype(columns.dtype, np.integer):
            raise ValueError(f"columns are {columns.dtype}: give integers.")
        try:
            given = np.asarray(encodings, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The candidates are {encodings!r:.60}: give numbers, [K, d]."
            ) from error
        if given.ndim and not len(given):
            raise ValueError("There are no candidates: give one or more values.")
        with np.errstate(over="ignore"):  # What is infinite then, is refused by name.
            encodings = given.astype(np.float32)
        if encodings.ndim == 1:
            encodings = encodings[:, None]
        if encodings.ndim != 2 or encodings.shape[1] != len(columns):
            raise ValueError(
                f"The candidates are {encodings.shape} but fill {len(columns)} "
                "columns: give each as [d] numbers, one a column."
            )
        different = len(np.unique(encodings, axis=0))
        if different < len(np.unique(given, axis=0)):
            raise ValueError(
                f"The {len(encodings)} candidates of columns {columns.tolist()} are "
                f"{different} in float32: standardize them, for the model as well, or "
                "subtract what they have in common."
            )
        if different < len(encodings):
            raise ValueError("Two candidates are spelled alike: give each once.")
        if prior is None:
            prior = np.full(len(encodings), 1 / len(encodings))
        prior = np.asarray(prior, np.float64)
        if prior.shape[-1:] != encodings.shape[:1] or not np.all(prior >= 0):
            raise ValueError(
                f"The prior is {prior.shape} and its least value {prior.min()}: give "
                f"probabilities of {len(encodings)} candidates."
            )
        with np.errstate(divide="ignore"):
            log_prior = np.log(prior)
        return cls(
            jnp.asarray(columns, jnp.int32),
            jnp.asarray(encodings),
            jnp.asarray(log_prior, jnp.float32),
        )

    @classmethod
    def product(cls, sensitive: "Candidates", *others: "Candidates") -> "Candidates":
        """Makes every completion of several fields, independent a priori.

        For a joint prior, replace `log_prior`, `[K]` in the order of
        `itertools.product(sensitive, *others)`.
        """
        if sensitive.value is not None:
            raise ValueError(
                "The sensitive field is a product already: give one field."
            )
        size = sensitive.encodings.shape[0]
        start = dataclasses.replace(
            sensitive, value=jnp.arange(size, dtype=jnp.int32), num_values=size
        )
        return reduce(_pair, others, start)

    def combine(
        self, each: Array, how: Callable[..., Array] = jax.ops.segment_sum
    ) -> Array:
        """Sums over completions, `[K, ...]`, to sensitive values, `[S, ...]`."""
        if self.value is None or self.num_values is None:
            return each
        return how(each, self.value, self.num_values)

    def marginal(self, log_joint: Array) -> Array:
        """Sums log-probabilities of completions, `[K, ...]`, to values', `[S, ...]`."""
        if self.value is None:
            return log_joint
        best = self.combine(log_joint, jax.ops.segment_max)
        best = jnp.where(jnp.isfinite(best), best, 0.0)
        shares = jnp.exp(log_joint - best[self.value])
        return best + jnp.log(self.combine(shares))


def _pair(a: Candidates, b: Candidates) -> Candidates:
    rows_a, rows_b = a.encodings.shape[0], b.encodings.shape[0]
    both = [jnp.repeat(a.encodings, rows_b, 0), jnp.tile(b.encodings, (rows_a, 1))]
    prior_a, prior_b = a.log_prior, b.log_prior
    if prior_a.ndim != prior_b.ndim:  # One record's own beside a shared one.
        prior_a, prior_b = jnp.atleast_2d(prior_a), jnp.atleast_2d(prior_b)
    prior = prior_a[..., :, None] + prior_b[..., None, :]
    return Candidates(
        jnp.concatenate([a.columns, b.columns]),
        jnp.concatenate(both, 1),
        prior.reshape(*prior.shape[:-2], -1),
        None if a.value is None else jnp.repeat(a.value, rows_b),
        a.num_values,
    )


@pytree
class Asked:
    """Completions of a few records, and what the model answered of them.

    Completions lead, so that what is computed of a few of them vectorizes over records.

    Attributes:
      answers: `[K, B, O]`.
      log_prior: normalized over completions, `[K, B]`, or `[K, 1]` of all records.
      outcome: `[1, B]`, or None where it is not known.
    """

    answers: Array
    log_prior: Array
    outcome: Any


@pytree
class PartialRecord:
    """Records with fields missing, what may stand there, and a model to ask.

    Attributes:
      oracle: answers queries of complete records; see `Oracle.of`.
      record: the victims' records as the model takes them, `[V, D]`; what stands in
        the candidates' columns is ignored.
      candidates: what may stand there.
      outcome: each victim's true outcome, as the paper at hand assumes it known, `[V]`:
        int32 classes, or float32 numbers for a regression; for
        `poisoned_regression`, what the model released of the victim. None: not known.
      error: the log-likelihood of an outcome given an answer, `(answers [K, B, O],
        outcome [1, B]) -> [K, B]`: `normal`, `confusion` or `reliability`.
      paths: the paths of a decision tree and how many examples took each.
      spent: how many records were asked about so far.
      budget: how many may be asked about; None for no limit.
    """

    oracle: Oracle
    record: Array
    candidates: Candidates
    outcome: Array | None = None
    error: Callable[[Array, Array], Array] | None = None
    paths: Paths | None = None
    spent: Array | int = 0
    budget: int | None = static(default=None)

    def check_values(self) -> None:
        """Raises ValueError if records, outcomes or the model cannot be right."""
        self.oracle.check_values()
        self.candidates.check_values()
        self._check_outcomes()
        self._check_columns()
        if self.record.ndim == 2:
            validation.check_finite("The known fields of the records", self.known)

    def _check_outcomes(self) -> None:
        outcome = concrete(self.outcome)
        if outcome is not None:
            validation.check_finite("The outcomes", outcome)
            classes = self.oracle.num_classes
            if classes > 1 and not np.issubdtype(outcome.dtype, np.integer):
                raise ValueError(
                    f"outcome is {outcome.dtype}: the model tells {classes} classes, "
                    "so give int32 classes."
                )
            if classes > 1 and not np.all((outcome >= 0) & (outcome < classes)):
                wrong = outcome[(outcome < 0) | (outcome >= classes)].flat[0]
                raise ValueError(
                    f"outcome holds {wrong}: the model's classes are 0 to "
                    f"{classes - 1}."
                )

    def _check_columns(self) -> None:
        columns, shape = concrete(self.candidates.columns), self.record.shape
        if columns is None or not columns.size or len(shape) != 2:
            return
        if not 0 <= columns.min() <= columns.max() < shape[1]:
            raise ValueError(
                f"The candidates fill columns {columns.tolist()} but records have "
                f"{shape[1]} columns."
            )

    @property
    def num_values(self) -> int:
        """S, how many values the sensitive field may take."""
        return self.candidates.num_values or self.candidates.encodings.shape[0]

    @property
    def known(self) -> Array:
        """The records with 0 where a field is unknown, `[V, D]`."""
        return jnp.asarray(self.record).at[:, self.candidates.columns].set(0.0)

    @property
    def log_prior(self) -> Array:
        """Of the sensitive values, normalized, `[V, S]`, or `[1, S]` of all records."""
        prior = jax.nn.log_softmax(jnp.atleast_2d(self.candidates.log_prior))
        return self.candidates.marginal(prior.T).T

    def query(self, read: Callable[[Asked], T]) -> tuple[T, "PartialRecord"]:
        """Asks about every completion of every record, in bounded memory.

        Args:
          read: what is kept of a few records' answers; leaves `[., B, ...]`.

        Returns:
          What was read of each, leaves `[V, ., ...]`, and the knowledge with `V * K`
          queries counted.

        Raises:
          ValueError: if shapes do not fit.
          RuntimeError: when run, if the budget does not allow it.
        """
        self.check_shapes()
        victims, (size, _) = self.record.shape[0], self.candidates.encodings.shape
        spent = self.spent + jnp.int32(victims * size)
        records = afforded(self.budget, spent, jnp.asarray(self.record))
        prior = jax.nn.log_softmax(jnp.atleast_2d(self.candidates.log_prior))
        shared = prior.shape[0] == 1
        columns, encodings = self.candidates.columns, self.candidates.encodings

        def some(rows: Any) -> T:
            records, outcome, own = rows
            answers = self.oracle._completed(records, columns, encodings)
            outcome = None if outcome is None else outcome[None]
            found = read(Asked(answers, (prior if shared else own).T, outcome))
            return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), found)

        rows = records, self.outcome, None if shared else prior
        most = max(1, _NUMBERS // (size * self.oracle.num_classes))
        return in_chunks(some, rows, most), dataclasses.replace(self, spent=spent)

    def check_shapes(self) -> None:
        """Checks that records, candidates and outcomes fit the model.

        Raises:
          ValueError: if they do not; outcomes and columns are checked where concrete.
        """
        shape, width = self.record.shape, self.oracle.shape
        size, candidates = self.candidates.encodings.shape[0], self.candidates
        if len(shape) != 2 or shape[1:] != width or not shape[0]:
            raise ValueError(
                f"The records are {shape} but the model takes [V, *{width}]: encode "
                "them as for its training."
            )
        if candidates.encodings.shape[1:] != candidates.columns.shape:
            raise ValueError(
                f"The candidates are {candidates.encodings.shape} but fill columns "
                f"{candidates.columns.shape}: give one number a column."
            )
        if candidates.log_prior.shape not in {(size,), (shape[0], size)}:
            raise ValueError(
                f"log_prior is {candidates.log_prior.shape}: give [{size}], or "
                f"[{shape[0]}, {size}] for each record its own."
            )
        if self.outcome is not None and self.outcome.shape != shape[:1]:
            raise ValueError(
                f"outcome is {self.outcome.shape}: give one a record, {shape[:1]}."
            )
        self._check_outcomes()
        self._check_columns()
        if shape[0] * size > _COUNTABLE:
            raise ValueError(
                f"{shape[0]:,} records x {size:,} candidates are more queries than a "
                "counter holds: attack fewer records at a time."
            )


# Error models ---------------------------------------------------------------------


def normal(deviation: float | Array) -> Callable[[Array, Array], Array]:
    """A regression's error: normal, with the model's root mean squared error.

    Raises:
      ValueError: if the deviation is not positive.
    """
    value = concrete(jnp.asarray(deviation))
    if value is not None and not np.all((value > 0) & np.isfinite(value)):
        raise ValueError(
            f"The deviation is {deviation}: it must be positive and finite; of a model "
            "that errs nowhere, give the resolution of its outcome."
        )
    return jax.tree_util.Partial(_normal, jnp.asarray(deviation, jnp.float32))


def _normal(deviation: Array, answers: Array, outcome: Array) -> Array:
    scaled = (answers[..., 0] - outcome) / deviation
    return -0.5 * scaled**2 - jnp.log(deviation) - 0.5 * math.log(2 * math.pi)


def confusion(counts: Any) -> Callable[[Array, Array], Array]:
    """A classifier's error: how often each class is predicted of each true one.

    It is what Fredrikson et al. (2015) use.

    Args:
      counts: `[true, predicted]`, as scikit-learn's `confusion_matrix`.

    Raises:
      ValueError: if they are not counts.
    """
    return jax.tree_util.Partial(_looked_up, _log_shares(counts, 1))


def reliability(counts: Any) -> Callable[[Array, Array], Array]:
    """A classifier's error: how often each class is true where each is predicted.

    It is closer to what Bayes' rule asks for than `confusion`, and finds more.

    Args:
      counts: `[true, predicted]`, as scikit-learn's `confusion_matrix`.

    Raises:
      ValueError: if they are not counts.
    """
    return jax.tree_util.Partial(_looked_up, _log_shares(counts, 0))


def _log_shares(counts: Any, axis: int) -> Array:
    counts = jnp.asarray(counts, jnp.float32)
    value = concrete(counts)
    if value is not None and not np.all((value >= 0) & np.isfinite(value)):
        raise ValueError(
            f"The confusion matrix holds {value.min()}: it must hold counts, none of "
            "them negative."
        )
    total = jnp.sum(counts, axis, keepdims=True)
    return jnp.log(counts / jnp.where(total > 0, total, 1.0))


def _looked_up(log_shares: Array, answers: Array, outcome: Array) -> Array:
    return log_shares[outcome, jnp.argmax(answers, -1)]
