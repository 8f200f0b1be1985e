"""CART, grown one split at a time, with a say in which column is looked at when.

scikit-learn grows the trees that experiments attack; this one exists for defenses that
decide where a field may be asked about, or what a split must be worth. With neither it
makes the same splits (tested), ties aside.

References:
  Breiman, Friedman, Olshen, Stone. Classification and regression trees. 1984.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from mijax.core import Paths, Target
from mijax.models.trees import Trees, log_probabilities


class Cart(NamedTuple):
    """A grown tree.

    Attributes:
      target: what it predicts; logits are the logarithms of its probabilities.
      paths: its leaves as boxes, with the training records in each by class.
    """

    target: Target
    paths: Paths


def gini(counts: np.ndarray) -> np.ndarray:
    """Gini's impurity of counts `[..., K]`."""
    shares = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    return 1 - np.square(shares).sum(-1)


def entropy(counts: np.ndarray) -> np.ndarray:
    """Entropy of counts `[..., K]`, nats."""
    shares = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    return -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), -1)


def grow(
    x: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    max_depth: int,
    impurity: Callable[[np.ndarray], np.ndarray] = gini,
    columns: Callable[[int], Sequence[ArrayLike]] | None = None,
    price: float = 0.0,
) -> Cart:
    """Grows a tree of classes.

    Args:
      x: `[N, D]`.
      labels: `[N]`, 0 to `num_classes` less 1.
      num_classes: K.
      max_depth: the most splits on a path.
      impurity: `counts [..., K] -> [...]`.
      columns: of the depth of a split, the root's being 1, which columns may be looked
        at: sets of them, the first of which that separates any records is taken.
      price: of each nat that a split tells of a record. A split must be worth more.

    Raises:
      ValueError: if there are no records, or x and labels are not of the same length.
    """
    x, labels = np.asarray(x, np.float32), np.asarray(labels)
    if x.ndim != 2 or labels.shape != x.shape[:1] or not len(x):
        raise ValueError(
            f"x {x.shape} and labels {labels.shape} must be [N, D] and [N], N at least "
            "1."
        )
    one_hot = np.eye(num_classes)[labels]
    every = np.arange(x.shape[1])
    nodes: list[_Node] = []

    def split(rows: np.ndarray, depth: int, low: np.ndarray, high: np.ndarray) -> int:
        counts = one_hot[rows].sum(0)
        node = _Node(counts, low, high, depth - 1)
        nodes.append(node)
        place = len(nodes) - 1
        if depth > max_depth or np.max(counts) == len(rows):
            return place
        for allowed in (every,) if columns is None else columns(depth):
            found = _best(x[rows], one_hot[rows], np.asarray(allowed), impurity, price)
            if found is not None:
                break
        else:
            return place
        column, threshold = found
        node.column, node.threshold = column, threshold
        left = x[rows, column] <= threshold
        below, above = high.copy(), low.copy()
        below[column], above[column] = threshold, threshold
        node.children = (
            split(rows[left], depth + 1, low, below),
            split(rows[~left], depth + 1, above, high),
        )
        return place

    far = np.full(x.shape[1], np.inf, np.float32)
    split(np.arange(len(x)), 1, -far, far)
    return _arrays(nodes, x.shape[1])


class _Node:
    def __init__(self, counts, low, high, depth):
        self.counts, self.low, self.high, self.depth = counts, low, high, depth
        self.column, self.threshold = 0, np.float32(0)
        self.children: tuple[int, int] | None = None


def _best(
    x: np.ndarray,
    one_hot: np.ndarray,
    columns: np.ndarray,
    impurity: Callable[[np.ndarray], np.ndarray],
    price: float,
) -> tuple[int, np.float32] | None:
    """The column and threshold that are worth most, or None if nothing separates."""
    if len(x) < 2 or not len(columns):
        return None
    values = x[:, columns]
    order = np.argsort(values, axis=0, kind="stable")
    values = np.take_along_axis(values, order, 0)
    left = np.cumsum(one_hot[order], 0)[:-1]  # [n - 1, D, K]
    whole = one_hot.sum(0)
    on_left = np.arange(1, len(x))[:, None] / len(x)
    parts = on_left * impurity(left) + (1 - on_left) * impurity(whole - left)
    worth = impurity(whole) - parts
    if price:
        worth = worth - price * entropy(np.stack([on_left, 1 - on_left], -1))
    worth = np.where(values[1:] > values[:-1], worth, -np.inf)
    row, place = divmod(int(np.argmax(worth)), len(columns))
    if not np.isfinite(worth[row, place]) or (price and worth[row, place] <= 0):
        return None
    lower, upper = values[row, place], values[row + 1, place]
    middle = np.float32((np.float64(lower) + upper) / 2)
    return int(columns[place]), lower if middle >= upper else middle


def _arrays(nodes: list[_Node], width: int) -> Cart:
    own = range(len(nodes))
    counts = np.stack([node.counts for node in nodes])
    trees = Trees(
        feature=jnp.asarray([[node.column for node in nodes]], jnp.int32),
        threshold=jnp.asarray([[node.threshold for node in nodes]], jnp.float32),
        children=jnp.asarray(
            [[n.children or (i, i) for i, n in zip(own, nodes, strict=True)]], jnp.int32
        ),
        value=jnp.asarray((counts / counts.sum(1, keepdims=True))[None], jnp.float32),
        depth=max(node.depth for node in nodes),
    )
    leaves = [i for i, node in zip(own, nodes, strict=True) if node.children is None]
    paths = Paths(
        jnp.asarray(np.stack([nodes[i].low for i in leaves])),
        jnp.asarray(np.stack([nodes[i].high for i in leaves])),
        jnp.asarray(counts[leaves], jnp.float32),
    )
    return Cart(Target.from_function(log_probabilities, trees, (width,)), paths)
