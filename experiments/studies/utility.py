"""What a defense of updates costs: a task that is learned through it."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.harness.run import Run
from mijax import federation, training
from mijax.core import Defense, Target, pytree
from mijax.data import TrainTest

_RECIPE = federation.Recipe()


@dataclasses.dataclass(frozen=True)
class Task:
    """How a task is learned: one client a round, whose update Adam descends.

    Attributes:
      steps: rounds.
      batch_size: examples a round; all of them where there are fewer.
      learning_rate: of the server's Adam.
    """

    steps: int = 300
    batch_size: int = 40
    learning_rate: float = 3e-3


@pytree
class _State:
    target: Target
    optimizer: Any


def hits(
    run: Run, name: str, target: Target, images: TrainTest, defense: Defense, task: Task
) -> np.ndarray:
    """Trains `target` through a defense; is it right of each test image, `[N]`?

    A model that is not finite is right of none. `name` is of the training's file: a
    finished one is not repeated.
    """

    def train() -> dict[str, Any]:
        known = images.train.images, images.train.labels
        logits = _logits(
            run.key,
            target,
            jax.tree.map(jnp.asarray, known),
            jnp.asarray(images.test.images),
            defense,
            task.learning_rate,
            min(task.batch_size, len(images.train)),
            task.steps,
        )
        right = np.argmax(logits, 1) == images.test.labels
        return {"hits": right & np.isfinite(logits).all(1)}

    return run.once(name, train)["hits"].astype(float)


@functools.partial(jax.jit, static_argnums=(6, 7))
def _logits(
    key: Array,
    target: Target,
    data: Any,
    x: Array,
    defense: Defense,
    rate: float,
    batch_size: int,
    steps: int,
) -> Array:
    optimizer = optax.adam(rate)

    def step(key: Array, state: _State, batch: Any) -> tuple[_State, Any]:
        x, labels = batch
        shared = federation.share(
            key, _RECIPE, state.target, x[None], labels[None], defense
        )
        gradient = jax.tree.map(lambda leaf: leaf[0], shared.change)
        weights = state.target.trained
        updates, after = optimizer.update(gradient, state.optimizer, weights)
        moved = state.target.with_trained(optax.apply_updates(weights, updates))
        return _State(moved, after), {}

    state = _State(target, optimizer.init(target.trained))
    state, _ = training.fit(key, state, step, data, batch_size=batch_size, steps=steps)
    return state.target.predict(x).logits
