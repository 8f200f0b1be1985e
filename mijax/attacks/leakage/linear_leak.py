"""Analytic leakage: a dense layer's gradient holds its input, divided by the bias's.

Phong, Aono, Hayashi, Wang, Moriai (2018). For one example x and a first layer
`W x + b`, row i of the gradient of W is x times entry i of the gradient of b. All rows
are weighed by their evidence (least squares), so that small ones do no harm.

Limits: exact for a batch of 1, whatever follows the layer. Of more examples each row
holds a mixture; `imprint` is the attack for those. After one local step the change of
the weights tells the same; after several it is refused.

References:
  Phong et al. Privacy-preserving deep learning via additively homomorphic encryption.
  TIFS 2018. doi:10.1109/TIFS.2017.2787987.
"""

import jax
import jax.numpy as jnp
from jax import Array

from mijax import core
from mijax.attacks.leakage import dense_layers, label_rules
from mijax.core import pytree
from mijax.knowledge import SharedUpdate


@pytree
class Config:
    """There is nothing to choose."""


def attack(
    key: Array, knowledge: SharedUpdate, config: Config = Config()
) -> core.Reconstruction:
    """Recovers the one image of a batch exactly, in closed form.

    Args:
      key: not used, as nothing is drawn; the key is consumed.
      knowledge: of V victims with a batch of 1, whose target begins with a dense layer
        with a bias.
      config: empty.

    Returns:
      Images `[V, 1, *shape]` in [0, 1], and labels `[V, 1]`; the loss is the share of
      the layer's gradient that no single image explains.

    Raises:
      ValueError: if the batch is larger than 1, if there was more than one local step,
        or if the target does not begin with one dense layer with a bias.
    """
    del key, config
    knowledge = knowledge.checked()
    if knowledge.batch_size != 1 or knowledge.recipe.local_steps > 1:
        raise ValueError(
            f"The batch is {knowledge.batch_size} and local_steps "
            f"{knowledge.recipe.local_steps}: this is exact for 1 example and 1 step. "
            "See mijax.attacks.imprint for larger batches."
        )
    layer = dense_layers.first(knowledge.target)
    leaves = jax.tree.leaves(knowledge.update)
    assert layer.bias is not None  # `first` sees to it.
    weight, bias = leaves[layer.weight], leaves[layer.bias]  # [V, F, O], [V, O]
    evidence = jnp.sum(bias**2, 1, keepdims=True)
    x = jnp.einsum("vfo,vo->vf", weight, bias) / evidence
    unexplained = jnp.sum((weight - x[:, :, None] * bias[:, None]) ** 2, (1, 2))
    loss = unexplained / jnp.sum(weight**2, (1, 2))
    return core.choose(
        jnp.clip(x, 0, 1).reshape(-1, 1, 1, *knowledge.target.shape),
        loss[:, None],
        loss[:, None, None],
        labels=label_rules.labels_of(knowledge, label_rules.idlg)[:, None],
    )
