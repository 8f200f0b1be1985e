"""Black boxes: a query that returns confidences, or the predicted label alone."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NoReturn, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import io_callback

from mijax.core import Prior, Target, in_chunks, pytree, split_columns, static
from mijax.knowledge import validation

_NUMBERS = 2**20  # held of completions at a time; changes no result
_HELD = 2**7  # of each, by a callable, which does not tell
_ROUNDING = 1e-3  # by which a callable's confidences may leave [0, 1]

failures: list[ValueError | RuntimeError] = []  # of callables, for `asking`


@pytree
class BlackBox:
    """A query of a model of which nothing else is seen: `Scores` or `Labels`.

    Make one with `of` or `from_callable`. Differentiating through it raises.

    Attributes:
      oracle: answers queries.
      labels: the class to recover for each victim, `[V]` int32.
      spent: the number of examples asked about so far.
      budget: how many may be asked about; None for no limit.
      public: public images, `[M, H, W, C]`.
      prior: a generator of public images.
    """

    oracle: "Oracle"
    labels: Array
    spent: Array | int = 0
    budget: int | None = static(default=None)
    public: Array | None = None
    prior: Prior | None = None

    _LABEL_ONLY: ClassVar[bool] = False

    def check_labels(self) -> None:
        """Raises ValueError if labels are not `[V]` classes of the model."""
        validation.check_vector_of_labels(self.labels, self.num_classes)

    def check_values(self) -> None:
        """Raises ValueError if labels, images or the model cannot be right."""
        self.check_labels()
        self.oracle.check_values()
        validation.check_finite("The public images", self.public)
        validation.check_finite("The prior's parameters", self.prior)

    @classmethod
    def of(
        cls,
        target: Target,
        labels: Array,
        *,
        release: Callable[[Array], Array] | None = None,
        budget: int | None = None,
        **auxiliary: Any,
    ) -> Self:
        """Hides a target behind its answers.

        Args:
          target: the model.
          labels: `[V]`.
          release: what a defense does to the confidences, `[B, K] -> [B, K]`; a
            pytree such as `Defense.output`.
          budget: how many examples may be asked about.
          **auxiliary: `public`, `prior`.
        """
        hide = Oracle.of_labels if cls._LABEL_ONLY else Oracle.of
        return cls(hide(target, release), labels, 0, budget, **auxiliary)

    @classmethod
    def from_callable(
        cls,
        function: Callable[[np.ndarray], Any],
        labels: Array,
        shape: tuple[int, ...],
        num_classes: int,
        *,
        budget: int | None = None,
        **auxiliary: Any,
    ) -> Self:
        """Hides any Python callable: scikit-learn, PyTorch, an HTTP client.

        Args:
          function: of `images [B, *shape]`; returns confidences `[B, num_classes]` in
            [0, 1] for `Scores`, integer labels `[B]` for `Labels`; NumPy arrays. One
            that may fail is a `Kept`; `with asking():` makes one error of it, which
            else is the last line of JAX's.
          labels: `[V]`.
          shape: of one example.
          num_classes: K.
          budget: how many examples may be asked about.
          **auxiliary: `public`, `prior`.
        """
        hide = Oracle.from_label_callable if cls._LABEL_ONLY else Oracle.from_callable
        return cls(hide(function, shape, num_classes), labels, 0, budget, **auxiliary)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.oracle.shape

    @property
    def num_classes(self) -> int:
        """K."""
        return self.oracle.num_classes

    def _ask(self, x: Array) -> tuple[Array, Self]:
        spent = self.spent + jnp.int32(x.shape[0])
        answer = self.oracle._answers(afforded(self.budget, spent, x))
        return answer, dataclasses.replace(self, spent=spent)


@pytree
class Scores(BlackBox):
    """A query that returns confidences, as released; nothing else of the model.

    Attributes:
      observed: confidences that were released of each victim's private input, `[V, K]`,
        where the adversary saw them.
    """

    observed: Array | None = None

    def check_values(self) -> None:
        """Raises ValueError if labels, images, scores or the model cannot be right."""
        super().check_values()
        validation.check_finite("The observed confidences", self.observed)

    def query(self, x: Array) -> tuple[Array, Self]:
        """Asks about images `[B, *shape]`.

        Returns:
          Confidences `[B, K]`, and the knowledge with the queries counted.

        Raises:
          ValueError: if the images are of another shape.
          RuntimeError: when run, if the budget does not allow it.
        """
        return self._ask(x)


@pytree
class Labels(BlackBox):
    """A query that returns the predicted label alone."""

    _LABEL_ONLY: ClassVar[bool] = True

    def query(self, x: Array) -> tuple[Array, Self]:
        """Asks about images `[B, *shape]`; like `Scores.query`, but labels `[B]`."""
        answer, counted = self._ask(x)
        return jnp.argmax(answer, -1).astype(jnp.int32), counted


# Opaque oracles -------------------------------------------------------------------


@jax.custom_jvp
def _opaque(x: Array) -> Array:
    return x


@_opaque.defjvp
def _no_derivative(primals: Any, tangents: Any) -> NoReturn:
    raise TypeError(
        "A black box cannot be differentiated: estimate the gradient from queries "
        "(mijax.search.central_differences), or hold a WhiteBox."
    )


class Oracle:
    """Answers queries of the knowledge that holds it, and offers nothing to read.

    Whoever holds it cannot ask it past the count: only the knowledge's `query` asks.

    It answers confidences, `[B, K]`; a predicted label, as confidences of one class;
    or, where K is 1, the number that a regression predicts. Make one with `of`,
    `of_labels`, `from_callable` or `from_label_callable`.

    Attributes:
      shape: of one example.
      num_classes: K; 1 for a regression.
    """

    def __init__(
        self,
        answer: "_Confidences | _Host",
        hidden: Any,
        shape: tuple[int, ...],
        num_classes: int,
    ):
        self.__answer, self.__hidden = answer, hidden
        self.shape, self.num_classes = tuple(shape), num_classes

    @classmethod
    def of(
        cls, target: Target, release: Callable[[Array], Array] | None = None
    ) -> "Oracle":
        """Hides a target behind its confidences, as `release` lets them out.

        A target of one output is a regression, whose answer is that number.
        """
        return cls._hiding(_Confidences(), target, release)

    @classmethod
    def of_labels(
        cls, target: Target, release: Callable[[Array], Array] | None = None
    ) -> "Oracle":
        """Hides a target behind the label that it predicts."""
        return cls._hiding(_Labels(), target, release)

    @classmethod
    def _hiding(cls, answer: "_Confidences", target: Target, release: Any) -> "Oracle":
        return cls(answer, (target, release), target.shape, target.num_classes)

    @classmethod
    def from_callable(
        cls,
        function: Callable[[np.ndarray], Any],
        shape: tuple[int, ...],
        num_classes: int,
    ) -> "Oracle":
        """Hides a Python callable that returns confidences `[B, num_classes]`.

        With `num_classes` 1 it is a regression, and may return `[B]`.
        """
        return cls(_Host(function, num_classes), (), shape, num_classes)

    @classmethod
    def from_label_callable(
        cls,
        function: Callable[[np.ndarray], Any],
        shape: tuple[int, ...],
        num_classes: int,
    ) -> "Oracle":
        """Hides a Python callable that returns integer labels `[B]`."""
        return cls(_HostLabels(function, num_classes), (), shape, num_classes)

    def check_values(self) -> None:
        """Raises ValueError if what is hidden holds NaN or infinity."""
        if isinstance(self.__answer, _Confidences):
            target, _ = self.__hidden
            validation.check_finite("The target's parameters", target.params)

    def _completed(self, records: Array, columns: Array, values: Array) -> Array:
        """Asks about each record with each completion of its unknown columns.

        Args:
          records: `[B, D]`; what stands in `columns` is overwritten.
          columns: the unknown ones, `[d]`.
          values: what to fill in, `[K, d]`.

        Returns:
          What `B * K` queries answer, `[K, B, num_classes]`.
        """
        pairs = max(1, _NUMBERS // self.__answer.held(self.__hidden))

        def of_values(values: Array) -> Array:
            def of_records(records: Array) -> Array:
                return jnp.swapaxes(
                    self._some_completed(records, columns, values), 0, 1
                )

            some = max(1, pairs // values.shape[0])
            return jnp.swapaxes(in_chunks(of_records, records, some), 0, 1)

        return in_chunks(of_values, values, pairs)

    def _some_completed(self, records: Array, columns: Array, values: Array) -> Array:
        if isinstance(self.__answer, _Confidences):
            completions = _opaque((records, columns, values))
            answers = _opaque(self.__answer.complete(self.__hidden, *completions))
        else:
            known, filled = split_columns(records, columns, values)
            x = known[None] + filled[:, None]
            answers = self._answers(x.reshape(-1, *self.shape))
        return answers.reshape(values.shape[0], records.shape[0], -1)

    def _answers(self, x: Array) -> Array:
        """Returns confidences `[B, K]` of images `[B, *shape]`."""
        if x.ndim != len(self.shape) + 1 or x.shape[1:] != self.shape:
            raise ValueError(
                f"Images are {x.shape[1:]} but the black box takes {self.shape}: "
                "resize or convert them first."
            )
        # Opaque on both sides: neither images nor what is hidden has a derivative.
        return _opaque(self.__answer(self.__hidden, _opaque(x)))

    def _flatten(self) -> tuple[tuple[Any], Any]:
        return (self.__hidden,), (self.__answer, self.shape, self.num_classes)

    @classmethod
    def _unflatten(cls, structure: Any, children: Any) -> "Oracle":
        answer, shape, num_classes = structure
        return cls(answer, children[0], shape, num_classes)


jax.tree_util.register_pytree_node(Oracle, Oracle._flatten, Oracle._unflatten)


@dataclasses.dataclass(frozen=True)
class _Confidences:
    """Softmax of a target's logits, as a defense releases it; a regression's number."""

    def __call__(self, hidden: Any, x: Array) -> Array:
        target, release = hidden
        return self.released(target.predict(x).logits, release)

    def held(self, hidden: Any) -> int:
        target, _ = hidden
        return target.held

    def complete(self, hidden: Any, *completions: Array) -> Array:
        target, release = hidden
        logits = target.complete(*completions)
        return self.released(logits.reshape(-1, logits.shape[-1]), release)

    def released(self, logits: Array, release: Any) -> Array:
        scores = logits if logits.shape[-1] == 1 else jax.nn.softmax(logits)
        return scores if release is None else release(scores)


@dataclasses.dataclass(frozen=True)
class _Labels(_Confidences):
    """The likeliest class, as confidences of one class."""

    def released(self, logits: Array, release: Any) -> Array:
        # A label would hide that there is no derivative.
        scores = _opaque(super().released(logits, release))
        return jax.nn.one_hot(jnp.argmax(scores, -1), scores.shape[-1])


@dataclasses.dataclass(frozen=True)
class _Host:
    """Confidences from a Python callable; equal ones are one function to `jit`."""

    function: Callable[[np.ndarray], Any]
    num_classes: int

    def __call__(self, hidden: Any, x: Array) -> Array:
        del hidden  # The callable holds its own model.
        answer = jax.ShapeDtypeStruct((x.shape[0], self.num_classes), jnp.float32)
        return io_callback(_Recorded(self._answer), answer, x)

    def held(self, hidden: Any) -> int:
        del hidden
        return _HELD

    def _answer(self, x: Array) -> np.ndarray:
        answer = np.asarray(self.function(np.asarray(x)), np.float32)
        if self.num_classes == 1 and answer.ndim == 1:
            answer = answer[:, None]
        if answer.shape != (x.shape[0], self.num_classes):
            raise ValueError(
                f"The black box answered {answer.shape} for {x.shape[0]} images: "
                f"expected {(x.shape[0], self.num_classes)}."
            )
        right, expected = np.isfinite(answer), "finite numbers"
        if self.num_classes > 1:
            right &= (answer >= -_ROUNDING) & (answer <= 1 + _ROUNDING)
            expected = "confidences in [0, 1], such as softmax makes of logits"
        if not right.all():
            raise ValueError(
                f"The black box answered {answer[~right][0]}: expected {expected}."
            )
        return answer


@dataclasses.dataclass(frozen=True)
class _HostLabels(_Host):
    """Labels from a Python callable, as confidences of one class."""

    def _answer(self, x: Array) -> np.ndarray:
        labels = np.asarray(self.function(np.asarray(x)))
        if labels.shape != (x.shape[0],) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"The black box answered {labels.dtype} {labels.shape} for "
                f"{x.shape[0]} images: expected integer labels {(x.shape[0],)}."
            )
        wrong = labels[(labels < 0) | (labels >= self.num_classes)]
        if wrong.size:
            raise ValueError(
                f"The black box answered label {wrong[0]}: expected 0 to "
                f"{self.num_classes - 1}."
            )
        return np.eye(self.num_classes, dtype=np.float32)[labels]


@dataclasses.dataclass(frozen=True)
class _Recorded:
    """A callback, of which `asking` knows how it failed."""

    function: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self.function(*arguments)
        except BaseException as error:
            failures.append(in_a_sentence(error))
            raise failures[-1] from None


def in_a_sentence(error: BaseException) -> ValueError | RuntimeError:
    """What went wrong in a callable, with its remedy: JAX's error ends with it."""
    if isinstance(error, ValueError | RuntimeError):
        return error
    return ValueError(
        f"The black box {said(error)}: run the same again with "
        "mijax.knowledge.Kept(function, FILE), which keeps what it answered."
    )


def said(error: BaseException) -> str:
    """An error in a few words of one line."""
    if isinstance(error, KeyboardInterrupt):
        return "was interrupted"
    words = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
    return f"raised {words:.200}"


def afforded(budget: int | None, spent: Array, x: Array) -> Array:
    """Returns `x`, once the budget is found to allow that `spent` queries are asked.

    Raises:
      RuntimeError: when run, if it does not.
    """
    if budget is None:
        return x
    allowed = io_callback(
        _Recorded(partial(_afford, budget)), jax.ShapeDtypeStruct((), bool), spent
    )
    # The images depend on the permission, so that it comes before the answer.
    return jnp.where(allowed, x, jnp.nan)


def _afford(budget: int, spent: Array) -> np.ndarray:
    if int(spent) > budget:
        raise RuntimeError(
            f"The query budget is {budget} and the attack asked for {int(spent)}: "
            "raise the budget, or lower the attack's steps."
        )
    return np.asarray(True)
