"""Training on private examples: each one's gradient goes through a defense.

`step` is a step for `mijax.training.fit`, as `training.supervised` is, of any loss that
has one value for each example. With DP-SGD as the defense it is DP-SGD.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from mijax.core import Defense, chain, pytree
from mijax.training import Step

Losses = Callable[[Any, Any], Array]


@pytree
class State:
    """A model in training: its parameters, and the optimizer's state of them."""

    params: Any
    opt_state: Any


def init(params: Any, optimizer: optax.GradientTransformation) -> State:
    """Returns the state before the first step."""
    return State(params, optimizer.init(params))


def step(
    losses: Losses,
    optimizer: optax.GradientTransformation,
    defense: Defense = chain(),
) -> Step[State]:
    """Returns a step `(key, state, batch) -> (state, metrics)`.

    Args:
      losses: `(params, batch) -> [B]`; an example's loss depends on its own row of the
        batch alone.
      optimizer: of the parameters.
      defense: its `example_gradient` and `update` act; the state of `update` begins
        anew at each step, so that its noise follows from its own seed and the step's
        key alone, and a checkpoint need not hold it.

    Raises:
      ValueError: if the defense acts elsewhere.
    """
    elsewhere = {*defense.places} - {"example_gradient", "update"}
    if elsewhere:
        raise ValueError(
            f"The defense acts on {', '.join(sorted(elsewhere))}, which private "
            "training does not have: give one of gradients and updates."
        )

    def mean(params: Any, batch: Any) -> Array:
        return jnp.mean(losses(params, batch))

    def single(params: Any, example: Any) -> tuple[Array, Any]:
        batch = jax.tree.map(lambda leaf: leaf[None], example)
        return jax.value_and_grad(mean)(params, batch)

    def run(key: Array, state: State, batch: Any) -> tuple[State, dict[str, Array]]:
        if defense.example_gradient is None:
            value, gradient = jax.value_and_grad(mean)(state.params, batch)
        else:
            values, singles = jax.vmap(single, (None, 0))(state.params, batch)
            value = jnp.mean(values)
            guarded = defense.example_gradient(singles)
            gradient = jax.tree.map(lambda leaf: jnp.mean(leaf, 0), guarded)
        if (guard := defense.update) is not None:
            fresh = guard.init(state.params)
            gradient, _ = guard.update(gradient, fresh, state.params, key=key)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, opt_state), {"loss": value}

    return run
