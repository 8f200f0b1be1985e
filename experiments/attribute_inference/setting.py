"""Members and others of a table, and what needs no model to be said of them.

Every adversary knows the marginals of the training rows, or an imputation: a model of
the sensitive field that was fitted to people of the same population, none of whom it is
asked about (members are imputed out of fold). The target has to beat that.
"""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from mijax.core import Inference, Target
from mijax.data import tables
from mijax.knowledge import Candidates, Oracle, PartialRecord, validate

SIDES = "train", "test"
_FOLDS = 4


class Victims(NamedTuple):
    """Rows of one side, and what needs no target to be said of them.

    Attributes:
      record: row numbers in the table, `[V]`.
      x: encoded records, `[V, D]`.
      outcome: `[V]`.
      truth: codes of the sensitive field, `[V]`.
      imputed: probabilities of its values from the known fields, `[V, S]`.
      informed: the same from the known fields and the outcome.
    """

    record: np.ndarray
    x: jax.Array
    outcome: jax.Array
    truth: np.ndarray
    imputed: np.ndarray
    informed: np.ndarray


class Setting(NamedTuple):
    """One split of a table, seen from one sensitive field.

    Attributes:
      field: the sensitive field.
      encoder: fitted to the training rows.
      train: members.
      test: others.
      prior: shares of the values in the training rows, `[S]`.
      dropped: test rows with a category that no training row had.
    """

    field: str
    encoder: tables.Encoder
    train: Victims
    test: Victims
    prior: np.ndarray
    dropped: int

    @property
    def sides(self) -> dict[str, Victims]:
        """Members and others by name."""
        return {"train": self.train, "test": self.test}

    def candidates(self, prior: np.ndarray | None = None) -> Candidates:
        """The values of the field; the prior is the marginals unless one is given."""
        return candidates(
            self.encoder, self.field, self.prior if prior is None else prior
        )

    def knowledge(
        self,
        target: Target,
        side: str,
        prior: np.ndarray | None = None,
        **more: Any,
    ) -> PartialRecord:
        """The records of a side with the field missing, and a target to ask."""
        victims = self.sides[side]
        more = {"outcome": victims.outcome} | more
        candidates = self.candidates(prior)
        return validate(PartialRecord(Oracle.of(target), victims.x, candidates, **more))


def candidates(encoder: tables.Encoder, name: str, prior: np.ndarray) -> Candidates:
    """The values of a field as the encoder spells them."""
    columns = encoder.columns[name]
    return Candidates.of(
        np.arange(columns.start, columns.stop), encoder.candidates(name), prior
    )


def make(
    table: tables.Table,
    field: str,
    seed: int,
    outcome: Callable[[tables.Table], np.ndarray] = lambda table: table.outcome,
    rows: tables.Rows | None = None,
) -> Setting:
    """Splits a table, encodes it, and imputes the field on both sides.

    Args:
      table: of people.
      field: the sensitive one.
      seed: of the split, and of the folds.
      outcome: of a table, what the model predicts, `[N]`.
      rows: the split, where the paper has its own.

    Raises:
      ValueError: if all training rows have the same value.
    """
    rows = tables.split_rows(table, seed=seed) if rows is None else rows
    must_vary(table, field, rows.train)
    encoder = tables.Encoder.fit(table.select(rows.train))
    unseen = encoder.unseen(table.select(rows.test))
    rows = rows._replace(test=rows.test[~unseen])
    train, test = table.select(rows.train), table.select(rows.test)
    size = len(table.categories(field))
    x, x_test = encoder.encode(train), encoder.encode(test)
    y, y_test = outcome(train), outcome(test)
    truth, truth_test = train[field], test[field]
    known = np.delete(np.arange(encoder.width), np.r_[encoder.columns[field]])
    imputed = imputations(x[:, known], truth, x_test[:, known], size, seed)
    classes = 1 + max(y.max(), y_test.max()) if y.dtype.kind == "i" else 0
    both = (
        _with_outcome(a[:, known], b, classes) for a, b in ((x, y), (x_test, y_test))
    )
    with_train, with_test = both
    informed = imputations(with_train, truth, with_test, size, seed)
    return Setting(
        field,
        encoder,
        _victims(rows.train, x, y, truth, imputed[0], informed[0]),
        _victims(rows.test, x_test, y_test, truth_test, imputed[1], informed[1]),
        np.bincount(truth, minlength=size) / len(truth),
        int(unseen.sum()),
    )


def must_vary(table: tables.Table, field: str, rows: np.ndarray) -> None:
    """Refuses a field with one value in all training rows.

    Raises:
      ValueError: if it has.
    """
    present = np.unique(table[field][rows])
    if len(present) < 2:
        said = ", ".join(table.categories(field)[code] for code in present)
        raise ValueError(
            f"{field!r} is {said!r} in all {len(rows)} training rows: there is "
            "nothing to infer; leave it out."
        )


def _victims(record: np.ndarray, x: np.ndarray, y: np.ndarray, *said: Any) -> Victims:
    return Victims(record, jnp.asarray(x), jnp.asarray(y), *said)


def _with_outcome(x: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    outcome = np.eye(classes)[y] if classes else y[:, None]
    return np.concatenate([x, outcome], 1)


def imputations(
    x: np.ndarray, values: np.ndarray, x_test: np.ndarray, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Out-of-fold probabilities of training rows, and those of test rows, `[., S]`.

    They are of what an adversary knows, `x [N, d]`, and of no target: of logistic
    regression and a random forest, the one of less loss out of fold.
    """
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    present, place = np.unique(values, return_inverse=True)
    least, best = np.inf, (np.zeros(0), np.zeros(0))
    for model in (
        LogisticRegression(max_iter=2000),
        RandomForestClassifier(50, min_samples_leaf=5, random_state=seed),
    ):
        inside: Any = cross_val_predict(
            clone(model), x, values, cv=folds, method="predict_proba"
        )
        right = inside[np.arange(len(values)), place]
        loss = -np.mean(np.log(np.maximum(right, 1e-12)))
        if loss < least:
            least, best = loss, (inside, model.fit(x, values).predict_proba(x_test))
    inside, outside = (np.zeros((len(rows), size)) for rows in (x, x_test))
    inside[:, present], outside[:, present] = best
    return inside, outside


def ideal(victims: Victims, encoder: tables.Encoder, field: str) -> np.ndarray:
    """The guess that is best for equal records, by one who knows all of them, `[V]`.

    A tree of full depth, fitted to the victims themselves: what no adversary of these
    fields and this outcome can beat.
    """
    known = np.delete(np.asarray(victims.x), np.r_[encoder.columns[field]], 1)
    x = np.concatenate([known, np.asarray(victims.outcome)[:, None]], 1)
    return DecisionTreeClassifier(random_state=0).fit(x, victims.truth).predict(x)


def without_target(setting: Setting) -> dict[str, np.ndarray]:
    """What needs no target, by side and adversary, as `said` records it."""
    found = {}
    for side, victims in setting.sides.items():
        found[f"{side}.truth"] = victims.truth
        found[f"{side}.record"] = victims.record
        for row, beliefs in {
            "mode": np.tile(setting.prior, (len(victims.truth), 1)),
            "imputation": victims.imputed,
            "imputation_with_outcome": victims.informed,
        }.items():
            found |= said(side, row, beliefs.argmax(1), beliefs)
    return found


def said(
    side: str, row: str, guess: np.ndarray, beliefs: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """An adversary's guesses `[V]` and beliefs `[V, S]`, named for `stages.once`."""
    found = {f"{side}.{row}.guess": np.asarray(guess)}
    if beliefs is not None:
        found[f"{side}.{row}.beliefs"] = np.asarray(beliefs, np.float32)
    return found


def inferred(side: str, row: str, inference: Inference) -> dict[str, np.ndarray]:
    """What an attack inferred, as `said` records it."""
    beliefs = np.exp(np.asarray(inference.log_posterior))
    return said(side, row, np.asarray(inference.guess), beliefs)


def seeds(seed: int, number: int) -> range:
    """The seeds of a run: no two runs of up to a hundred share one."""
    return range(100 * seed, 100 * seed + number)


def key(seed: int, name: str) -> jax.Array:
    """A key for each thing of a seed that is random."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
