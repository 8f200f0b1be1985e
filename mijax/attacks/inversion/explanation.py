"""Inversion of explained predictions: a decoder of confidences and explanations.

Zhao, Zhang, Xiao, Lim (2021). Where a service explains its predictions, the adversary
asks it about images of its own, and trains a decoder of confidences and explanation
together. A map such as gradient times input has the input's own places, so that the
decoder need not guess them.

Departures: the decoder is a perceptron of confidences and the flat map, the paper's are
transposed convolutions and a U-Net; a service that explains nothing is not attacked
(the paper then trains an explained model of its own to guess the map).

References:
  Zhao, Zhang, Xiao, Lim. Exploiting explanations for model inversion attacks. ICCV
  2021. arXiv:2104.12669.
"""

import jax.numpy as jnp
from jax import Array

from mijax.attacks.inversion import inverse_network
from mijax.attacks.inversion.inverse_network import Config as Config
from mijax.core import Reconstruction
from mijax.knowledge import Explained
from mijax.priors import decoder


def attack(
    key: Array, knowledge: Explained, config: Config = Config()
) -> Reconstruction:
    """Recovers private inputs from their confidences and explanations.

    Args:
      key: of the decoder's training; it is consumed.
      knowledge: a query, public images, and the victims' `observed` confidences
        `[V, K]` and `explanations` `[V, H, W, C]`; labels are not read.
      config: hyper-parameters.

    Returns:
      Images `[V, H, W, C]` in [0, 1]; the loss is the training's last one.

    Raises:
      ValueError: if there is no step, there are no public images, or what was observed
        is of another shape.
    """
    observed, public = inverse_network.check(knowledge)
    maps = knowledge.explanations
    expected = (len(observed), *knowledge.shape)
    if maps is None or maps.shape != expected:
        given = None if maps is None else maps.shape
        raise ValueError(
            f"The observed explanations are {given}: give those that were released of "
            f"each victim's input, {expected}."
        )
    scores, public_maps, asked = knowledge.query(public)
    codes = config.code(scores), public_maps
    # In units of their own: the decoder weighs coordinates by how much they vary.
    units = [jnp.std(code) + 1e-12 for code in codes]

    def joined(*codes: Array) -> Array:
        flat = [x.reshape(len(x), -1) / s for x, s in zip(codes, units, strict=True)]
        return jnp.concatenate(flat, 1)

    return decoder.invert(
        key,
        config,
        joined(*codes),
        public,
        joined(config.code(observed), maps),
        asked.spent - knowledge.spent,
    )
