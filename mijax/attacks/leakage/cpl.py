"""CPL: client privacy leakage, where the first guess decides what leaks.

Wei, Liu, Loper, Chow, Gursoy, Truex, Wu (2020). With the label from the last layer,
L-BFGS minimizes over the images

    |gradient of the guess - gradient observed|^2
        + label_weight * |confidences of the guess - label|^2

from a seed with structure: a tiled random square, one color, an image of the class.

Departures from the paper: those of `dlg`; and labels of larger batches are found by
`label_rules.bias_corrected`, which for a batch of 1 is the paper's rule.

References:
  Wei et al. A framework for evaluating gradient leakage attacks in federated learning.
  ESORICS 2020. arXiv:2004.10397.
"""

import jax
import jax.numpy as jnp
from jax import Array

from mijax import core
from mijax.attacks.leakage import (
    gradient_distance,
    image_search,
    initial_images,
    label_rules,
)
from mijax.attacks.leakage.gradient_distance import Distance
from mijax.attacks.leakage.initial_images import Seed
from mijax.attacks.leakage.label_rules import Rule
from mijax.core import hyper_parameters, static
from mijax.knowledge import SharedUpdate


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      steps: attack iterations, each a call of the optimizer.
      inner: iterations a call.
      history: pairs that L-BFGS remembers.
      restarts: first guesses a victim.
      seed: first images, one of `.initial_images`.
      distance: one of `.gradient_distance`.
      label_rule: one of `.label_rules`, where labels are not known.
      learning_rate: of L-BFGS.
      label_weight: of the label's regularizer, the paper's alpha.
    """

    steps: int = static(default=300)
    inner: int = static(default=20)
    history: int = static(default=100)
    restarts: int = static(default=1)
    seed: Seed = static(default=initial_images.Patterned())
    distance: Distance = static(default=gradient_distance.squared)
    label_rule: Rule = static(default=label_rules.bias_corrected)
    learning_rate: float | Array = 1.0
    label_weight: float | Array = 1.0


def attack(
    key: Array, knowledge: SharedUpdate, config: Config = Config()
) -> core.Reconstruction:
    """Recovers the images of a batch from its gradient and a structured first guess.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: of V victims; `similar` images for the seed
        `initial_images.same_class`.
      config: hyper-parameters.

    Returns:
      Images `[V, B, *shape]` in [0, 1], and labels `[V, B]`.

    Raises:
      ValueError: if the update is not the target's, if the rule of labels or the seed
        lack what they need, if `steps` is negative, or if `restarts` is not positive.
    """
    knowledge, x, labels = image_search.begin(key, knowledge, config, config.label_rule)
    target = knowledge.target
    sought = jax.nn.one_hot(labels, target.num_classes)

    def objective(x: Array) -> Array:
        distances, _ = gradient_distance.between(knowledge, x, labels, config.distance)
        logits = target.predict(x.reshape(-1, *target.shape)).logits
        confidences = jax.nn.softmax(logits).reshape(sought.shape)
        misses = jnp.sum((confidences - sought) ** 2, (2, 3))
        return distances + config.label_weight * misses

    found = image_search.lbfgs(objective, x, config)
    return image_search.end(found, found.best, labels)
