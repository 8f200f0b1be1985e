"""MID for decision trees: a split must be worth what it tells of the record.

Wang, Zhang, Jia (2021). A tree is a function, so that its leaf L tells H(L) nats of a
record, and the objective is the cross-entropy plus `weight * H(L)`. Growing greedily, a
split of a node's share q to the left is worth

    information gain - weight * H(q),

and a node whose best split is worth nothing stays a leaf.

Guarantees nothing of a single record: a bound on the average information. It costs the
splits that are left out. A weight of 1 or more leaves the root alone, since no gain
exceeds H(q).

Departures from the paper: the released output is taken to be the leaf, which no release
of the tree tells more than; impurity is entropy, in which both terms are nats.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from mijax.core import Paths
from mijax.models import cart


def mid_tree(
    x: ArrayLike, labels: ArrayLike, num_classes: int, weight: float, max_depth: int
) -> cart.Cart:
    """Grows a tree that tells little of each record.

    Args:
      x: `[N, D]`.
      labels: `[N]`, 0 to `num_classes` less 1.
      num_classes: K.
      weight: of a nat told; 0 grows by information gain alone.
      max_depth: the most splits on a path.

    Raises:
      ValueError: if the weight is negative.

    References:
      Wang, Zhang, Jia. Improving robustness to model inversion attacks via mutual
      information regularization. AAAI 2021. arXiv:2009.05241.
    """
    if not weight >= 0:
        raise ValueError(f"weight is {weight}: it must be 0 or more.")
    return cart.grow(
        x,
        labels,
        num_classes,
        max_depth=max_depth,
        impurity=cart.entropy,
        price=weight,
    )


def information(paths: Paths) -> Array:
    """Returns H(leaf) of a training record, nats: what the tree tells of it at most."""
    return jnp.asarray(cart.entropy(np.asarray(paths.counts).sum(1)))
