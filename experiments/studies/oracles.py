"""What limits an attack: searches that see the private images, as no adversary does.

Each recovers as much as a prior lets through, so an attack that stays below is limited
by its search or its target, and one that reaches it by the prior.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import judging
from experiments.harness import programs
from mijax.core import Prior
from mijax.search import descent

_STEPS, _RATE = 100, 0.05  # of Adam


def by_pixels(
    prior: Prior, latents: np.ndarray, drawn: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """The prior's images nearest to the true ones in pixels, `[V, H, W, C]`.

    Args:
      prior: the generator.
      latents: of the samples, `[N, Z]`; the search starts at the nearest one.
      drawn: the samples, `[N, H, W, C]`.
      truth: one image of each victim, `[V, H, W, C]`.
    """

    def objective(z: jax.Array) -> jax.Array:
        return jnp.square(prior.images(z) - truth).mean((1, 2, 3))

    def search(z: jax.Array) -> jax.Array:
        rate = optax.adam(_RATE)
        found = descent.descend(descent.gradient_of(objective), z, rate, steps=_STEPS)
        return prior.images(found.best)

    flat = lambda x: x.reshape(len(x), -1)
    start = latents[_nearest(flat(truth), flat(drawn))]
    images, _ = programs.program(search)(start)
    return np.asarray(images)


def by_eigenfaces(public: np.ndarray, truth: np.ndarray, components: int) -> np.ndarray:
    """The true images in the first principal components of public ones.

    Args:
      public: `[N, H, W, C]`.
      truth: `[V, H, W, C]`.
      components: how many, as many as the prior's latents have numbers.
    """
    center = public.mean(0)
    flat = (public - center).reshape(len(public), -1)
    _, vectors = np.linalg.eigh(flat.T @ flat)  # ascending
    basis = vectors[:, -components:]
    seen = (truth - center).reshape(len(truth), -1) @ basis @ basis.T
    return np.clip(seen.reshape(truth.shape) + center, 0, 1).astype(np.float32)


def by_features(
    judge: judging.Judge, drawn: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """The sample nearest to each person's mean feature, by the judge who will judge."""
    own = judge.private()
    known = judge.labels[judge.labels < judge.num_private]
    means = np.stack([own[known == label].mean(0) for label in labels])
    return drawn[_nearest(means, judge.features(drawn))]


def _nearest(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the others is nearest to each."""
    squares = np.square(others).sum(1)
    return np.argmin(squares - 2 * some @ others.T, 1)
