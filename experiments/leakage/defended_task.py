"""What a defense costs the task: training through the updates that it lets through."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.harness import stages
from mijax import federation, training
from mijax.core import Defense, Target, pytree
from mijax.data import TrainTest
from mijax.federation import Recipe

_RECIPE = Recipe()


@pytree
class _State:
    target: Target
    optimizer: Any


def step(
    optimizer: optax.GradientTransformation, defense: Defense
) -> training.Step[_State]:
    """Returns a round of one client, whose defended gradient the server descends."""

    def advance(key: Array, state: _State, batch: Any) -> tuple[_State, Any]:
        x, labels = batch
        shared = federation.share(
            key, _RECIPE, state.target, x[None], labels[None], defense
        )
        gradient = jax.tree.map(lambda leaf: leaf[0], shared.change)
        weights = state.target.trained
        updates, after = optimizer.update(gradient, state.optimizer, weights)
        target = state.target.with_trained(optax.apply_updates(weights, updates))
        return _State(target, after), {}

    return advance


def accuracy(
    workdir: pathlib.Path,
    name: str,
    key: Array,
    target: Target,
    task: TrainTest,
    defense: Defense,
    *,
    rate: float,
    batch_size: int,
    steps: int,
) -> np.ndarray:
    """Trains a model from `target` through a defense; is it right of each test image?

    Args:
      workdir: of the run; a finished training is not repeated.
      name: of its file.
      key: of the batches and the defense.
      target: the first model.
      task: images to learn from, and to test on.
      defense: of what each round shares.
      rate: Adam's.
      batch_size: examples a round.
      steps: rounds.

    Returns:
      `[N]` of 0 and 1; a model that is not finite is right about none.
    """

    def train() -> dict[str, Any]:
        logits = _logits(
            key,
            target,
            (jnp.asarray(task.train.images), jnp.asarray(task.train.labels)),
            jnp.asarray(task.test.images),
            defense,
            rate,
            min(batch_size, len(task.train)),
            steps,
        )
        right = np.argmax(logits, 1) == task.test.labels
        return {"hits": right & np.isfinite(logits).all(1)}

    (workdir / "results" / name).parent.mkdir(parents=True, exist_ok=True)
    return stages.once(workdir, name, train)["hits"].astype(float)


@functools.partial(jax.jit, static_argnums=(5, 6, 7))
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
    state = _State(target, optimizer.init(target.trained))
    advance = step(optimizer, defense)
    state, _ = training.fit(
        key, state, advance, data, batch_size=batch_size, steps=steps
    )
    return state.target.predict(x).logits
