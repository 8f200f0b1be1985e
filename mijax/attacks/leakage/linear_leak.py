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

import jax.numpy as jnp
import numpy as np
from jax import Array

from mijax import core
from mijax.attacks.leakage import dense_layers, label_rules
from mijax.core import concrete, pytree
from mijax.knowledge import SharedUpdate, standardized

_ROUNDING = 1e-12


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
      the layer's gradient that no single image explains; 1, of a black image, where
      that gradient is zero and the attack is traced.

    Raises:
      ValueError: if a client's first layer has no gradient, if the batch is larger than
        1, if there was more than one local step, or if the target does not begin with
        one dense layer with a bias.
    """
    del key, config
    mean, deviation = knowledge.mean, knowledge.deviation
    knowledge = knowledge.checked()
    if knowledge.batch_size != 1 or knowledge.recipe.local_steps > 1:
        raise ValueError(
            f"The batch is {knowledge.batch_size} and local_steps "
            f"{knowledge.recipe.local_steps}: this is exact for 1 example and 1 step. "
            "See mijax.attacks.imprint for larger batches."
        )
    layer = dense_layers.first(knowledge.target)
    weight, bias = (  # [V, F, O], [V, O]
        dense_layers.leaf_of(knowledge.update, index, layer.name)
        for index in (layer.weight, layer.bias)
    )
    size = jnp.max(jnp.abs(bias), 1)  # Squares of small updates would be none.
    _refuse_dead(size)
    size = jnp.where(size > 0, size, 1)
    weight, bias = weight / size[:, None, None], bias / size[:, None]
    evidence = jnp.maximum(jnp.sum(bias**2, 1, keepdims=True), _ROUNDING)
    x = jnp.einsum("vfo,vo->vf", weight, bias) / evidence
    unexplained = jnp.sum((weight - x[:, :, None] * bias[:, None]) ** 2, (1, 2))
    seen = jnp.sum(weight**2, (1, 2))
    loss = jnp.where(seen > 0, unexplained / jnp.where(seen > 0, seen, 1), 1)
    images = x.reshape(-1, 1, 1, *knowledge.target.shape)
    return core.choose(
        jnp.clip(standardized.to_pixels(images, mean, deviation), 0, 1),
        loss[:, None],
        loss[:, None, None],
        labels=label_rules.labels_of(knowledge, label_rules.idlg)[:, None],
    )


def _refuse_dead(size: Array) -> None:
    """Refuses clients of whose first layer nothing was shared but zeros."""
    numbers = concrete(size)
    if numbers is not None and np.any(numbers == 0):
        dead = np.flatnonzero(numbers == 0)
        raise ValueError(
            f"The first layer's gradient of client {dead[0]} is all zero ({dead.size} "
            f"of {len(numbers)} are): its units are dead, and hold no image. Leave it "
            "out, or send another model."
        )
