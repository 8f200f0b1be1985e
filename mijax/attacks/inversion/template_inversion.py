"""Template inversion: the face of each class, from the weights of a head alone.

Mai, Cao, Yuen, Jain (2019) decode the template that a face recognizer keeps of a
person. A classifier that was fine-tuned from a public network keeps templates too, in
the weights of its head.

(1) of the head's weights, the template of each class (`TemplateDecoder.templates`);
(2) its image, by a decoder of the public network's embeddings, which was trained on
    public people before any target was known.

Departures from the paper:
- templates are estimated from a head, where the paper's adversary holds them;
- the decoder (`mijax.priors.template_decoder`) is a small dense network into
  eigenfaces, where the paper has deconvolutions and images that a GAN draws.

References:
  Mai et al. On the reconstruction of face images from deep face templates. TPAMI 2019.
  arXiv:1703.00832.
"""

import jax
import jax.numpy as jnp
from jax import Array

from mijax import core, fine_tuning
from mijax.core import hyper_parameters
from mijax.knowledge import WhiteBox


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      contrast: by which the image's contrast is multiplied. A decoder draws a person's
        mean image, which is flat.
    """

    contrast: float | Array = 1.0


def attack(
    key: Array, knowledge: WhiteBox, config: Config = Config()
) -> core.Reconstruction:
    """Recovers an image of each victim's class, without a search.

    Args:
      key: not used, since nothing is random; it is consumed.
      knowledge: `labels` `[V]`, a target of `mijax.fine_tuning`, and the `decoder` of
        its public network.
      config: hyper-parameters.

    Returns:
      Images `[V, H, W, C]` in [0, 1], one candidate each; losses are 1 minus the
      target's confidence.

    Raises:
      ValueError: if the decoder is missing or of another network or shape, or the
        target was not fine-tuned from a public network.
    """
    del key
    decoder, target = _checked(knowledge)
    templates = fine_tuning.templates(target, decoder)[knowledge.labels]
    x = decoder.images(templates)
    mean = jnp.mean(x, axis=(1, 2, 3), keepdims=True)
    x = jnp.clip(mean + config.contrast * (x - mean), 0, 1)
    confidences = jax.nn.softmax(target.predict(x).logits)
    own = jnp.take_along_axis(confidences, knowledge.labels[:, None], 1)
    losses = 1 - own  # [V, 1]: one candidate each
    return core.choose(x[:, None], losses, losses[:, :, None])


def _checked(knowledge: WhiteBox) -> tuple[core.TemplateDecoder, core.Target]:
    knowledge.check_labels()
    decoder, target = knowledge.decoder, knowledge.target
    if decoder is None:
        raise ValueError(
            "Template inversion needs a decoder of the target's public network: pass "
            "WhiteBox(..., decoder=mijax.priors.template_decoder.load())."
        )
    shape = jax.eval_shape(decoder.images, decoder.center[None]).shape[1:]
    if shape != target.shape:
        raise ValueError(
            f"The decoder draws images {shape}, the target takes {target.shape}."
        )
    return decoder, target
