"""What an adversary has: the type of the knowledge is the threat model.

What an adversary may not see has no field to be read from. Auxiliary information, a
generator, public images, a glimpse of the private image, is a field of its own.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import io_callback

from mijax.core import Glimpse, Prior, Target, known, pytree, static


@pytree
class Codec:
    """A target's own first layers as a space to search in (Process-DAE).

    Attributes:
      encode: `images [B, *shape] -> [B, D]`; a pytree, such as a `Partial`.
      decode: `[B, D] -> images [B, *shape]`.
    """

    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]


@pytree
class WhiteBox:
    """Parameters and architecture: the adversary may differentiate.

    Attributes:
      target: the model.
      labels: the class to recover for each victim, `[V]` int32.
      prior: a generator of public images.
      public: public images, `[M, H, W, C]`.
      glimpse: what is seen of each victim's private image.
      codec: the target's first layers, where it is an autoencoder.
    """

    target: Target
    labels: Array
    prior: Prior | None = None
    public: Array | None = None
    glimpse: Glimpse | None = None
    codec: Codec | None = None

    def __post_init__(self) -> None:
        """Refuses labels, images and parameters that cannot be right."""
        _check(self, self.target)
        if isinstance(self.target, Target):
            _finite("The target's parameters", self.target.params)


@pytree
class Scores:
    """A query that returns confidences, as released; nothing else of the model.

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

    def __post_init__(self) -> None:
        """Refuses labels and images that cannot be right."""
        _check(self, self.oracle)

    @classmethod
    def of(
        cls,
        target: Target,
        labels: Array,
        *,
        release: Callable[[Array], Array] | None = None,
        budget: int | None = None,
        **auxiliary: Any,
    ) -> "Scores":
        """Hides a target behind its confidences.

        Args:
          target: the model.
          labels: `[V]`.
          release: what a defense does to the confidences, `[B, K] -> [B, K]`; a
            pytree such as `Defense.output`.
          budget: how many examples may be asked about.
          **auxiliary: `public`, `prior`.
        """
        oracle = Oracle(_Confidences(), (target, release), target.shape)
        return cls(oracle, labels, 0, budget, **auxiliary)

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
    ) -> "Scores":
        """Hides any Python callable: scikit-learn, PyTorch, an HTTP client.

        Args:
          function: `images [B, *shape] -> confidences [B, num_classes]`, NumPy arrays.
          labels: `[V]`.
          shape: of one example.
          num_classes: K.
          budget: how many examples may be asked about.
          **auxiliary: `public`, `prior`.
        """
        oracle = Oracle(_Host(function, num_classes), (), shape)
        return cls(oracle, labels, 0, budget, **auxiliary)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.oracle.shape

    @property
    def num_classes(self) -> int:
        """K."""
        return self.oracle.num_classes

    def query(self, x: Array) -> tuple[Array, "Scores"]:
        """Asks about images `[B, *shape]`.

        Returns:
          Confidences `[B, K]`, and the knowledge with the queries counted.

        Raises:
          ValueError: if the images are of another shape.
          RuntimeError: when run, if the budget does not allow it.
        """
        answer, spent = _ask(self, x)
        return answer, _counted(self, spent)


@pytree
class Labels:
    """A query that returns the predicted label alone.

    Make one with `of` or `from_callable`. Attributes are those of `Scores`.
    """

    oracle: "Oracle"
    labels: Array
    spent: Array | int = 0
    budget: int | None = static(default=None)
    public: Array | None = None
    prior: Prior | None = None

    def __post_init__(self) -> None:
        """Refuses labels and images that cannot be right."""
        _check(self, self.oracle)

    @classmethod
    def of(
        cls,
        target: Target,
        labels: Array,
        *,
        release: Callable[[Array], Array] | None = None,
        budget: int | None = None,
        **auxiliary: Any,
    ) -> "Labels":
        """Hides a target behind its predicted label; arguments as in `Scores.of`."""
        oracle = Oracle(_Confidences(), (target, release), target.shape)
        return cls(oracle, labels, 0, budget, **auxiliary)

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
    ) -> "Labels":
        """Hides a Python callable that returns labels `[B]` of images `[B, *shape]`."""
        oracle = Oracle(_HostLabels(function, num_classes), (), shape)
        return cls(oracle, labels, 0, budget, **auxiliary)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.oracle.shape

    @property
    def num_classes(self) -> int:
        """K."""
        return self.oracle.num_classes

    def query(self, x: Array) -> tuple[Array, "Labels"]:
        """Asks about images `[B, *shape]`; returns labels `[B]` and what is left."""
        answer, spent = _ask(self, x)
        return jnp.argmax(answer, -1).astype(jnp.int32), _counted(self, spent)


# Opaque oracles -------------------------------------------------------------------


@jax.custom_jvp
def _opaque(x: Array) -> Array:
    return x


@_opaque.defjvp
def _no_derivative(primals: Any, tangents: Any) -> NoReturn:
    raise TypeError(
        "A black box cannot be differentiated: estimate the gradient from queries "
        "(mijax.minimize.central_differences), or hold a WhiteBox."
    )


@jax.tree_util.register_pytree_node_class
class Oracle:
    """Answers queries with confidences, and offers nothing else to read."""

    def __init__(
        self,
        answer: Callable[[Any, Array], Array],
        hidden: Any,
        shape: tuple[int, ...],
    ):
        self.__answer, self.__hidden, self.shape = answer, hidden, tuple(shape)

    @property
    def num_classes(self) -> int:
        """K."""
        x = jax.ShapeDtypeStruct((1, *self.shape), jnp.float32)
        return jax.eval_shape(self.__answer, self.__hidden, x).shape[1]

    def __call__(self, x: Array) -> Array:
        """Returns confidences `[B, K]` of images `[B, *shape]`."""
        if x.ndim != len(self.shape) + 1 or x.shape[1:] != self.shape:
            raise ValueError(
                f"Images are {x.shape[1:]} but the black box takes {self.shape}: "
                "resize or convert them first."
            )
        return self.__answer(self.__hidden, _opaque(x))

    def tree_flatten(self) -> tuple[tuple[Any], Any]:
        """For `jax.tree`."""
        return (self.__hidden,), (self.__answer, self.shape)

    @classmethod
    def tree_unflatten(cls, structure: Any, children: Any) -> "Oracle":
        """For `jax.tree`."""
        answer, shape = structure
        return cls(answer, children[0], shape)


class _Confidences:
    """Softmax of a target's logits, as a defense releases it."""

    def __call__(self, hidden: Any, x: Array) -> Array:
        target, release = hidden
        scores = jax.nn.softmax(target.predict(x).logits)
        return scores if release is None else release(scores)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class _Host:
    """Confidences from a Python callable."""

    def __init__(self, function: Callable[[np.ndarray], Any], num_classes: int):
        self.function, self.num_classes = function, num_classes

    def __call__(self, hidden: Any, x: Array) -> Array:
        del hidden  # The callable holds its own model.
        answer = jax.ShapeDtypeStruct((x.shape[0], self.num_classes), jnp.float32)
        return io_callback(self._answer, answer, x)

    def _answer(self, x: Array) -> np.ndarray:
        answer = np.asarray(self.function(np.asarray(x)), np.float32)
        if answer.shape != (x.shape[0], self.num_classes):
            raise ValueError(
                f"The black box answered {answer.shape} for {x.shape[0]} images: "
                f"expected {(x.shape[0], self.num_classes)}."
            )
        return answer


class _HostLabels(_Host):
    """Labels from a Python callable, as confidences of one class."""

    def _answer(self, x: Array) -> np.ndarray:
        labels = np.asarray(self.function(np.asarray(x)))
        if labels.shape != (x.shape[0],):
            raise ValueError(
                f"The black box answered {labels.shape} for {x.shape[0]} images: "
                f"expected labels {(x.shape[0],)}."
            )
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(
                f"The black box answered label {labels.max()}: expected 0 to "
                f"{self.num_classes - 1}."
            )
        return np.eye(self.num_classes, dtype=np.float32)[labels.astype(int)]


def _ask(knowledge: Scores | Labels, x: Array) -> tuple[Array, Array]:
    spent = knowledge.spent + jnp.int32(x.shape[0])
    if knowledge.budget is not None:

        def refuse(spent: Array) -> None:
            if int(spent) > knowledge.budget:  # type: ignore[operator]
                raise RuntimeError(
                    f"The query budget is {knowledge.budget} and the attack asked for "
                    f"{int(spent)}: raise the budget, or lower the attack's steps."
                )

        io_callback(refuse, None, spent)
    return knowledge.oracle(x), spent


def _counted(knowledge: Any, spent: Array) -> Any:
    import dataclasses

    return dataclasses.replace(knowledge, spent=spent)


# Checks ---------------------------------------------------------------------------


def _check(knowledge: Any, model: Any) -> None:
    labels = known(knowledge.labels)
    if labels is not None:
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"labels are {labels.dtype}: they must be integers, one a victim."
            )
        classes = getattr(model, "num_classes", None)
        if classes is not None and (labels.min() < 0 or labels.max() >= classes):
            wrong = labels[(labels < 0) | (labels >= classes)].flat[0]
            raise ValueError(
                f"labels hold {wrong}: the target's classes are 0 to {classes - 1}."
            )
    _finite("public images", knowledge.public)
    _finite("The prior's parameters", knowledge.prior)
    if getattr(knowledge, "glimpse", None) is not None:
        _finite("The glimpse", knowledge.glimpse)


def _finite(name: str, tree: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        numbers = known(leaf)
        if numbers is not None and np.issubdtype(numbers.dtype, np.floating):
            bad = int(np.sum(~np.isfinite(numbers)))
            if bad:
                where = jax.tree_util.keystr(path)
                raise ValueError(
                    f"{name}{where} hold {bad} values that are NaN or infinite: "
                    "mend them before the attack."
                )
