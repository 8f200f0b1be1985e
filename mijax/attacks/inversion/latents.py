"""Momentum descent in a prior's latents: the search that GMI and LOMMA share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array

from mijax import core, search
from mijax.batching import keys_of
from mijax.core import Prior
from mijax.knowledge import WhiteBox

_AUTHORS_BATCH = 100  # identities whose mean loss the authors descend
_CHUNK = 64  # public images through the target at a time; changes no result


def descend(
    key: Array,
    prior: Prior,
    objective: Callable[[Array], Array],
    *,
    victims: int,
    restarts: int,
    steps: int,
    learning_rate: float | Array,
    momentum: float | Array,
    clip: float | Array,
) -> core.Reconstruction:
    """Searches latents of each victim, from several that the prior draws.

    Args:
      key: one key, or one a victim; the key is consumed.
      prior: whose latents.
      objective: `images [V * R, H, W, C] -> losses [V * R]`.
      victims: V.
      restarts: R.
      steps: of Nesterov's momentum.
      learning_rate: of the mean over the authors' batch of 100 identities; victims are
        independent here, so each one's step is a hundredth of it.
      momentum: of the descent.
      clip: latents stay within plus and minus this, from the first on.

    Returns:
      The best iterate of each restart by the objective, and of each victim.
    """

    def project(z: Array) -> Array:
        return jnp.clip(z, -clip, clip)

    def losses(z: Array) -> Array:
        with jax.named_scope("generator"):
            x = prior.images(z)
        return objective(x)

    start = jax.vmap(lambda key: prior.sample(key, restarts))(keys_of(key, victims))
    found = search.descend(
        search.gradient_of(losses),
        project(start.reshape(victims * restarts, -1)),
        optax.sgd(learning_rate / _AUTHORS_BATCH, momentum, True),
        steps=steps,
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

    def feature(x: Array) -> Array | None:
        features = knowledge.target.predict(x[None]).features
        return None if features is None else features[0]

    return jax.lax.map(feature, knowledge.public, batch_size=_CHUNK)


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
