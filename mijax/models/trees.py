"""scikit-learn's trees and forests as arrays: pure functions under `jit` and `vmap`.

A record takes the same path as in scikit-learn, bit for bit, also where values are
missing (NaN): features are float32 on both sides, and a float64 threshold is rounded
down to float32, which no float32 feature can tell from the original. Probabilities of a
forest are summed in float32, where scikit-learn sums in float64: two classes may swap
where they tie to seven digits.

References:
  Breiman. Random forests. Machine Learning 2001. doi:10.1023/A:1010933404324.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mijax.core import Paths, Target, pytree, static

if TYPE_CHECKING:  # scikit-learn is loaded by those who have a tree of it.
    from sklearn.tree import DecisionTreeClassifier


@pytree
class Trees:
    """T binary trees of at most N nodes; node 0 is the root, a leaf its own child.

    Attributes:
      feature: which column a node looks at, `[T, N]` int32.
      threshold: a record goes left where that column is at most this, `[T, N]`.
      children: left and right, `[T, N, 2]` int32.
      value: what a node predicts, `[T, N, O]`.
      depth: of the deepest leaf.
      missing: where a record without that column's value (NaN) goes, `[T, N]` int32;
        None for left.
    """

    feature: Array
    threshold: Array
    children: Array
    value: Array
    depth: int = static()
    missing: Array | None = None


def from_sklearn(model: Any) -> Target:
    """Makes a target of a fitted decision tree, random forest or extra trees.

    A classifier's logits are the logarithms of its probabilities, in the order of
    `classes_`; a regressor's one output is its prediction.

    Raises:
      ValueError: if the model is none of them, is not fitted, or predicts more than
        one thing.
    """
    from sklearn import base, ensemble, tree

    single = tree.DecisionTreeClassifier, tree.DecisionTreeRegressor
    forests = (
        *(ensemble.ExtraTreesClassifier, ensemble.ExtraTreesRegressor),
        *(ensemble.RandomForestClassifier, ensemble.RandomForestRegressor),
    )
    if not isinstance(model, single + forests):
        raise ValueError(
            f"{type(model).__name__} is no tree or forest that has a form in arrays: "
            "ask it as a black box, Oracle.from_callable(model.predict_proba, ...)."
        )
    columns = getattr(model, "n_features_in_", None)
    if columns is None:
        raise ValueError(f"The {type(model).__name__} is not fitted: fit it first.")
    if model.n_outputs_ != 1:
        raise ValueError(f"The model predicts {model.n_outputs_} things: give one.")
    members = [model] if isinstance(model, single) else model.estimators_
    trees = [member.tree_ for member in members]
    nodes = max(tree.node_count for tree in trees)
    each = zip(*(_arrays(tree, nodes) for tree in trees), strict=True)
    feature, threshold, children, value, missing = (jnp.stack(a) for a in each)
    depth = max(int(tree.max_depth) for tree in trees)
    params = Trees(feature, threshold, children, value, depth, missing)
    function = log_probabilities if base.is_classifier(model) else predictions
    return Target.from_function(function, params, (columns,))


def predictions(trees: Trees, x: Array) -> Array:
    """Returns the mean of what the trees predict of `x [B, D]`, `[B, O]`."""

    def add(total: Array, tree: Trees) -> tuple[Array, None]:
        def down(_: Array, node: Array) -> Array:
            seen = jnp.take_along_axis(x, tree.feature[node][:, None], 1)[:, 0]
            right = (seen > tree.threshold[node]).astype(jnp.int32)
            child = tree.children[node, right]
            if tree.missing is None:
                return child
            return jnp.where(jnp.isnan(seen), tree.missing[node], child)

        start = jnp.zeros(x.shape[0], jnp.int32)
        return total + tree.value[lax.fori_loop(0, trees.depth, down, start)], None

    number, _, outputs = trees.value.shape
    total, _ = lax.scan(add, jnp.zeros((x.shape[0], outputs)), trees)
    return total / number


def log_probabilities(trees: Trees, x: Array) -> Array:
    """Returns the logarithms of the trees' mean probabilities, `[B, K]`."""
    return jnp.log(predictions(trees, x))


def paths(model: "DecisionTreeClassifier") -> Paths:
    """Returns a fitted decision tree as its paths, with who took them in training.

    Raises:
      ValueError: if the model is no single tree of classes.
    """
    from sklearn.tree import DecisionTreeClassifier

    if not isinstance(model, DecisionTreeClassifier):
        raise ValueError(
            f"{type(model).__name__} is no DecisionTreeClassifier: only a single tree "
            "of classes has paths that are counted."
        )
    tree = model.tree_
    feature, threshold, children, value, _ = _arrays(tree, tree.node_count)
    low = np.full((tree.node_count, model.n_features_in_), -np.inf, np.float32)
    high = -low
    leaves = children[:, 0] == np.arange(tree.node_count)
    for node in np.flatnonzero(~leaves):  # A child's number is above its parent's.
        left, right = children[node]
        low[[left, right]], high[[left, right]] = low[node], high[node]
        high[left, feature[node]] = threshold[node]
        low[right, feature[node]] = threshold[node]
    counts = value * tree.weighted_n_node_samples[:, None]
    return Paths(*(jnp.asarray(a[leaves], jnp.float32) for a in (low, high, counts)))


def padded(
    target: Target, paths: Paths | None = None, *, nodes: int = 512, boxes: int = 256
) -> tuple[Target, Paths | None]:
    """Fills a tree, and its paths, up to powers of two: few programs are compiled.

    Args:
      target: of this module; it answers as before.
      paths: its paths, or None; what is added holds nobody.
      nodes: fewest nodes.
      boxes: fewest paths.
    """

    def room(number: int, least: int) -> int:
        return (1 << max(number, least).bit_length()) - number

    added = room(target.params.feature.shape[1], nodes)
    filled = jax.tree.map(
        lambda a: jnp.pad(a, [(0, 0), (0, added)] + [(0, 0)] * (a.ndim - 2)),
        target.params,
    )
    depth = 1 << max(filled.depth - 1, 1).bit_length()
    filled = dataclasses.replace(filled, depth=depth)
    if paths is not None:
        empty = ((0, room(len(paths.low), boxes)), (0, 0))
        paths = Paths(
            jnp.pad(paths.low, empty, constant_values=jnp.inf),
            jnp.pad(paths.high, empty, constant_values=-jnp.inf),
            jnp.pad(paths.counts, empty),
        )
    return dataclasses.replace(target, params=filled), paths


def _arrays(tree: Any, nodes: int) -> tuple[np.ndarray, ...]:
    """Features, thresholds, children, values and ways of missing ones, padded."""
    itself = np.arange(tree.node_count)
    leaf = tree.children_left < 0
    exact = tree.threshold.astype(np.float32)
    down = np.nextafter(exact, np.float32(-np.inf))
    threshold = np.where(exact > tree.threshold, down, exact)
    children = np.stack([tree.children_left, tree.children_right], 1)
    left = tree.missing_go_to_left.astype(bool)
    missing = np.where(left, tree.children_left, tree.children_right)
    arrays = (
        np.where(leaf, 0, tree.feature).astype(np.int32),
        np.where(leaf, np.finfo(np.float32).max, threshold),
        np.where(leaf[:, None], itself[:, None], children).astype(np.int32),
        tree.value[:, 0].astype(np.float32),
        np.where(leaf, itself, missing).astype(np.int32),
    )
    rows = nodes - tree.node_count
    return tuple(np.pad(a, [(0, rows)] + [(0, 0)] * (a.ndim - 1)) for a in arrays)
