"""What a federated server sees of its clients: their updates, never their batches."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mijax.core import Prior, Target, concrete, pytree, refuse_one_output, static
from mijax.federation import Recipe
from mijax.knowledge import standardized, validation


@pytree
class SharedUpdate:
    """The model that was sent, and what each of V clients shared of its batch.

    Attributes:
      target: the model that the clients trained.
      update: their gradients or changes of weights, a tree as `Target.trained` with
        leaves `[V, ...]`; what `federation.share` returns as `change`. None in place
        of a leaf says that it was not shared (frozen or encrypted).
      batch_size: B, the number of examples of each client.
      recipe: how they trained, which is public.
      labels: the classes of their examples, `[V, B]` int32, where they are known.
      statistics: the means and variances of their batches, a tree as
        `Target.running_statistics` with leaves `[V, F]`, where they are shared.
      similar: an image of the same class as each example, `[V, B, *shape]`, where the
        adversary has one.
      prior: a generator of public images.
      public: public images, `[M, H, W, C]`.
      mean: what was subtracted of images in [0, 1] before the target saw them: a number
        or one a channel, `[C]`; None for a target of images in [0, 1]. All images here
        and all that attacks return lie in [0, 1].
      deviation: what they were divided by after that.
    """

    # Of these fields, each leaf's first axis is the victims'.
    VICTIMS: ClassVar = ("update", "labels", "statistics", "similar")

    target: Target
    update: Any
    batch_size: int = static(default=1)
    recipe: Recipe = Recipe()
    labels: Array | None = None
    statistics: Any = None
    similar: Array | None = None
    prior: Prior | None = None
    public: Array | None = None
    mean: float | Array | None = None
    deviation: float | Array | None = None

    def __post_init__(self) -> None:
        """Raises if the batch is empty; `checked` raises for shapes."""
        if not isinstance(self.batch_size, int | np.integer):
            raise ValueError(
                f"batch_size is {self.batch_size!r}: it must be a whole number, the "
                "same for all clients."
            )
        if self.batch_size < 1:
            raise ValueError(
                f"batch_size is {self.batch_size}: a client shares what 1 or more "
                "examples taught it."
            )

    def check_values(self) -> None:
        """Raises ValueError if updates, images or parameters cannot be right."""
        _alike("update", self.update, self.target.trained)
        validation.check_finite("The public images", self.public)
        validation.check_finite("The similar images", self.similar)
        if len(self.target.shape) == 3:
            validation.check_pixels("public", self.public)
            validation.check_pixels("similar", self.similar)
        validation.check_finite("The prior's parameters", self.prior)
        validation.check_finite("The shared update's leaves ", self.update)
        validation.check_finite("The shared statistics' leaves ", self.statistics)
        validation.check_finite("The target's parameters", self.target.params)
        if self.labels is not None:
            validation.check_labels(self.labels, self.target.num_classes)
        _not_zero(self.update)

    def checked(self) -> "SharedUpdate":
        """Returns itself, if its shapes are those of the target and of one another.

        The target of standardized images becomes one of images in [0, 1], and half
        precision float32.

        Raises:
          ValueError: if they are not.
        """
        if not isinstance(self.recipe, Recipe):
            raise ValueError(
                f"The local recipe is {self.recipe!r}: give a mijax.federation.Recipe, "
                "for how the clients trained."
            )
        # Where an integer stands, the constructor may be making axes for `vmap`.
        rate = jnp.asarray(self.recipe.learning_rate)
        dataclasses.replace(self.recipe, learning_rate=rate)
        if self.prior is not None and not isinstance(self.prior, Prior):
            raise ValueError(
                f"The prior is a {type(self.prior).__name__}: give a mijax.core.Prior, "
                "such as mijax.priors.load(...) or Prior.from_linen(...)."
            )
        update = _alike("update", self.update, self.target.trained)
        statistics = self.statistics
        if statistics is not None:
            running = self.target.running_statistics
            statistics = _alike("statistics", statistics, running)
        known = dataclasses.replace(self, update=update, statistics=statistics)
        return known._checked()

    def _checked(self) -> "SharedUpdate":
        refuse_one_output(self.target.num_classes)
        if self.labels is not None:
            validation.check_labels(self.labels, self.target.num_classes)
            expected = self.victims, self.batch_size
            if np.shape(self.labels) != expected:
                raise ValueError(
                    f"labels are {np.shape(self.labels)}: they must be {expected}, one "
                    "for each example of each client."
                )
        if self.public is not None:
            validation.check_images("public", self.public, self.target.shape)
            if self.public.ndim != len(self.target.shape) + 1:
                raise ValueError(
                    f"The public images are {self.public.shape}: they must be "
                    f"{('M', *self.target.shape)}, for M images."
                )
        if self.similar is not None:
            validation.check_images("similar", self.similar, self.target.shape)
            expected = self.victims, self.batch_size, *self.target.shape
            if self.similar.shape != expected:
                raise ValueError(
                    f"The similar images are {self.similar.shape}: they must be "
                    f"{expected}, one for each example of each client."
                )
        if self.mean is None and self.deviation is None:
            return self
        if self.mean is None or self.deviation is None:
            raise ValueError(
                f"mean is {self.mean} and deviation {self.deviation}: give both, for a "
                "target of standardized images, or neither."
            )
        standardized.refuse_numbers(self.target.shape, self.mean, self.deviation)
        target = standardized.of_pixels(self.target, self.mean, self.deviation)
        return dataclasses.replace(self, target=target, mean=None, deviation=None)

    @property
    def victims(self) -> int:
        """V."""
        return jax.tree.leaves(self.update)[0].shape[0]


def _alike(name: str, tree: Any, like: Any) -> Any:
    """Returns a tree as that of the target, in float32 or more.

    Raises:
      ValueError: if leaves differ, naming the first wrong one.
    """
    expected = dict(jax.tree_util.tree_leaves_with_path(like))
    given = dict(jax.tree_util.tree_leaves_with_path(tree))
    for path, leaf in given.items():
        where = jax.tree_util.keystr(path)
        shape = getattr(leaf, "shape", None)
        if path not in expected:
            what = f"of shape {shape}" if shape is not None else type(leaf).__name__
            raise ValueError(
                f"The {name} holds a leaf {where} {what} that the target does not "
                "have: give the change that federation.share returns for this "
                "architecture."
            )
        dtype = getattr(leaf, "dtype", type(leaf).__name__)
        if shape is None or not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"The {name}'s leaf {where} is {dtype}: give an array of real "
                "floating-point numbers, such as float32."
            )
        if leaf.shape[1:] != expected[path].shape or not leaf.ndim:
            raise ValueError(
                f"The {name}'s leaf {where} is {leaf.shape}, but the target's is "
                f"{expected[path].shape}: it must be "
                f"{('V', *expected[path].shape)} for V clients."
            )
    withheld = {path for path, leaf in _with_none(tree) if leaf is None}
    for path, leaf in expected.items():
        if path not in given and path not in withheld:
            raise ValueError(
                f"The {name} lacks the target's leaf {jax.tree_util.keystr(path)} of "
                f"shape {leaf.shape}: was it made with another architecture?"
            )
    counts = {leaf.shape[0] for leaf in given.values()}
    if len(counts) > 1:
        raise ValueError(
            f"The {name}'s leaves are of {sorted(counts)} clients: they must be of as "
            "many."
        )
    if counts == {0} or not given:
        raise ValueError(f"The {name} is of no client: give one or more.")
    # Other kinds of dict have the same paths, but are other trees to JAX.
    leaves = [_wide(given[path]) if path in given else None for path in expected]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _wide(leaf: Array) -> Array:
    """Half precision as float32: its sums would lose what distances are made of."""
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def _with_none(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: leaf is None)


def _not_zero(update: Any) -> None:
    """Refuses a client whose whole update is zero: it tells nothing."""
    leaves = jax.tree.leaves(update)
    numbers = [leaf for leaf in map(concrete, leaves) if leaf is not None and leaf.ndim]
    if len(numbers) < len(leaves) or len({len(leaf) for leaf in numbers}) != 1:
        return  # Traced, or of a shape that `checked` raises for.
    largest = np.max([np.max(np.abs(x).reshape(len(x), -1), 1) for x in numbers], 0)
    silent = np.flatnonzero(largest == 0)
    if silent.size:
        raise ValueError(
            f"The update of client {silent[0]} is all zero ({silent.size} of "
            f"{len(largest)} are): there is nothing in it to recover. Leave it out."
        )
