"""GradInversion: match gradients, batch statistics, and the other restarts.

Yin, Mallya, Vahdat, Alvarez, Kautz, Molchanov (2021). Several guesses of one batch are
optimized together, by Adam with noise (Langevin) on

    gradient_weight * |gradient of the guess - gradient observed|^2
        + tv_weight * total variation + norm_weight * |guess|
        + statistics_weight * distance of batch statistics, over normalized layers
        + group_weight * |guess - consensus of all restarts|

where the statistics are the batch's own if they are shared, or else the model's running
ones, which stand for its training data. Labels are Yin's.

The paper's results are not reproduced: at the sizes that a CPU allows (CIFAR-10,
ResNet-20, hundreds of steps) the images are no better than the mean of public images,
and neither are those of the code `breaching` on the same updates.

Departures from the paper:
- the consensus is the mean of the restarts: they are not registered to it by RANSAC;
- pixels are in [0, 1] and kept there; the rate is 0.1 in units of their deviation of
  about 1/4;
- a restart returns its best iterate by its own loss, not its last;
- the weights are near the authors' in number, but the terms are not normalized as
  theirs: the distance of gradients is a plain sum of squares, total variation a mean
  over pixels, the norm over the whole batch, and the first normalized layer counts as
  much as any other, not ten times.

References:
  Yin et al. See through gradients: image batch recovery via GradInversion. CVPR 2021.
  arXiv:2104.07586.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from mijax import core, search
from mijax.attacks.leakage import (
    gradient_distance,
    image_search,
    initial_images,
    label_rules,
)
from mijax.attacks.leakage.gradient_distance import Distance
from mijax.attacks.leakage.initial_images import Seed
from mijax.attacks.leakage.label_rules import Rule
from mijax.attacks.leakage.total_variation import (
    refuse_flat,
    refuse_weights,
    total_variation,
)
from mijax.batching import keys_of
from mijax.core import hyper_parameters, static
from mijax.federation import Update
from mijax.knowledge import SharedUpdate


@hyper_parameters
class Config:
    """Hyper-parameters; see the departures for the weights.

    Attributes:
      steps: iterations; 20,000 in the paper.
      restarts: guesses that are optimized together, the paper's group of random seeds.
      seed: first images, one of `.initial_images`.
      distance: one of `.gradient_distance`.
      label_rule: one of `.label_rules`, where labels are not known.
      learning_rate: of Adam, in pixels; it warms up, and decays as a cosine.
      noise: Langevin's, in units of the rate.
      gradient_weight: of the distance of gradients.
      tv_weight: of total variation.
      norm_weight: of the images' length.
      statistics_weight: of batch statistics; networks without batch normalization have
        none.
      group_weight: of the distance to the mean of all restarts.
    """

    steps: int = static(default=2_000)
    restarts: int = static(default=4)
    seed: Seed = static(default=initial_images.gray_noise)
    distance: Distance = static(default=gradient_distance.squared)
    label_rule: Rule = static(default=label_rules.yin)
    learning_rate: float | Array = 0.025
    noise: float | Array = 0.2
    gradient_weight: float | Array = 1e-3
    tv_weight: float | Array = 1e-4
    norm_weight: float | Array = 1e-6
    statistics_weight: float | Array = 0.1
    group_weight: float | Array = 0.01

    def __post_init__(self) -> None:
        """Refuses weights of total variation that are negative, or none."""
        refuse_weights(self.tv_weight)


def attack(
    key: Array, knowledge: SharedUpdate, config: Config = Config()
) -> core.Reconstruction:
    """Recovers a batch by statistics and guesses that agree (paper not reproduced).

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: of V victims; `statistics` if they are shared.
      config: hyper-parameters.

    Returns:
      Images `[V, B, *shape]` in [0, 1], and labels `[V, B]`.

    Raises:
      ValueError: if the update is not the target's, if the rule of labels or the seed
        lack what they need, if `steps` is negative, or if `restarts` is not positive.
    """
    knowledge = knowledge.checked()
    refuse_flat(knowledge.target.shape)
    keys = jax.vmap(jax.random.split)(keys_of(key, knowledge.victims))  # [V, 2]
    x = initial_images.sown(config.seed, keys[:, 0], knowledge, config.restarts)
    # The restarts agree on images, and so on one order of labels.
    labels = label_rules.labels_of_restarts(knowledge, config.label_rule, 1)
    labels = jnp.repeat(labels, config.restarts, 1)

    def objective(x: Array) -> Array:
        distances, updates = gradient_distance.between(
            knowledge, x, labels, config.distance
        )
        consensus = jnp.mean(x, 1, keepdims=True)
        return (
            config.gradient_weight * distances
            + config.tv_weight * jnp.mean(total_variation(x), 2)
            + config.norm_weight * _length(x)
            + config.statistics_weight * _statistics_distance(knowledge, updates)
            + config.group_weight * _length(x - jax.lax.stop_gradient(consensus))
        )

    warm = min(50, config.steps // 4)
    rate = optax.warmup_cosine_decay_schedule(0.0, 1.0, warm, max(config.steps, 1))
    found = search.descend(
        search.gradient_of(objective),
        x,
        optax.chain(
            optax.scale_by_adam(),
            optax.scale(-1.0),
            _langevin(keys[:, 1], config.noise),
            optax.scale_by_schedule(rate),
            optax.scale(config.learning_rate),
        ),
        steps=config.steps,
        project=lambda x: jnp.clip(x, 0, 1),
    )
    return image_search.end(found, found.best, labels)


def _statistics_distance(knowledge: SharedUpdate, updates: Update) -> Array | float:
    """How far the guesses' means and variances are from those expected, `[V, R]`."""
    expected = knowledge.statistics
    if expected is None:
        running = knowledge.target.running_statistics
        expected = jax.tree.map(lambda leaf: leaf[None], running)
    parts = jax.tree.map(
        lambda guessed, expected: _length(guessed - expected[:, None]),
        updates.statistics,
        expected,
    )
    return sum(jax.tree.leaves(parts), 0.0)


def _length(x: Array) -> Array:
    """The Euclidean length of all but two axes, `[V, R]`; its slope is 0 at 0."""
    squared = jnp.sum(x**2, range(2, x.ndim))
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)


def _langevin(keys: Array, noise: float | Array) -> optax.GradientTransformation:
    """Adds normal noise to steps `[V, ...]`, drawn for each victim by its own key."""

    def init(params: Any) -> Array:
        del params
        return jnp.zeros((), jnp.int32)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params

        def draw(key: Array) -> Array:
            return jax.random.normal(jax.random.fold_in(key, state), updates.shape[1:])

        return updates + noise * jax.vmap(draw)(keys), state + 1

    return optax.GradientTransformation(init, update)
