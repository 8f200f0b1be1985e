"""Shadow updates: what an update does to answers, seen on models of one's own.

A shadow model is trained on public data and cloned; each clone is updated with another
set, all in one program. What the probing set is answered before and after is the trace
of that set.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array, lax

from mijax import federation, training
from mijax.core import Target, in_chunks
from mijax.federation import Recipe

_AT_A_TIME = 250  # clones held in memory, but on CPU; changes no result


def shadow(
    key: Array, module: nn.Module, images: Array, labels: Array, *, steps: int
) -> Target:
    """Trains the shadow model on public data by Adam. The key is consumed."""
    init_key, fit_key = jax.random.split(key)
    optimizer = optax.adam(1e-3)
    shape = images.shape[1:]
    state = training.train_state(init_key, module, shape, optimizer)
    state, _ = training.fit(
        fit_key,
        state,
        training.supervised(module, optimizer),
        (images, labels),
        batch_size=min(64, len(images)),
        steps=steps,
    )
    return Target.from_linen(module, state.variables, shape)


def draw_sets(
    key: Array,
    labels: Array,
    classes: int,
    *,
    number: int,
    size: int,
    concentration: float | Array,
) -> Array:
    """Draws update sets as rows of the public data, `[number, size]`.

    Each set's classes are drawn from a distribution of its own, which is Dirichlet's:
    a small concentration gives sets of few classes, a large one uniform sets.
    """
    share_key, class_key, row_key = jax.random.split(key, 3)
    counts = jnp.bincount(labels, length=classes)
    starts = jnp.cumsum(counts) - counts
    shares = jax.random.dirichlet(
        share_key, jnp.full(classes, concentration), (number,)
    )
    logits = jnp.where(counts[None] > 0, jnp.log(shares + 1e-9), -jnp.inf)
    drawn = jax.random.categorical(class_key, logits[:, None], shape=(number, size))
    within = jax.random.uniform(row_key, (number, size)) * counts[drawn]
    return jnp.argsort(labels)[starts[drawn] + within.astype(jnp.int32)]


def updated(recipe: Recipe, target: Target, images: Array, labels: Array) -> Any:
    """Returns the model's parameters after each of many updates, leaves `[S, ...]`.

    Args:
      recipe: how the service updates, with `local_steps` of 1 or more.
      target: the model before.
      images: of each set, `[S, U, *shape]`.
      labels: `[S, U]`.

    Raises:
      ValueError: if the recipe shares a gradient, which updates nothing by itself.
    """
    after = _update(recipe, target)
    return jax.vmap(after)(images, labels)


def _update(recipe: Recipe, target: Target) -> Callable[[Array, Array], Any]:
    """Returns `(images [U, ...], labels [U]) -> parameters after`."""
    if recipe.local_steps < 1:
        raise ValueError(
            f"local_steps is {recipe.local_steps}: an update of a model takes at least "
            "1."
        )

    def after(x: Array, labels: Array) -> Any:
        change = federation.client_update(recipe, target, x, labels).change
        trained = jax.tree.map(jnp.add, target.trained, change)
        return target.with_trained(trained).params

    return after


def traces(
    recipe: Recipe,
    target: Target,
    probes: Array,
    images: Array,
    labels: Array,
    rows: Array,
) -> Array:
    """Returns what updates with sets `rows [S, U]` do to the answers, `[S, P, K]`.

    On CPU clones are updated one after the other: the weights of one stay in the cache,
    and its products of matrices are faster than those of many clones at once.
    """
    before = jax.nn.softmax(target.predict(probes).logits)
    update = _update(recipe, target)

    def one(rows: Array) -> Array:
        params = update(images[rows], labels[rows])
        model = dataclasses.replace(target, params=params)
        return before - jax.nn.softmax(model.predict(probes).logits)

    return lax.platform_dependent(
        rows,
        cpu=lambda rows: lax.map(one, rows),
        default=lambda rows: in_chunks(jax.vmap(one), rows, _AT_A_TIME),
    )
