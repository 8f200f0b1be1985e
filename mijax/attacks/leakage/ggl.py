"""GGL: search a generator's latents for a batch, through the victim's own defense.

Li, Zhang, Liu, Liu (2022). Labels are read from the last layer; then a search without
gradients finds latents z whose images G(z) have the update that was observed,

    |T(gradient of G(z)) - gradient observed|^2,

where T does to the guess what a defense did to the victim's gradient, as far as the
observed one shows: it is clipped to the same length, what is exactly zero there is zero
here, and where a layer is nothing but signs, the guess's signs are compared. Noise of
mean zero is left as it is: adding more could only hide the guess.

Departures from the paper: the search is the cross-entropy method (`search.
elite_gaussian`) in place of CMA-ES or Bayesian optimization; the threshold of
compression is read off the zeros, entry by entry, instead of off their number; signs
are no defense that it considers; latents are not bounded, as the authors' are.

References:
  Li et al. Auditing privacy defenses in federated learning via generative gradient
  leakage. CVPR 2022. arXiv:2203.15696.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mijax import core, search
from mijax.attacks.leakage import gradient_distance, label_rules
from mijax.attacks.leakage.gradient_distance import Distance
from mijax.attacks.leakage.label_rules import Rule
from mijax.batching import keys_of
from mijax.core import hyper_parameters, static
from mijax.federation import client_update
from mijax.knowledge import SharedUpdate


def as_observed(update: Any, observed: Any) -> Any:
    """Does to a guess's update what a defense seems to have done to that observed."""
    kept = jax.tree.map(lambda u, o: jnp.where(o == 0, 0, u), update, observed)
    kept = jax.tree.map(_as_signs, kept, observed)
    length = gradient_distance.length(kept)
    shrink = gradient_distance.length(observed) / jnp.where(length > 0, length, 1)
    return jax.tree.map(lambda leaf: jnp.minimum(1.0, shrink) * leaf, kept)


def _as_signs(u: Array, o: Array) -> Array:
    """The signs of a leaf, if several are all that was observed, and as large."""
    size, shown = jnp.max(jnp.abs(o)), o != 0
    signs = jnp.all(~shown | (jnp.abs(o) == size)) & (jnp.sum(shown) > 1)
    return jnp.where(signs, size * jnp.sign(u), u)


def as_computed(update: Any, observed: Any) -> Any:
    """Leaves a guess's update as it is: an adversary who ignores defenses."""
    del observed
    return update


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      steps: generations; 500 in the paper.
      population: guesses a generation; 50 in the paper.
      elite: how many of them the next generation is drawn around.
      restarts: searches a victim.
      adapt: what is done to a guess's update, `as_observed` or `as_computed`.
      distance: one of `.gradient_distance`.
      label_rule: one of `.label_rules`, where labels are not known.
      spread: the first standard deviation of the latents.
    """

    steps: int = static(default=500)
    population: int = static(default=50)
    elite: int = static(default=10)
    restarts: int = static(default=1)
    adapt: Callable[[Any, Any], Any] = static(default=as_observed)
    distance: Distance = static(default=gradient_distance.squared)
    label_rule: Rule = static(default=label_rules.bias_corrected)
    spread: float | Array = 1.0


def attack(
    key: Array, knowledge: SharedUpdate, config: Config = Config()
) -> core.Reconstruction:
    """Recovers a batch as a generator would draw it, through a defense.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: of V victims, with a `prior` of the target's image shape.
      config: hyper-parameters.

    Returns:
      Images `[V, B, *shape]` in the generator's range, and labels `[V, B]`. The trace
      holds each generation's best loss, and the best of all at its end.

    Raises:
      ValueError: if the prior is missing or of another image shape, if the update is
        not the target's, or if a size is not positive.
    """
    knowledge = knowledge.checked()
    prior, target = knowledge.prior, knowledge.target
    if prior is None or prior.shape != target.shape:
        raise ValueError(
            f"GGL needs a prior that draws images {target.shape}, but the knowledge "
            f"has {'none' if prior is None else prior.shape}: pass SharedUpdate(..., "
            "prior=mijax.priors.load(...))."
        )
    if config.restarts < 1:
        raise ValueError(f"restarts is {config.restarts}: it must be 1 or more.")
    victims, restarts = knowledge.victims, config.restarts
    batch, size = knowledge.batch_size, prior.latent_size
    labels = label_rules.labels_of_restarts(knowledge, config.label_rule, restarts)

    def loss(z: Array, labels: Array, observed: Any) -> Array:
        x = prior.images(z.reshape(batch, size))
        update = client_update(knowledge.recipe, target, x, labels).change
        update = gradient_distance.as_shared(update, observed)
        return config.distance(config.adapt(update, observed), observed)

    def objective(z: Array, none: None) -> tuple[Array, None]:
        of_restart = jax.vmap(loss, (0, None, None))
        of_victim = jax.vmap(of_restart, (0, 0, None))
        guesses = z.reshape(victims, restarts, -1, batch * size)  # [V, R, P, B * Z]
        losses = jax.vmap(of_victim)(guesses, labels, knowledge.update)
        return losses.reshape(-1), none

    keys = jax.vmap(lambda key: jax.random.split(key, restarts))(keys_of(key, victims))
    found = search.evolve(
        keys.reshape(-1),
        objective,
        jnp.zeros((victims * restarts, batch * size)),
        search.elite_gaussian(config.population, config.elite, config.spread),
        generations=config.steps,
    )
    x = prior.images(found.best.reshape(-1, size))
    trace = jnp.concatenate([found.trace, found.loss[:, None]], 1)
    return core.choose(
        x.reshape(victims, restarts, batch, *target.shape),
        found.loss.reshape(victims, restarts),
        trace.reshape(victims, restarts, -1),
        labels=labels,
    )
