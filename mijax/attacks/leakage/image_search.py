"""What attacks that search for images share: first guesses, searches, the choice."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from mijax import core, search
from mijax.attacks.leakage import initial_images, label_rules
from mijax.attacks.leakage.label_rules import Rule
from mijax.knowledge import SharedUpdate
from mijax.search import SearchResult


def begin(
    key: Array, knowledge: SharedUpdate, config: Any, label_rule: Rule
) -> tuple[SharedUpdate, Array, Array]:
    """Checks what is known, draws first guesses, and finds the labels.

    Args:
      key: one key, or one per victim; the key is consumed.
      knowledge: of V victims.
      config: with `seed` and `restarts`.
      label_rule: where labels are not known.

    Returns:
      The checked knowledge, whose target takes images in [0, 1]; guesses
      `[V, R, B, *shape]`; and the labels that each restart takes for true, `[V, R, B]`.

    Raises:
      ValueError: if the update is not the target's, if rule or seed lack what they
        need, or if `restarts` is not positive.
    """
    knowledge = knowledge.checked()
    x = initial_images.sown(config.seed, key, knowledge, config.restarts)
    labels = label_rules.labels_of_restarts(knowledge, label_rule, config.restarts)
    return knowledge, x, labels


def lbfgs(objective: Callable[[Any], Array], guess: Any, config: Any) -> SearchResult:
    """Minimizes `objective`, `guess -> losses [V, R]`, with the config's numbers."""
    return search.lbfgs(
        search.gradient_of(objective),
        guess,
        steps=config.steps,
        inner=config.inner,
        history=config.history,
        learning_rate=config.learning_rate,
    )


def signed_adam(objective: Callable[[Any], Array], x: Any, config: Any) -> SearchResult:
    """Minimizes by Adam on the sign of the gradient, in [0, 1], as Geiping et al. do.

    The rate of the config falls tenfold after 3/8, 5/8 and 7/8 of its steps.
    """
    falls = {config.steps * eighths // 8: 0.1 for eighths in (3, 5, 7)}
    return search.descend(
        search.gradient_of(objective),
        x,
        optax.chain(
            optax.scale_by_sign(),
            optax.scale_by_adam(),
            optax.scale_by_schedule(optax.piecewise_constant_schedule(1.0, falls)),
            optax.scale(-config.learning_rate),
        ),
        steps=config.steps,
        project=lambda x: jnp.clip(x, 0, 1),
    )


def end(found: SearchResult, x: Array, labels: Array) -> core.Reconstruction:
    """Chooses restarts of images `[V, R, B, *shape]`, clipped to [0, 1], by loss."""
    return core.choose(jnp.clip(x, 0, 1), found.loss, found.trace, labels=labels)
