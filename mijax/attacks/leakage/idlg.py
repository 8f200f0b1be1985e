"""iDLG: the label is read from the last layer, then the image is found as in DLG.

Zhao, Mopuri, Bilen (2020). With cross-entropy, the gradient of the true class's output
is the only negative one, so that a batch of 1 gives its label away; L-BFGS then
minimizes DLG's squared distance of gradients over the image alone.

Departures from the paper: as in `dlg`. Labels that are known are taken as they are,
for any size of batch.

References:
  Zhao et al. iDLG: improved deep leakage from gradients. Preprint 2020.
  arXiv:2001.02610.
"""

import jax.numpy as jnp
from jax import Array

from mijax import core, search
from mijax.attacks.leakage import gradient_distance, initial_images, label_rules
from mijax.attacks.leakage.gradient_distance import Distance
from mijax.attacks.leakage.initial_images import Seed
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
      seed: first images, one of `mijax.attacks.seeds`.
      distance: one of `mijax.attacks.gradient_distance`.
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
    """Recovers a label from its gradient exactly, then the image.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: of V victims.
      config: hyper-parameters.

    Returns:
      Images `[V, B, *shape]` in [0, 1], and labels `[V, B]`.

    Raises:
      ValueError: if the batch is larger than 1 and its labels are not known, if the
        update is not the target's, or if `steps` or `restarts` are no such numbers.
    """
    knowledge = knowledge.checked()
    x = initial_images.sown(config.seed, key, knowledge, config.restarts)
    labels = label_rules.labels_of_restarts(
        knowledge, label_rules.idlg, config.restarts
    )

    def objective(x: Array) -> Array:
        return gradient_distance.between(knowledge, x, labels, config.distance)[0]

    found = search.lbfgs(
        search.gradient_of(objective),
        x,
        steps=config.steps,
        inner=config.inner,
        history=config.history,
        learning_rate=config.learning_rate,
    )
    images = jnp.clip(found.best, 0, 1)
    return core.choose(images, found.loss, found.trace, labels=labels)
