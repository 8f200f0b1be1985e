"""Whatever is given for an update: it is taken, or one clear ValueError says why."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import freeze
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mijax import batching
from mijax.core import Target
from mijax.federation import Recipe, share
from mijax.knowledge import Candidates, Labels, Scores, SharedUpdate, WhiteBox, validate

CASES = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
SHAPE, CLASSES, HIDDEN = (3, 2, 1), 3, 4
DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "int32", "uint8", "bool"),
    *("complex64", "object", "str"),
)


def model(params, x):
    hidden = x.reshape(x.shape[0], -1) @ params["first"]["kernel"]
    hidden = jnp.tanh(hidden + params["first"]["bias"][None])
    return hidden @ params["last"]["kernel"]


def params(dtype="float32"):
    return {
        "first": {
            "kernel": np.ones((6, HIDDEN), dtype),
            "bias": np.zeros(HIDDEN, dtype),
        },
        "last": {"kernel": np.ones((HIDDEN, CLASSES), dtype)},
    }


TARGET = Target.from_function(model, params(), SHAPE)


def right(clients):
    """Of many clients; small numbers of either sign."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(size=(clients, *leaf.shape)).astype(np.float32),
        params(),
    )


def one_sentence(do):
    """Does it, or checks that what is raised is one clear sentence."""
    try:
        return do()
    except ValueError as error:
        said = str(error)
        assert "\n" not in said and len(said) < 500, said
        assert any(mark in said for mark in (":", "must be", "give")), said
        assert "jax" not in said.lower().replace("mijax", "").replace("jax.random", "")
        return None


# Kinds of trees and of leaves -----------------------------------------------------


def as_dtype(leaf, dtype):
    if dtype == "bfloat16":
        return jnp.asarray(leaf, jnp.bfloat16)
    return np.asarray(leaf).astype(dtype)


LEAVES = st.one_of(
    st.sampled_from(DTYPES).map(lambda dtype: lambda leaf: as_dtype(leaf, dtype)),
    st.sampled_from(
        [
            lambda leaf: leaf[0],
            lambda leaf: leaf[:0],
            lambda leaf: leaf[None],
            lambda leaf: leaf[..., None],
            lambda leaf: leaf[..., :1],
            lambda leaf: leaf[:1],
            lambda leaf: leaf.T,
            lambda leaf: 0 * leaf,
            lambda leaf: 1e-18 * leaf,
            lambda leaf: 1e-45 * leaf,
            lambda leaf: 1e30 * leaf,
            lambda leaf: np.nan * leaf,
            lambda leaf: np.full_like(leaf, np.inf),
            lambda leaf: leaf.tolist(),
            lambda leaf: None,
            lambda leaf: 1.0,
            lambda leaf: "w",
            lambda leaf: jnp.asarray(leaf),
            lambda leaf: leaf,
        ]
    ),
)
TREES = st.sampled_from(
    [
        lambda tree: tree,
        lambda tree: freeze(tree),
        lambda tree: jax.tree.leaves(tree),
        lambda tree: tuple(jax.tree.leaves(tree)),
        lambda tree: {"params": tree},
        lambda tree: tree["first"],
        lambda tree: {**tree, "more": np.ones(2)},
        lambda tree: {name.upper(): leaf for name, leaf in tree.items()},
        lambda tree: {"first": tree["first"]},
        lambda tree: {"first": freeze(tree["first"]), "last": tree["last"]},
        lambda tree: {"first": tree["last"], "last": tree["first"]},
        lambda tree: None,
        lambda tree: {},
        lambda tree: np.ones(3),
        lambda tree: "update",
    ]
)


@CASES
@given(
    clients=st.integers(1, 3),
    leaf=LEAVES,
    which=st.sampled_from(["all", "kernel", "bias", "last"]),
    tree=TREES,
    batch=st.integers(-1, 3),
    half=st.booleans(),
)
def test_updates(clients, leaf, which, tree, batch, half):
    update = jax.tree_util.tree_map_with_path(
        lambda path, given: (
            leaf(given) if which in ("all", *(key.key for key in path)) else given
        ),
        right(clients),
    )
    target = Target.from_function(model, params("float16"), SHAPE) if half else TARGET

    def take():
        known = SharedUpdate(target, tree(update), batch)
        return validate(known).checked()

    known = one_sentence(take)
    if known is not None:
        shapes = jax.tree.map(lambda leaf: (known.victims, *leaf.shape), target.trained)
        expected = jax.tree.leaves(shapes, is_leaf=lambda leaf: isinstance(leaf, tuple))
        found = jax.tree.leaves(known.update)
        assert {leaf.shape for leaf in found} <= set(expected)
        assert all(leaf.dtype == jnp.float32 for leaf in found)


LABELS = st.one_of(
    st.integers(-2, 4),
    st.floats(0, 2),
    st.none(),
    st.text(max_size=2),
    st.lists(st.integers(0, 2), max_size=3),
    st.builds(
        lambda shape, dtype, value: jnp.full(shape, value, dtype),
        st.lists(st.integers(0, 3), max_size=3),
        st.sampled_from(["int32", "int8", "uint8", "float32", "bfloat16", "bool"]),
        st.sampled_from([0, 1, 2]),
    ),
    st.builds(
        lambda shape, value: np.full(shape, value),
        st.lists(st.integers(1, 3), max_size=3),
        st.sampled_from([-1, 0, 2, 3, 1.0, "a"]),
    ),
)


@CASES
@given(labels=LABELS, kind=st.sampled_from(["white", "scores", "labels", "update"]))
def test_labels(labels, kind):
    def take():
        if kind == "update":
            known = SharedUpdate(TARGET, right(2), labels=labels)
            return validate(known).checked()
        make = {"white": WhiteBox, "scores": Scores.of, "labels": Labels.of}[kind]
        return validate(make(TARGET, labels))

    known = one_sentence(take)
    if known is not None and known.labels is not None:
        assert jnp.issubdtype(known.labels.dtype, jnp.integer)
        assert known.labels.ndim == (2 if kind == "update" else 1)
        assert 0 <= known.labels.min() <= known.labels.max() < CLASSES


ARRAYS = st.builds(
    lambda shape, dtype: jnp.ones(shape, dtype),
    st.one_of(
        st.lists(st.integers(0, 3), max_size=5).map(tuple),
        st.tuples(st.integers(1, 3), st.integers(1, 2)).map(lambda s: (*s, *SHAPE)),
    ),
    st.sampled_from(["float32", "bfloat16", "uint8", "bool"]),
)
KEYS = st.sampled_from(
    [
        *(jax.random.key(0), jax.random.PRNGKey(0), jax.random.key(0, impl="rbg")),
        *(0, None, "key", 1.5, jnp.zeros(2), jnp.zeros(3, jnp.uint32)),
    ]
)


@CASES
@given(x=st.one_of(ARRAYS, st.just([1.0]), st.none()), labels=LABELS, key=KEYS)
def test_clients(x, labels, key):
    def take():
        return jax.eval_shape(
            lambda x: share(key, Recipe(), TARGET, x, labels).change, x
        )

    if x is None or isinstance(x, list):  # What `eval_shape` would take for a tree.
        one_sentence(lambda: share(key, Recipe(), TARGET, x, labels))
        return
    change = one_sentence(take)
    if change is not None:
        assert jax.tree.leaves(change)[0].shape[0] == x.shape[0]


@CASES
@given(key=KEYS, victims=st.integers(1, 4))
def test_keys(key, victims):
    keys = one_sentence(lambda: batching.keys_of(key, victims))
    if keys is not None:
        assert keys.shape == (victims,)
        assert len(np.unique(jax.random.key_data(keys), axis=0)) == victims


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@CASES
@given(
    columns=st.one_of(st.integers(0, 3), st.lists(st.integers(0, 3), max_size=2)),
    values=st.one_of(
        st.lists(NUMBERS, max_size=4),
        st.lists(st.lists(NUMBERS, min_size=2, max_size=2), max_size=3),
        st.sampled_from([1.0, "a", None, [[1.0], [1.0, 2.0]]]),
    ),
)
def test_candidates(columns, values):
    def take():
        found = Candidates.of(columns, values)
        found.check_values()
        return found

    found = one_sentence(take)
    if found is not None:
        assert found.encodings.ndim == 2 and np.all(np.isfinite(found.encodings))
        assert dataclasses.replace(found).log_prior.shape == found.encodings.shape[:1]
