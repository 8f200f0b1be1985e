"""Checks the values of knowledge, once, before any long work.

Constructors check nothing that lies on a device: JAX calls them at each `tree.map`.
Attacks check shapes, and labels where they are concrete. Parameters, images and updates
are copied to the host by `validate` alone.
"""

from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mijax.core import concrete, refuse_one_output


class Checkable(Protocol):
    """Knowledge whose values can be checked."""

    def check_values(self) -> None:
        """Raises ValueError if a value cannot be right."""


K = TypeVar("K", bound=Checkable)
_BEYOND = 0.01  # what resizing adds to pixels in [0, 1]


def validate(knowledge: K) -> K:
    """Returns the knowledge, after its values were checked on the host.

    Call it once, where knowledge is made; values inside a trace are skipped.

    Raises:
      ValueError: if a label is not a class of the model, or if parameters, images,
        records or updates are NaN or infinite; the message names the leaf.
    """
    knowledge.check_values()
    return knowledge


def check_labels(labels: Any, num_classes: int) -> None:
    """Checks that labels are integers, and where concrete, classes of the model.

    Raises:
      ValueError: if they are not.
    """
    check_array_of_labels(labels)
    refuse_one_output(num_classes)
    if not jnp.size(labels):
        raise ValueError("labels are empty: give one per victim.")
    values = concrete(labels)
    if values is not None and (values.min() < 0 or values.max() >= num_classes):
        wrong = values[(values < 0) | (values >= num_classes)].flat[0]
        raise ValueError(
            f"labels hold {wrong}: the target's classes are 0 to {num_classes - 1}."
        )


def check_array_of_labels(labels: Any) -> None:
    """Checks that labels are an array of integers.

    Raises:
      ValueError: if they are not.
    """
    dtype = getattr(labels, "dtype", None)
    if dtype is None:
        raise ValueError(
            f"labels are {_named(labels)}: they must be an array of integers, one per "
            "victim."
        )
    if not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"labels are {dtype}: they must be integers, one per victim.")


def _named(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def check_vector_of_labels(labels: Any, num_classes: int) -> None:
    """Checks labels `[V]` of an attack on trained models, as `check_labels` does."""
    check_labels(labels, num_classes)
    if labels.ndim != 1:
        raise ValueError(f"labels are {labels.shape}: they must be [V], one a victim.")


def check_images(name: str, images: Any, shape: tuple[int, ...]) -> None:
    """Checks that examples `[..., *shape]` are real numbers, and one or more.

    Raises:
      ValueError: if they are not.
    """
    dtype = getattr(images, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        what = _named(images) if dtype is None else f"of {dtype}"
        raise ValueError(
            f"The {name} images are {what}: give an array of floating-point numbers in "
            "[0, 1], such as pixels / 255."
        )
    if images.shape[-len(shape) :] != shape or not images.size:
        raise ValueError(
            f"The {name} images are {images.shape}, but the target takes {shape}: "
            f"resize or convert them first, to {('M', *shape)} of one or more."
        )


def check_pixels(name: str, images: Any) -> None:
    """Checks that images `[..., H, W, C]`, where concrete, lie in [0, 1].

    Raises:
      ValueError: if they do not.
    """
    values = concrete(images)
    if values is None or not values.size:
        return
    least, most = values.min(), values.max()
    if least < -_BEYOND or most > 1 + _BEYOND:
        raise ValueError(
            f"The {name} images lie in [{least:g}, {most:g}]: give pixels in [0, 1]; "
            "of a target of standardized images tell the mean and deviation."
        )


def check_finite(name: str, tree: Any) -> None:
    """Checks that a tree holds neither NaN nor infinity.

    Raises:
      ValueError: if it does; the message names the leaf.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        values = concrete(leaf)
        if values is not None and jnp.issubdtype(values.dtype, jnp.floating):
            bad = int(np.sum(~np.isfinite(values)))
            if bad:
                where = jax.tree_util.keystr(path)
                raise ValueError(
                    f"{name}{where} hold {bad} values that are NaN or infinite: "
                    "mend them before the attack."
                )
