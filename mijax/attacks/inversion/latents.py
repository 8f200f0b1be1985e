"""What attacks through a prior share: a search in its latents, and what a target says.

`Config` is the part that GMI and LOMMA have in common.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from mijax import core, search
from mijax.batching import keys_of
from mijax.core import Prior, Target, hyper_parameters, static
from mijax.knowledge import WhiteBox

_AUTHORS_BATCH = 100  # identities whose mean loss the authors descend
CHUNK = 64  # images through the target at a time; changes no result


@hyper_parameters
class Config:
    """Of the momentum descent; the defaults are the authors' of GMI.

    Attributes:
      steps: iterations.
      restarts: random latents a victim.
      learning_rate: of the authors' batch of 100 identities.
      momentum: Nesterov's.
      identity_weight: of the identity loss, the paper's lambda.
      critic_weight: of the critic's score, 1 in the paper.
      clip: latents stay within plus and minus this.
    """

    steps: int = static(default=1500)
    restarts: int = static(default=5)
    learning_rate: float | Array = 0.02
    momentum: float | Array = 0.9
    identity_weight: float | Array = 100.0
    critic_weight: float | Array = 1.0
    clip: float | Array = 1.0


def descend(
    key: Array,
    prior: Prior,
    objective: Callable[[Array], Array],
    *,
    victims: int,
    config: Config,
) -> core.Reconstruction:
    """Searches latents of each victim, from several that the prior draws.

    Args:
      key: one key, or one a victim; the key is consumed.
      prior: whose latents.
      objective: `images [V * R, H, W, C] -> losses [V * R]`.
      victims: V.
      config: whose learning rate is of the mean over the authors' batch of 100
        identities; victims are independent here, so each one's step is a hundredth.

    Returns:
      The best iterate of each restart by the objective, and of each victim.
    """
    restarts = config.restarts

    def project(z: Array) -> Array:
        return jnp.clip(z, -config.clip, config.clip)

    def losses(z: Array) -> Array:
        with jax.named_scope("generator"):
            x = prior.images(z)
        return objective(x)

    start = jax.vmap(lambda key: prior.sample(key, restarts))(keys_of(key, victims))
    found = search.descend(
        search.gradient_of(losses),
        project(start.reshape(victims * restarts, -1)),
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


def public_features(knowledge: WhiteBox) -> Array | None:
    """Penultimate features of the public images, `[M, F]`.

    None without such images, or where the target does not tell its features.
    """
    if knowledge.public is None:
        return None

    predict = knowledge.target.predict
    return core.in_chunks(lambda x: predict(x).features, knowledge.public, CHUNK)


@jax.jit
def confidences(target: Target, images: Array) -> Array:
    """The target's probabilities of many images `[N, H, W, C]`, `[N, K]`."""
    return core.in_chunks(
        lambda x: jax.nn.softmax(target.predict(x).logits), images, CHUNK
    )


def examples(knowledge: WhiteBox, images: Any) -> tuple[Array, Array]:
    """Public images `[N, H, W, C]` with the target's probabilities `[N, K]`."""
    x = jnp.asarray(images)
    return x, confidences(knowledge.target, x)


def models(knowledge: WhiteBox) -> tuple[Target, ...]:
    """The target, and the surrogates that were distilled from it.

    Raises:
      ValueError: if a surrogate is of another image shape or other classes.
    """
    target = knowledge.target
    for model in knowledge.surrogates:
        if (model.shape, model.num_classes) != (target.shape, target.num_classes):
            raise ValueError(
                f"A surrogate maps {model.shape} to {model.num_classes} classes, the "
                f"target {target.shape} to {target.num_classes}: give surrogates "
                "of the target's image shape and classes."
            )
    return target, *knowledge.surrogates


def checked(knowledge: WhiteBox, restarts: int, method: str) -> Prior:
    """Returns the prior of a knowledge that can be searched.

    Raises:
      ValueError: if the prior is missing or of another image shape, if labels are not
        `[V]`, or if `restarts` is not positive.
    """
    prior = knowledge.prior
    if prior is None:
        raise ValueError(
            f"{method} needs a prior: pass WhiteBox(..., prior=mijax.priors.load(...))."
        )
    if prior.shape != knowledge.target.shape:
        raise ValueError(
            f"The prior draws images {prior.shape} but the target takes "
            f"{knowledge.target.shape}: train one of them at the other's size."
        )
    knowledge.check_labels()
    if restarts < 1:
        raise ValueError(f"restarts is {restarts}: it must be 1 or more.")
    return prior
