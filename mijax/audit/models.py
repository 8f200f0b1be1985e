"""A user's model as one function: rows in, scores of the target's classes out."""

import dataclasses
import importlib
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mijax.audit import networks, rows
from mijax.audit.rows import Frame

_ROUNDING = 1e-3  # by which a probability may leave [0, 1]


@dataclasses.dataclass(frozen=True)
class Model:
    """What may be asked of a model.

    Attributes:
      predict: of a frame's rows, whatever the model answers.
      name: for messages.
      takes: the columns that it was fitted to, None where it does not say.
      classes: the order of its probabilities, None where it does not say.
      neurons: of a frame's rows, the activations of a network, `[B, M]`; None where
        they are not to be seen.
    """

    predict: Callable[[Frame], Any]
    name: str
    takes: tuple[str, ...] | None = None
    classes: tuple[Any, ...] | None = None
    neurons: Callable[[Frame], Any] | None = None


def load(path: str, trust: bool = False) -> Any:
    """Returns the function of MODULE:FUNCTION, or the estimator in a joblib file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: there is no such function, or the file may not be opened.
    """
    if ":" in path and not pathlib.Path(path).is_file():
        return function(path, "--model")
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f"--model={path}: there is no such file: give FILE.joblib or "
            "MODULE:FUNCTION."
        )
    if not trust:
        raise ValueError(
            f"--model={path} is a pickle, and opening it runs whatever program is in "
            "it: if it is your own, add --trust_model_file."
        )
    import joblib

    try:
        return joblib.load(file)
    except Exception as error:
        if "__main__" in str(error):
            raise ValueError(
                f"--model={path} holds what a script defined, which is not to be found "
                f"({_said(error)}): define it in a module, and save the model again."
            ) from error
        raise ValueError(
            f"--model={path} cannot be opened: {_said(error)}. Give a file that joblib "
            "wrote with the packages of this environment, or MODULE:FUNCTION."
        ) from error


def function(name: str, flag: str) -> Any:
    """Imports MODULE:FUNCTION, the working directory included.

    Raises:
      ValueError: there is no such function.
    """
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"{flag}={name} cannot be imported: {_said(error)}. Give MODULE:FUNCTION "
            "of a module in this folder, or of one that is installed."
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found) and not hasattr(found, "predict"):
        raise ValueError(
            f"{flag}={name} is a {type(found).__name__}: give a function of rows."
        )
    return found


def frame(name: str) -> Frame:
    """What a user's own loader returns.

    Raises:
      ValueError: there is no such function, or it fails.
    """
    load = function(name, "--rows")
    try:
        return load()
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"--rows={name} fails: {_said(error)}. It must be a function without "
            "arguments that returns a data frame, or a dict of columns."
        ) from error


def adapt(model: Any) -> Model:
    """A function of a frame, an estimator or a network as a `Model`.

    Estimators are as scikit-learn's; those of LightGBM, XGBoost and CatBoost and
    pipelines are such. Networks are those of `networks.read`. A Model is returned as it
    is.

    Raises:
      ValueError: it does neither.
    """
    if isinstance(model, Model):
        return model
    network = networks.read(model)
    if network is not None:
        return Model(network[0], type(model).__name__, neurons=network[1])
    if not hasattr(model, "predict"):
        if not callable(model):
            raise ValueError(
                f"The model is a {type(model).__name__}, which does not predict: give "
                "an estimator or a function."
            )
        return Model(model, getattr(model, "__qualname__", type(model).__name__))
    takes = None
    for attribute in ("feature_names_in_", "feature_names_"):
        try:
            found = getattr(model, attribute, None)
        except Exception:  # LightGBM raises before it is fitted.
            found = None
        if takes is None and found is not None and len(found):
            takes = tuple(map(str, found))
    classes = getattr(model, "classes_", None)
    ask = getattr(model, "predict_proba", model.predict)

    def predict(asked: Frame) -> Any:
        return ask(_given(asked, takes))

    return Model(
        predict,
        type(model).__name__,
        takes,
        None if classes is None or not len(classes) else tuple(classes),
    )


def _given(asked: Frame, takes: Sequence[str] | None) -> Any:
    """What an estimator is given: the frame it was fitted to, else numbers."""
    if hasattr(asked, "iloc"):
        if takes is None:
            return asked
        found = {name.strip(): name for name in asked.columns}
        chosen = asked[[found[name.strip()] for name in takes]]
        return chosen.set_axis(list(takes), axis=1)
    if takes is not None:
        try:
            pandas: Any = importlib.import_module("pandas")
        except ImportError as error:
            raise ValueError(
                "the model was fitted to a data frame: pip install pandas"
            ) from error
        return _given(pandas.DataFrame(dict(asked)), takes)
    text = [name for name, values in asked.items() if values.dtype.kind not in "iufb"]
    if text:
        raise ValueError(
            f"the model takes numbers and {text[0]!r} holds text: give a function that "
            "encodes it as for training"
        )
    return np.column_stack(list(asked.values()))


def lacking(model: Model, columns: Sequence[str]) -> list[str]:
    """The columns that the model takes and the frame lacks."""
    known = {name.strip() for name in columns}
    return [name for name in model.takes or () if name.strip() not in known]


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads answers as scores, `[B, C]` float64; of a regression, `[B, 1]`.

    Attributes:
      model: that answers.
      categories: of the target, in the table's order; empty of a regression.
      kind: "numbers", "labels", "probabilities" or "positive", fixed by the first
        answers of all rows: `positive` is the probability of the second class alone.
    """

    model: Model
    categories: tuple[str, ...]
    kind: str

    @classmethod
    def of(
        cls, model: Model, categories: Sequence[str], answers: NDArray[Any]
    ) -> "Reader":
        """Finds out what the answers of many rows are.

        Raises:
          ValueError: they fit no target.
        """
        categories = tuple(categories)
        if answers.ndim > 2 or answers.dtype.kind not in "iufbOUST":
            raise ValueError(
                f"The model {model.name} answers {_shaped(answers)}: it must answer "
                "with a label, a number, or the probabilities of the classes, once a "
                "row."
            )
        if not categories:
            return cls(model, (), "numbers")
        if answers.ndim == 2 and answers.shape[1] != 1:
            classes = np.array(model.classes or (), object)
            if len(classes) and (_places(classes, categories) < 0).all():
                raise ValueError(
                    f"The classes of the model {model.name}, "
                    f"{', '.join(map(rows.label, classes[:20]))}, are none of the "
                    f"target's, {', '.join(categories[:20])}: name the column that it "
                    "was trained to predict, or write its values alike."
                )
            return cls(model, categories, "probabilities")
        flat = answers.reshape(len(answers))
        named = _places(flat, categories)
        if (named >= 0).all():
            return cls(model, categories, "labels")
        numbers = flat.dtype.kind == "f" and len(categories) == 2
        if numbers and ((flat >= 0) & (flat <= 1)).all():
            return cls(model, categories, "positive")
        if flat.dtype.kind == "f":
            _finite(model.name, flat[:, None])
        wrong = rows.label(flat[int(np.argmin(named))])
        raise ValueError(
            f"The model predicts {wrong!r}, which the target never is: it is one of "
            f"{', '.join(categories[:20])}. Give labels, probabilities of each, or "
            "--numeric= the target's name."
        )

    def scores(self, asked: Frame) -> NDArray[np.float64]:
        """Asks, and reads what is answered.

        Raises:
          ValueError: the model fails, or answers amiss.
        """
        return self.read(answer(self.model, asked))

    def read(self, answers: NDArray[Any]) -> NDArray[np.float64]:
        """Reads what was answered of some rows."""
        name = self.model.name
        if self.kind == "numbers":
            if answers.size != len(answers) or answers.dtype.kind not in "iufb":
                raise ValueError(
                    f"The model {name} answers {_shaped(answers)}: of a numeric target "
                    "it must be one number a row; if it tells classes, add "
                    "--categorical= the target's name."
                )
            return _finite(name, answers.reshape(-1, 1).astype(np.float64))
        size = len(self.categories)
        if self.kind == "labels":
            if answers.size != len(answers):
                raise ValueError(
                    f"The model {name} answered with labels and now with "
                    f"{_shaped(answers)}: it must always answer alike."
                )
            places = _places(answers.reshape(len(answers)), self.categories)
            if (places < 0).any():
                wrong = rows.label(answers.reshape(-1)[int(np.argmin(places))])
                raise ValueError(
                    f"The model predicts {wrong!r}, which the target never is: it must "
                    f"be one of {', '.join(self.categories[:20])}."
                )
            return np.eye(size)[places]
        classes = self.model.classes
        order = (
            np.arange(size)
            if classes is None
            else _places(np.array(classes, object), self.categories)
        )
        if answers.dtype.kind not in "iufb":
            raise ValueError(
                f"The model {name} answers {_shaped(answers)}: give probabilities as "
                "numbers, or labels."
            )
        if self.kind == "positive" and answers.size == len(answers):
            answers = answers.reshape(-1).astype(np.float64)
            answers = np.stack([1 - answers, answers], 1)
        if answers.ndim != 2 or answers.shape[1] != len(order):
            raise ValueError(
                f"The model {name} answers {answers.shape} for {len(answers)} rows: it "
                f"must be probabilities of {', '.join(self.categories[:20])}, or "
                "labels."
            )
        # A class that the table never has keeps its place behind the others.
        spread = np.zeros((len(answers), size + int((order < 0).sum())))
        order = np.where(order < 0, size + np.cumsum(order < 0) - 1, order)
        spread[:, order] = answers
        _finite(name, spread)
        far = np.abs(spread - np.clip(spread, 0, 1)).max()
        if far > _ROUNDING:
            wrong = spread.flat[int(np.abs(spread - 0.5).argmax())]
            raise ValueError(
                f"The model {name} answers {wrong:g}, which is no probability: give "
                "predict_proba, or a softmax of its logits."
            )
        return spread


def answer(model: Model, asked: Frame) -> NDArray[Any]:
    """What the model answers, one a row.

    Raises:
      ValueError: it fails, or answers of another number of rows.
    """
    number = rows.size(asked)
    try:
        said = model.predict(rows.copied(asked))  # It may change what it is given.
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"The model {model.name} fails on {number} rows of "
            f"{', '.join(map(str, rows.names(asked)))}: {_said(error)}. Give "
            "--rows=MODULE:FUNCTION, a loader that reads the file as for training; if "
            "it knows no value that others have, --unknown=drop; if it fails now and "
            "then, --resume, which keeps what it has answered."
        ) from error
    try:
        answers = np.asarray(said)
    except Exception as error:
        what = (
            "rows of different lengths"
            if isinstance(error, ValueError)
            else f"a {type(said).__name__} that cannot be read"
        )
        raise ValueError(
            f"The model {model.name} answers with {what}: it must answer with a label, "
            "a number, or the probabilities of the classes."
        ) from error
    if answers.dtype == object and answers.shape == (number,):
        texts = [isinstance(value, str) for value in answers]
        if not any(texts):
            answers = np.array(answers.tolist())
    if answers.shape[:1] != (number,):
        raise ValueError(
            f"The model {model.name} answers {answers.shape} for {number} rows: it "
            "must answer once a row."
        )
    return answers


def activations(model: Model, asked: Frame) -> NDArray[np.float32]:
    """A network's neurons, `[B, M]`.

    Raises:
      ValueError: they cannot be read, or are not finite numbers.
    """
    assert model.neurons is not None
    number = rows.size(asked)
    try:
        seen = np.asarray(model.neurons(rows.copied(asked)))
        seen = seen.reshape(len(seen), -1).astype(np.float32)
    except Exception as error:
        raise ValueError(
            f"The neurons of {model.name} cannot be read: {_said(error)}. Give "
            "--neurons=MODULE:FUNCTION, of rows, that returns activations [B, M]"
        ) from error
    if len(seen) != number or not np.isfinite(seen).all():
        raise ValueError(
            f"The neurons of {model.name} are {seen.shape} for {number} rows, or not "
            "finite: --neurons must return finite activations [B, M]"
        )
    return seen


def _places(values: NDArray[Any], categories: Sequence[str]) -> NDArray[np.intp]:
    """The place of each label among the categories, -1 of those that are none."""
    known: Mapping[str, int] = {c.strip(): i for i, c in enumerate(categories)}
    different, codes = rows.coded(np.asarray(values))
    return np.array([known.get(v.strip(), -1) for v in different], np.intp)[codes]


def _shaped(answers: NDArray[Any]) -> str:
    kinds = {"i": "integers", "u": "integers", "f": "numbers", "b": "booleans"}
    return (
        f"{kinds.get(answers.dtype.kind, 'values that are no numbers')} {answers.shape}"
    )


def _finite(name: str, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    wrong = int((~np.isfinite(scores).all(1)).sum())
    if wrong:
        raise ValueError(
            f"The model {name} answers NaN or inf for {wrong} rows: it must answer "
            "with a number."
        )
    return scores


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
