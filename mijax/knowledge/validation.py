"""Refuses, before any long work, knowledge that cannot be right."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mijax.core import known


def labels_and_auxiliaries(knowledge: Any, model: Any) -> None:
    """Refuses `labels` that are no classes of the model, and images that are none.

    Raises:
      ValueError: if they are.
    """
    if isinstance(knowledge.labels, list | tuple):
        raise ValueError(
            f"labels are a {type(knowledge.labels).__name__}: they must be an array "
            "of integers, one a victim."
        )
    labels = known(knowledge.labels)
    if labels is not None:
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"labels are {labels.dtype}: they must be integers, one a victim."
            )
        if not labels.size:
            raise ValueError("labels are empty: give one a victim.")
        classes = getattr(model, "num_classes", None)
        if classes is not None and (labels.min() < 0 or labels.max() >= classes):
            wrong = labels[(labels < 0) | (labels >= classes)].flat[0]
            raise ValueError(
                f"labels hold {wrong}: the target's classes are 0 to {classes - 1}."
            )
    finite("The public images", knowledge.public)
    finite("The prior's parameters", knowledge.prior)


def finite(name: str, tree: Any) -> None:
    """Refuses a tree that holds NaN or infinity, naming the leaf.

    Raises:
      ValueError: if it does.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        numbers = known(leaf)
        if numbers is not None and jnp.issubdtype(numbers.dtype, jnp.floating):
            bad = int(np.sum(~np.isfinite(numbers)))
            if bad:
                where = jax.tree_util.keystr(path)
                raise ValueError(
                    f"{name}{where} hold {bad} values that are NaN or infinite: "
                    "mend them before the attack."
                )
