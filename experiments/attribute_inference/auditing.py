"""What a model of the user's adds to all else that is known of a field.

The adversary with the model knows the true outcome, and so must the one without it:
else what the outcome itself says of the field would be laid to the model. Members are
set against others.

`load` and `open_model` read the table and the model, `audit` attacks, `judge` and the
others say what came of it.
"""

import contextlib
import importlib
import logging
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from sklearn.metrics import confusion_matrix

from experiments.attribute_inference import setting as settings
from experiments.attribute_inference.setting import Setting
from experiments.harness import figures, report
from mijax.attacks import csmia, map_inference
from mijax.data import tables
from mijax.knowledge import Oracle, PartialRecord, confusion, normal, validate
from mijax.metrics import attributes, intervals

Columns = dict[str, np.ndarray]
Predict = Callable[[Columns], Any]

ATTACKS = "map", "map_confidence", "csmia"
SIDES = {"train": "members", "test": "others"}
BASELINE = "imputation_with_outcome"  # knows everything but the model
# Adversaries without the model, and how lines beside them are marked.
WITHOUT = {BASELINE: "", "imputation": "-beside_imputation"}
_LEAST = 20  # rows of a group, below which nothing is said of it
_MEMBER = {
    "1": True,
    "yes": True,
    "true": True,
    "0": False,
    "no": False,
    "false": False,
}
_TINY = 1e-12

# The table and the model ----------------------------------------------------------


def load(
    data: str,
    folder: str | None,
    sensitive: Sequence[str],
    target: str,
    members: str,
    without: Sequence[str],
) -> tuple[tables.Table, np.ndarray]:
    """Loads the table, and who was trained on, `[N]` bool.

    Raises:
      ValueError: the column of members is missing, or says something else; or a
        sensitive field has one value in all of them.
    """
    table = tables.load(
        data, data_dir=folder, sensitive=sensitive, target=target, without=without
    )
    for name in sensitive:
        table.categories(name)  # A numeric field has no candidates yet.
    if members in (target, *sensitive):
        raise ValueError(f"--members={members} is sensitive or the target as well.")
    labels = table.categories(members)
    wrong = [label for label in labels if label.lower() not in _MEMBER]
    if wrong:
        raise ValueError(
            f"--members={members} holds {wrong[0]!r}: it must say 1 or 0, or yes or no."
        )
    trained = np.array([_MEMBER[label.lower()] for label in labels])[table[members]]
    if trained.all() or not trained.any():
        raise ValueError(
            f"--members={members} makes all {len(table)} rows the same: there must be "
            "members and others."
        )
    for name in sensitive:
        settings.must_vary(table, name, np.flatnonzero(trained))
    return table.without(members), trained


def open_model(name: str, trust: bool) -> Predict:
    """Returns `columns -> predictions` of a function or of a file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: there is no such function, or the file may not be opened.
    """
    module, colon, function = name.partition(":")
    if colon:
        sys.path.insert(0, os.getcwd())
        try:
            return getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"--model={name} cannot be imported: {error}.") from error
    path = pathlib.Path(name).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"--model={name}: there is no such file.")
    if not trust:
        raise ValueError(
            f"--model={name} is a pickle, and opening it runs whatever program is in "
            "it: if it is your own, add --trust_model_file."
        )
    import joblib

    return Estimator(joblib.load(path))


class Estimator:
    """A scikit-learn estimator as a function of columns."""

    def __init__(self, model: Any):
        if not hasattr(model, "predict"):
            raise ValueError(
                f"The file holds a {type(model).__name__}, which does not predict."
            )
        self.model = model
        self.classes = getattr(model, "classes_", None)

    def __call__(self, columns: Columns) -> np.ndarray:
        """Returns probabilities where the model has them, else what it predicts."""
        x = self._input(columns)
        if hasattr(self.model, "predict_proba"):
            return self.model.predict_proba(x)
        return self.model.predict(x)

    def _input(self, columns: Columns) -> Any:
        names = getattr(self.model, "feature_names_in_", None)
        if names is not None:
            missing = [name for name in names if name not in columns]
            if missing:
                raise ValueError(
                    f"The model takes a column {missing[0]!r}, which the table lacks: "
                    f"it has {', '.join(columns)}."
                )
            try:
                pandas: Any = importlib.import_module("pandas")
            except ImportError as error:
                raise ValueError(
                    "The model was fitted to a data frame: pip install pandas."
                ) from error
            return pandas.DataFrame({name: columns[name] for name in names})
        text = [name for name, column in columns.items() if column.dtype == object]
        if text:
            raise ValueError(
                f"The model takes numbers and {text[0]!r} holds text: give a "
                "MODULE:FUNCTION that encodes it as for training."
            )
        return np.column_stack(list(columns.values()))


def raw(table: tables.Table, decoded: Mapping[str, np.ndarray]) -> Columns:
    """Columns as the file had them: numbers, or text with None where it was missing."""
    columns = {}
    for field in table.features:
        values = decoded[field.name]
        if isinstance(field, tables.Categorical):
            labels: list[Any] = [
                None if c == "missing" else c for c in field.categories
            ]
            try:
                as_numbers = [np.nan if c is None else float(c) for c in labels]
                values = np.array(as_numbers)[values]
            except ValueError:
                values = np.array(labels, object)[values]
        columns[field.name] = values
    return columns


def check_model(table: tables.Table, predict: Predict) -> None:
    """Asks about a few rows of the table, so that a misfit is told before the audit.

    Raises:
      ValueError: the model fails on them; its own message is kept.
    """
    rows = table.select(np.arange(min(len(table), 20)))
    columns = raw(rows, {field.name: rows[field.name] for field in rows.features})
    try:
        predict(columns)
    except Exception as error:
        kinds = ", ".join(
            f"{name} ({'text' if column.dtype == object else 'numbers'})"
            for name, column in columns.items()
        )
        said = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"The model cannot be asked about the table's rows: {said}. It was given "
            f"{kinds}: a column of numbers with any text in it is read as text."
        ) from error


def answering(
    table: tables.Table, encoder: tables.Encoder, predict: Predict
) -> Callable[[np.ndarray], np.ndarray]:
    """What the model answers of encoded records, `[B, D] -> [B, K]`.

    It raises one ValueError of whatever the model raises or answers amiss.
    """

    def ask(x: np.ndarray) -> np.ndarray:
        try:
            answer = np.asarray(predict(raw(table, encoder.decode(x))))
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(
                f"The model {_name(predict)} fails on {len(x)} rows: {said}"
            ) from error
        if answer.shape[:1] != (len(x),):
            raise ValueError(
                f"The model {_name(predict)} answers {answer.shape} for {len(x)} rows: "
                "it must answer once a row."
            )
        return answer

    if isinstance(table.field(table.target), tables.Numeric):

        def numbers(x: np.ndarray) -> np.ndarray:
            answer = ask(x)
            if answer.size != len(x) or answer.dtype.kind not in "iufb":
                raise ValueError(
                    f"The model {_name(predict)} answers {answer.dtype} {answer.shape} "
                    f"for {len(x)} rows: it must be one number a row."
                )
            return answer.reshape(-1, 1).astype(np.float32)

        return numbers
    categories = table.categories(table.target)
    classes = _names(getattr(predict, "classes", None), categories)

    def scores(x: np.ndarray) -> np.ndarray:
        answer = ask(x)
        if answer.ndim == 1:  # labels
            place = [categories.index(c) for c in _names(answer, categories)]
            return np.eye(len(categories), dtype=np.float32)[place]
        if answer.shape != (len(x), len(classes)):
            raise ValueError(
                f"The model answers {answer.shape} for {len(x)} rows: it must be "
                f"probabilities of {', '.join(classes)}, or labels."
            )
        spread = np.zeros((len(x), len(categories)), np.float32)
        spread[:, [categories.index(c) for c in classes]] = answer
        return spread

    return scores


def _name(predict: Predict) -> str:
    if isinstance(predict, Estimator):
        return type(predict.model).__name__
    return getattr(predict, "__qualname__", type(predict).__name__)


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Raises as it was a ValueError of the model's that JAX logs and wraps."""
    log = logging.getLogger("jax._src.callback")
    before, log.disabled = log.disabled, True
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        if not last.startswith("ValueError: "):
            raise
        raise ValueError(last.removeprefix("ValueError: ")) from error
    finally:
        log.disabled = before


def _names(labels: Any, categories: Sequence[str]) -> list[str]:
    """Labels as the table writes them.

    Raises:
      ValueError: one is no category of the target.
    """
    if labels is None:
        return list(categories)
    names = [str(c) if str(c) in categories else tables.whole(str(c)) for c in labels]
    wrong = sorted(set(names) - set(categories))
    if wrong:
        raise ValueError(
            f"The model predicts {wrong[0]!r}, which the target never is: it is one of "
            f"{', '.join(categories)}."
        )
    return names


# Attack and verdict ---------------------------------------------------------------


def _confidence(answers: jax.Array, outcome: jax.Array) -> jax.Array:
    """How likely the model itself says the outcome is."""
    confidence = jnp.take_along_axis(answers, outcome[..., None], -1)[..., 0]
    return jnp.log(jnp.maximum(confidence, _TINY))


@_plain_errors()
def audit(
    table: tables.Table,
    field: str,
    rows: tables.Rows,
    predict: Predict,
    seed: int,
) -> tuple[dict[str, np.ndarray], Setting]:
    """Infers one field of every row, with the model and without."""
    setting = settings.make(table, field, seed, _outcome, rows=rows)
    plain = tables.Encoder.fit(
        table.select(rows.train), one_hot=False, standardize=False
    )
    answer = answering(table, plain, predict)
    x = {
        side: jnp.asarray(plain.encode(table.select(victims.record)))
        for side, victims in setting.sides.items()
    }
    answers = answer(np.asarray(x["train"]))
    box = Oracle.from_callable(answer, (plain.width,), answers.shape[1])
    outcome = np.asarray(setting.train.outcome)
    found = settings.without_target(setting)
    for side, victims in setting.sides.items():
        priors = settings.candidates(plain, field, victims.imputed)
        for row, error in errors(answers, outcome).items():
            known = PartialRecord(box, x[side], priors, victims.outcome, error)
            inferred = map_inference.attack(jax.random.key(seed), validate(known))
            found |= settings.inferred(side, row, inferred)
        if answers.shape[1] > 1:
            known = PartialRecord(box, x[side], priors, victims.outcome)
            csmia_key = settings.key(seed, f"csmia-{side}")
            inferred = csmia.attack(csmia_key, validate(known))
            found |= settings.inferred(side, "csmia", inferred)
    return found, setting


def _outcome(table: tables.Table) -> np.ndarray:
    y = table.outcome
    return y if y.dtype == np.int32 else y.astype(np.float32)


def errors(answers: np.ndarray, outcome: np.ndarray) -> dict[str, Any]:
    """What an adversary may take for the likelihood of an outcome."""
    if answers.shape[1] == 1:
        deviation = float(np.sqrt(np.mean((answers[:, 0] - outcome) ** 2)))
        least = 1e-3 * float(np.std(outcome))
        return {"map": normal(max(deviation, least))}
    labels = np.arange(answers.shape[1])
    counts = confusion_matrix(outcome, answers.argmax(1), labels=labels)
    return {"map": confusion(counts), "map_confidence": Partial(_confidence)}


def gains(
    found: Mapping[str, np.ndarray], side: str, row: str, without: str = BASELINE
) -> np.ndarray:
    """Right with the model less right without, of each row, `[V]` of -1, 0 and 1."""
    truth = found[f"{side}.truth"]
    hit = attributes.correct(found[f"{side}.{row}.guess"], truth)
    return hit - attributes.correct(found[f"{side}.{without}.guess"], truth)


def judge(found: Mapping[str, np.ndarray], field: str) -> dict[str, report.Metric]:
    """Every metric of one field: both sides, and how much more is told of members."""
    lines: dict[str, report.Metric] = {}
    attacks = [row for row in ATTACKS if f"train.{row}.guess" in found]
    for side, people in SIDES.items():
        truth = found[f"{side}.truth"]
        without = attributes.correct(found[f"{side}.{BASELINE}.guess"], truth)
        for row in ("mode", "imputation", BASELINE, *attacks):
            hits = attributes.correct(found[f"{side}.{row}.guess"], truth)
            own = row == BASELINE
            lines[f"attribute_accuracy/{field}-{row}-{people}"] = report.metric(
                hits, baseline=None if own else without, perfect=1.0
            )
            if len(np.unique(truth)) > 1:
                auc = attributes.macro_auc(found[f"{side}.{row}.beliefs"], truth)
                lines[f"attribute_auc/{field}-{row}-{people}"] = report.Metric(auc)
        for row in attacks:
            for without, suffix in WITHOUT.items():
                line = intervals.mean(gains(found, side, row, without))
                name = f"attribute_gain/{field}-{row}-{people}{suffix}"
                lines[name] = report.Metric(*line, baseline=0.0)
    for row in attacks:
        line = intervals.difference(
            gains(found, "train", row), gains(found, "test", row)
        )
        lines[f"advantage/{field}-{row}"] = report.Metric(*line, baseline=0.0)
    return lines


def verdict(lines: Mapping[str, report.Metric], field: str) -> list[str]:
    """What each attack adds to each adversary without the model, and of whom."""
    sentences = []
    for row in ATTACKS:
        if f"advantage/{field}-{row}" not in lines:
            continue
        for without, suffix in WITHOUT.items():
            parts = []
            for people in SIDES.values():
                line = lines[f"attribute_gain/{field}-{row}-{people}{suffix}"]
                low, high = line.low or 0.0, line.high or 0.0
                verb = "adds" if low > 0 else "is worse" if high < 0 else "adds nothing"
                ends = f"{line.value:+.3f} [{low:+.3f}, {high:+.3f}]"
                parts.append(f"{people}: {verb}, {ends}")
            sentence = f"{field}, {row}, beside {without}".replace("_", " ")
            sentences.append(f"{sentence}: {'; '.join(parts)}.")
        gain = lines[f"attribute_gain/{field}-{row}-members"]
        more = lines[f"advantage/{field}-{row}"]
        low, high = more.low or 0.0, more.high or 0.0
        remembered = low > 0 and (gain.low or 0.0) > 0
        sentences.append(
            f"{field}, {row.replace('_', ' ')}, of members more than of others: "
            f"{more.value:+.3f} [{low:+.3f}, {high:+.3f}]: "
            f"{'memory of members' if remembered else 'no memory of members shown'}."
        )
    return sentences


def small_fields(table: tables.Table) -> list[str]:
    """The fields whose groups are few enough to compare."""
    return [
        field.name
        for field in table.features
        if isinstance(field, tables.Categorical) and len(field.categories) <= 6
    ]


def by_group(
    table: tables.Table,
    setting: Setting,
    found: Mapping[str, np.ndarray],
    field: str,
    groups: Sequence[str],
) -> report.Table:
    """What the model adds, group by group: disparate vulnerability."""
    row = "map_confidence" if "train.map_confidence.guess" in found else "map"
    rows: list[list[str | float | None]] = []
    for name in groups:
        for code, label in enumerate(table.categories(name)):
            cells: list[str | float | None] = [f"{name}: {label}"]
            for side, victims in setting.sides.items():
                inside = table[name][victims.record] == code
                each = gains(found, side, row)[inside]
                if len(each) < _LEAST:
                    cells += [int(inside.sum()), None, None, None, None]
                    continue
                right = found[f"{side}.{row}.guess"][inside]
                accuracy = float(np.mean(right == found[f"{side}.truth"][inside]))
                cells += [len(each), accuracy, *intervals.mean(each)[:3]]
            rows.append(cells)
    heads = ["n", "accuracy", "gain", "low", "high"]
    columns = [f"{people}, {head}" for people in SIDES.values() for head in heads]
    return report.Table(
        f"{field} by group: what the model adds to imputation with outcome "
        f"({row.replace('_', ' ')}; nothing is said of groups below {_LEAST})",
        ["group", *columns],
        rows,
    )


def draw(
    metrics: Mapping[str, report.Metric], fields: Sequence[str], path: pathlib.Path
) -> None:
    """Draws what the model adds, one bar a field, attack and side."""
    names = [
        (f"{field}, {row.replace('_', ' ')}, {people}", line)
        for field in fields
        for row in ATTACKS
        for people in SIDES.values()
        if (line := metrics.get(f"attribute_gain/{field}-{row}-{people}")) is not None
    ]
    ends = np.array([(line.value, line.low, line.high) for _, line in names], float)
    figures.bars(
        [label for label, _ in names],
        ends[:, 0],
        path,
        low=ends[:, 1],
        high=ends[:, 2],
        baseline=0.0,
        baseline_label="adds nothing",
        xlabel="accuracy with the model less accuracy of imputation with outcome",
    )
