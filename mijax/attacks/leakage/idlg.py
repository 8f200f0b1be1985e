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

from jax import Array

from mijax import core
from mijax.attacks.leakage import gradient_distance, image_search, label_rules
from mijax.attacks.leakage.dlg import Config as Config
from mijax.knowledge import SharedUpdate


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
        update is not the target's, if `steps` is negative, or if `restarts` is not
        positive.
    """
    knowledge, x, labels = image_search.begin(key, knowledge, config, label_rules.idlg)

    def objective(x: Array) -> Array:
        return gradient_distance.between(knowledge, x, labels, config.distance)[0]

    found = image_search.lbfgs(objective, x, config)
    return image_search.end(found, found.best, labels)
