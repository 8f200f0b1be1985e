"""GMI, the secret revealer: search a public generator's latents for an identity.

Zhang, Jia, Pei, Wang, Li, Song (2020). For each victim, from several random latents,
momentum descent on

    identity_weight * L_identity(target(G(z)), label) - critic(G(z)),   |z| <= clip.

Departures from the paper:
- victims are independent: the authors average the loss over a batch of 100
  identities, which divides each one's step by 100. The division is kept (it is
  `learning_rate / 100`), the coupling is not, so a victim's answer does not depend on
  who else is attacked. Momentum is Nesterov's, as in the authors' code;
- a restart returns its best iterate by its own loss, not its last, and the best
  restart is chosen by that same loss, not by the target's confidence;
- with a glimpse of the private image (blurred or masked), the paper trains a second,
  inpainting generator with local and global discriminators. Here the same prior
  inpaints: the distance to what is seen joins the objective.

References:
  Zhang et al. The secret revealer: generative model-inversion attacks against deep
  neural networks. CVPR 2020. arXiv:1911.07135.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array

from mijax import core, search
from mijax.attacks.inversion.losses import cross_entropy
from mijax.batching import keys_of
from mijax.core import Prediction, hyper_parameters, static
from mijax.knowledge import WhiteBox

_AUTHORS_BATCH = 100
_CHUNK = 64  # public images through the target at a time; changes no result


@hyper_parameters
class Config:
    """Hyper-parameters; the defaults are the authors'.

    Attributes:
      steps: iterations.
      restarts: random latents a victim.
      identity_loss: one of `mijax.attacks.inversion.losses`.
      learning_rate: of the authors' batch of 100 identities.
      momentum: Nesterov's.
      identity_weight: the paper's lambda.
      critic_weight: 1 in the paper.
      clip: latents stay within plus and minus this.
      glimpse_weight: of the squared distance to what is seen, where there is a
        glimpse; mean over pixels.
    """

    steps: int = static(default=1500)
    restarts: int = static(default=5)
    identity_loss: Callable[[Prediction, Array, Array | None], Array] = static(
        default=cross_entropy
    )
    learning_rate: float | Array = 0.02
    momentum: float | Array = 0.9
    identity_weight: float | Array = 100.0
    critic_weight: float | Array = 1.0
    clip: float | Array = 1.0
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
    prior, target = _checked(knowledge, config), knowledge.target
    victims, restarts = knowledge.victims, config.restarts
    labels = jnp.repeat(knowledge.labels, restarts)  # [V * R]
    anchor = _mean_feature(knowledge)

    def objective(z: Array) -> Array:
        with jax.named_scope("generator"):
            x = prior.images(z)
        with jax.named_scope("target"):
            identity = config.identity_loss(target.predict(x), labels, anchor)
        with jax.named_scope("critic"):
            realism = prior.score(x)
        losses = config.identity_weight * identity - config.critic_weight * realism
        if knowledge.glimpse is not None:
            seen = jnp.repeat(knowledge.glimpse.image, restarts, 0)
            away = (knowledge.glimpse.see(x) - seen) ** 2
            away = jnp.mean(away, axis=tuple(range(1, away.ndim)))
            losses = losses + config.glimpse_weight * away
        return losses

    def project(z: Array) -> Array:
        return jnp.clip(z, -config.clip, config.clip)

    start = jax.vmap(lambda key: prior.sample(key, restarts))(keys_of(key, victims))
    start = start.reshape(victims * restarts, -1)
    found = search.descend(
        search.gradient_of(objective),
        project(start),
        optax.sgd(config.learning_rate / _AUTHORS_BATCH, config.momentum, True),
        steps=config.steps,
        project=project,
    )
    x = prior.images(found.best)
    return core.choose(
        x.reshape(victims, restarts, *x.shape[1:]),
        found.loss.reshape(victims, restarts),
        found.trace.reshape(victims, restarts, -1),
    )


def _mean_feature(knowledge: WhiteBox) -> Array | None:
    """The mean penultimate feature of the public images, `[F]`."""
    if knowledge.public is None:
        return None

    def feature(x: Array) -> Array | None:
        features = knowledge.target.predict(x[None]).features
        return None if features is None else features[0]

    features = jax.lax.map(feature, knowledge.public, batch_size=_CHUNK)
    return None if features is None else jnp.mean(features, 0)


def _checked(knowledge: WhiteBox, config: Config) -> core.Prior:
    prior = knowledge.prior
    if prior is None:
        raise ValueError(
            "GMI needs a prior: pass WhiteBox(..., prior=mijax.priors.load(...))."
        )
    if prior.shape != knowledge.target.shape:
        raise ValueError(
            f"The prior draws images {prior.shape} but the target takes "
            f"{knowledge.target.shape}: train one of them at the other's size."
        )
    knowledge.check_labels()
    if config.restarts < 1:
        raise ValueError(f"restarts is {config.restarts}: it must be 1 or more.")
    glimpse, victims = knowledge.glimpse, knowledge.labels.shape[0]
    if glimpse is not None:
        images = jax.ShapeDtypeStruct((victims, *prior.shape), jnp.float32)
        seen = jax.eval_shape(glimpse.see, images).shape
        if glimpse.image.shape != seen:
            raise ValueError(
                f"The glimpse is {glimpse.image.shape} but would be {seen} of "
                f"{victims} victims: give one a victim, of the prior's image shape."
            )
    return prior
