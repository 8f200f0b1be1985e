"""Feature priority: a tree that looks at the sensitive field at one depth alone.

Fredrikson, Jha, Ristenpart (2015): CART asks about the sensitive field only in its
`priority`-th split of a path, and nowhere else.

Guarantees nothing; low in the tree the field still decides between few records, and
what is told of it is little. It costs the splits that CART would have liked better:
next to no accuracy, says the paper.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mijax.models import cart


class _Depths(NamedTuple):
    sensitive: np.ndarray
    others: np.ndarray
    priority: int

    def __call__(self, depth: int) -> tuple[np.ndarray, ...]:
        here = depth == self.priority
        return (self.sensitive, self.others) if here else (self.others,)


def feature_priority(
    x: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    sensitive: ArrayLike,
    priority: int | None,
    max_depth: int,
) -> cart.Cart:
    """Grows a tree in which the sensitive field has one place.

    Args:
      x: `[N, D]`.
      labels: `[N]`, 0 to `num_classes` less 1.
      num_classes: K.
      sensitive: the columns of the sensitive field.
      priority: the depth of the split that takes it, 1 at the root, where it still
        separates anybody; None leaves the field out.
      max_depth: the most splits on a path.

    Raises:
      ValueError: if the priority is not in 1 to `max_depth`, or a column is not of x.

    References:
      Fredrikson, Jha, Ristenpart. Model inversion attacks that exploit confidence
      information and basic countermeasures. CCS 2015. doi:10.1145/2810103.2813677.
    """
    sensitive, every = np.atleast_1d(sensitive), np.arange(np.shape(x)[1])
    if not np.isin(sensitive, every).all():
        raise ValueError(
            f"Sensitive columns are {sensitive.tolist()} of {len(every)}: give those "
            "of the sensitive field."
        )
    if priority is not None and not 1 <= priority <= max_depth:
        raise ValueError(
            f"priority is {priority}: it must be 1 to max_depth={max_depth}."
        )
    depths = _Depths(sensitive, np.setdiff1d(every, sensitive), priority or 0)
    return cart.grow(x, labels, num_classes, max_depth=max_depth, columns=depths)
