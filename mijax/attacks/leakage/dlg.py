"""DLG: deep leakage from gradients, images and soft labels found together by L-BFGS.

Zhu, Liu, Han (2019). From standard normal images and label logits, L-BFGS minimizes

    |gradient of the guess - gradient observed|^2

as the authors run it (learning rate 1, up to 20 inner iterations a step, history of
100, no line search), for all victims and restarts at once.

Departures from the paper:
- a restart returns its best iterate by its own loss, not its last, so that a run that
  diverges returns what it had; one that never had a finite loss reports infinity;
- images are clipped to [0, 1] once, at the end, after their loss was taken.

References:
  Zhu et al. Deep leakage from gradients. NeurIPS 2019. arXiv:1906.08935.
"""

import jax
import jax.numpy as jnp
from jax import Array

from mijax import core
from mijax.attacks.leakage import (
    gradient_distance,
    image_search,
    initial_images,
    local_steps,
)
from mijax.attacks.leakage.gradient_distance import Distance
from mijax.attacks.leakage.initial_images import Seed
from mijax.batching import keys_of
from mijax.core import hyper_parameters, static
from mijax.knowledge import SharedUpdate


@hyper_parameters
class Config:
    """Hyper-parameters; the defaults are the authors'.

    Attributes:
      steps: calls of the optimizer, each of up to `inner` iterations.
      inner: iterations a call.
      history: pairs that L-BFGS remembers.
      restarts: first guesses a victim.
      seed: first images, one of `.initial_images`.
      distance: one of `.gradient_distance`.
      learning_rate: of L-BFGS.
    """

    steps: int = static(default=300)
    inner: int = static(default=20)
    history: int = static(default=100)
    restarts: int = static(default=1)
    seed: Seed = static(default=initial_images.normal)
    distance: Distance = static(default=gradient_distance.squared)
    learning_rate: float | Array = 1.0


def attack(
    key: Array, knowledge: SharedUpdate, config: Config = Config()
) -> core.Reconstruction:
    """Recovers the images and labels of a batch from its gradient.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: of V victims. Labels that are known are not used.
      config: hyper-parameters.

    Returns:
      Images `[V, B, *shape]` in [0, 1], and the most probable labels `[V, B]`.

    Raises:
      ValueError: if the update is not the target's, if local steps leave out
        examples, if `steps` is negative, or if `restarts` is not positive.
    """
    knowledge = knowledge.checked()
    local_steps.visits(knowledge)  # Refuses examples that none takes.
    keys = jax.vmap(jax.random.split)(keys_of(key, knowledge.victims))  # [V, 2]
    x = initial_images.sown(config.seed, keys[:, 0], knowledge, config.restarts)

    def draw(key: Array) -> Array:
        return jax.random.normal(key, (*x.shape[1:3], knowledge.target.num_classes))

    logits = jax.vmap(draw)(keys[:, 1])  # [V, R, B, K]

    def objective(guess: tuple[Array, Array]) -> Array:
        x, logits = guess
        soft = jax.nn.softmax(logits)
        return gradient_distance.between(knowledge, x, soft, config.distance)[0]

    found = image_search.lbfgs(objective, (x, logits), config)
    x, logits = found.best
    return image_search.end(found, x, jnp.argmax(logits, -1).astype(jnp.int32))
