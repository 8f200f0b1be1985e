"""GMI, the secret revealer: search a public generator's latents for an identity.

Zhang, Jia, Pei, Wang, Li, Song (2020). For each victim, from several random latents,
momentum descent on

    identity_weight * L_identity(target(G(z)), label) - critic(G(z)),   |z_i| <= clip.

The paper's first stage, the generator and its critic, is `mijax/priors/wgan_gp.py`;
identity losses are in `losses.py`, the descent is `latents.descend`.

Departures from the paper:
- victims are independent: the authors average the loss over a batch of 100
  identities, which divides each one's step by 100. The division is kept (it is
  `learning_rate / 100`), the coupling is not, so a victim's answer does not depend on
  who else is attacked. Momentum is Nesterov's, as in the authors' code;
- a restart returns its best iterate by its own loss, not its last, and the best
  restart is chosen by that same loss, not by the target's confidence;
- with a glimpse of the private image (blurred or masked), the paper trains a second,
  inpainting generator with local and global discriminators. Here the same prior
  inpaints: the distance to what is seen joins the objective;
- the first stage has no diversity loss.

References:
  Zhang et al. The secret revealer: generative model-inversion attacks against deep
  neural networks. CVPR 2020. arXiv:1911.07135.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from mijax import core
from mijax.attacks.inversion import latents
from mijax.attacks.inversion.losses import cross_entropy
from mijax.core import Prediction, hyper_parameters, static
from mijax.knowledge import WhiteBox


@hyper_parameters
class Config(latents.Config):
    """Hyper-parameters; the defaults are the authors'.

    Attributes:
      identity_loss: one of `mijax.attacks.inversion.losses`.
      glimpse_weight: how much it costs to differ from what is seen of the private
        image, where there is such a glimpse: it multiplies the squared difference,
        averaged over pixels.
    """

    identity_loss: Callable[[Prediction, Array, Array | None], Array] = static(
        default=cross_entropy
    )
    glimpse_weight: float | Array = 10_000.0


def attack(
    key: Array, knowledge: WhiteBox, config: Config = Config()
) -> core.Reconstruction:
    """Recovers an image of each victim's class, as the generator would draw it.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: `labels` `[V]`, `prior` of the target's image shape; `public` images
        for the logit loss; `glimpse`, if any, with one image a victim.
      config: hyper-parameters.

    Returns:
      Images `[V, H, W, C]` in the generator's range, and all restarts.

    Raises:
      ValueError: if the prior is missing or of another image shape, if `steps` is
        negative or `restarts` not positive, or if the glimpse has another shape.
    """
    prior = latents.checked(knowledge, config.restarts, "GMI")
    _check_glimpse(knowledge, prior)
    victims, restarts = knowledge.victims, config.restarts
    labels = jnp.repeat(knowledge.labels, restarts)  # [V * R]
    features = latents.public_features(knowledge)
    anchor = None if features is None else jnp.mean(features, 0)

    def objective(x: Array) -> Array:
        with jax.named_scope("target"):
            prediction = knowledge.target.predict(x)
            identity = config.identity_loss(prediction, labels, anchor)
        with jax.named_scope("critic"):
            realism = prior.score(x)
        losses = config.identity_weight * identity - config.critic_weight * realism
        if knowledge.glimpse is not None:
            seen = jnp.repeat(knowledge.glimpse.image, restarts, 0)
            away = (knowledge.glimpse.see(x) - seen) ** 2
            away = jnp.mean(away, axis=tuple(range(1, away.ndim)))
            losses = losses + config.glimpse_weight * away
        return losses

    return latents.descend(key, prior, objective, victims=victims, config=config)


def _check_glimpse(knowledge: WhiteBox, prior: core.Prior) -> None:
    glimpse, victims = knowledge.glimpse, knowledge.labels.shape[0]
    if glimpse is not None:
        images = jax.ShapeDtypeStruct((victims, *prior.shape), jnp.float32)
        seen = jax.eval_shape(glimpse.see, images).shape
        if glimpse.image.shape != seen:
            raise ValueError(
                f"The glimpse has shape {glimpse.image.shape} but must have {seen}: "
                f"give one for each of the {victims} victims, of the prior's images."
            )
