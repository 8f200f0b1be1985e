"""Inverting Gradients: match the direction of the gradient by signed Adam.

Geiping, Bauermeister, Droege, Moeller (2020). Over images in [0, 1],

    1 - cos(update of the guess, update observed) + tv_weight * total variation,

by Adam on the sign of its gradient, with a rate that falls tenfold after 3/8, 5/8 and
7/8 of the steps. An update of several local steps (FedAvg) is matched by unrolling
them.

Departures from the paper:
- pixels are in [0, 1], not standardized: the paper's rate of 0.1 in units of a standard
  deviation of about 1/4 is `learning_rate=0.025` here, and random first guesses have
  that mean and deviation;
- total variation is in those pixels too: the paper's weights are 4 times as large here,
  and the default is not the paper's;
- a restart returns its best iterate by its own loss, not its last, and the best
  restart is chosen by that same loss.

References:
  Geiping et al. Inverting gradients: how easy is it to break privacy in federated
  learning? NeurIPS 2020. arXiv:2003.14053.
"""

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
    total_variation,
)
from mijax.core import hyper_parameters, static
from mijax.knowledge import SharedUpdate


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      steps: iterations; 24,000 in the authors' benchmarks.
      restarts: first guesses a victim; 8 in the paper's tables.
      seed: first images, one of `mijax.attacks.seeds`.
      distance: one of `mijax.attacks.gradient_distance`.
      label_rule: one of `mijax.attacks.label_recovery`, where labels are not known.
      learning_rate: of Adam, in pixels.
      tv_weight: of total variation in pixels, 4 times the paper's, which has 1e-6 to
        1e-1. No value fits all: 1e-2 suits networks of two convolutions, 4e-4 deep
        ones with batch normalization, 1e-4 and less those of sigmoids.
    """

    steps: int = static(default=4_800)
    restarts: int = static(default=1)
    seed: Seed = static(default=initial_images.gray_noise)
    distance: Distance = static(default=gradient_distance.cosine)
    label_rule: Rule = static(default=label_rules.bias_corrected)
    learning_rate: float | Array = 0.025
    tv_weight: float | Array = 1e-2


def attack(
    key: Array, knowledge: SharedUpdate, config: Config = Config()
) -> core.Reconstruction:
    """Recovers the images of a batch from the direction of its update.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: of V victims.
      config: hyper-parameters.

    Returns:
      Images `[V, B, *shape]` in [0, 1], and labels `[V, B]`.

    Raises:
      ValueError: if the update is not the target's, if the rule of labels or the seed
        lack what they need, or if `steps` or `restarts` are no such numbers.
    """
    refuse_flat(knowledge.target.shape)
    knowledge, x, labels = image_search.begin(key, knowledge, config, config.label_rule)

    def objective(x: Array) -> Array:
        distances, _ = gradient_distance.between(knowledge, x, labels, config.distance)
        return distances + config.tv_weight * jnp.mean(total_variation(x), 2)

    falls = {config.steps * eighths // 8: 0.1 for eighths in (3, 5, 7)}
    decay = optax.piecewise_constant_schedule(1.0, falls)
    found = search.descend(
        search.gradient_of(objective),
        x,
        optax.chain(
            optax.scale_by_sign(),
            optax.scale_by_adam(),
            optax.scale_by_schedule(decay),
            optax.scale(-config.learning_rate),
        ),
        steps=config.steps,
        project=lambda x: jnp.clip(x, 0, 1),
    )
    return image_search.end(found, found.best, labels)
