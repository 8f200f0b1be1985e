"""Order-invariant unrolling: FedAvg of several epochs whose order nobody knows.

Dimitrov, Balunović, Konstantinov, Vechev (2022). A client goes through its examples in
several epochs, each in an order of its own, so that no one step's examples are known.
The adversary gives each epoch images of its own, unrolls all local steps on them, and
asks that the epochs hold the same images in whatever order,

    1 - cos(update of the guess, update observed) + tv_weight * total variation
        + order_weight * mean over pairs of epochs |p(epoch) - p(other epoch)|^2,

where p is a function of a batch that its order does not change, here the mean and the
mean square of each pixel. In the end each epoch's images are matched to the first's,
one to one, within each label, and averaged.

Departures from the paper:
- labels are `label_rules.bias_corrected`'s, dealt to the steps of each epoch at random
  (the paper counts labels by interpolating over local steps);
- p is the mean and the mean square of pixels, the distance a mean over pixels; the
  paper's best is the mean over features of a random convolution;
- the search is that of `inverting_gradients`, by signs of the gradient.

References:
  Dimitrov et al. Data leakage in federated averaging. TMLR 2022. arXiv:2206.12395.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jax import Array

from mijax import core
from mijax.attacks.leakage import (
    gradient_distance,
    image_search,
    initial_images,
    label_rules,
    local_steps,
)
from mijax.attacks.leakage.gradient_distance import Distance
from mijax.attacks.leakage.initial_images import Seed
from mijax.attacks.leakage.label_rules import Rule
from mijax.attacks.leakage.total_variation import (
    refuse_flat,
    refuse_weights,
    total_variation,
)
from mijax.batching import keys_of
from mijax.core import hyper_parameters, static
from mijax.knowledge import SharedUpdate

_OTHER_LABEL = 1e6  # the cost of matching images of two labels


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      steps: iterations.
      restarts: first guesses a victim, each with labels dealt anew.
      seed: first images, one of `.initial_images`.
      distance: one of `.gradient_distance`.
      label_rule: one of `.label_rules`, where labels are not known.
      learning_rate: of Adam, in pixels.
      tv_weight: of total variation in pixels.
      order_weight: of the epochs' disagreement on what all images have in common.
    """

    steps: int = static(default=1_000)
    restarts: int = static(default=1)
    seed: Seed = static(default=initial_images.gray_noise)
    distance: Distance = static(default=gradient_distance.cosine)
    label_rule: Rule = static(default=label_rules.bias_corrected)
    learning_rate: float | Array = 0.025
    tv_weight: float | Array = 1e-2
    order_weight: float | Array = 1.0

    def __post_init__(self) -> None:
        """Refuses weights of total variation that are negative, or none."""
        refuse_weights(self.tv_weight)


def attack(
    key: Array, knowledge: SharedUpdate, config: Config = Config()
) -> core.Reconstruction:
    """Recovers a batch from local steps over several epochs of unknown order.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: of V victims. Its labels, where they are known, are in no order.
      config: hyper-parameters.

    Returns:
      Images `[V, B, *shape]` in [0, 1], and labels `[V, B]`.

    Raises:
      ValueError: if local steps are not whole epochs, if the update is not the
        target's, if the rule of labels or the seed lack what they need, if `steps` is
        negative, or if `restarts` is not positive.
    """
    refuse_flat(knowledge.target.shape)
    knowledge = knowledge.checked()
    labels = label_rules.labels_of(knowledge, config.label_rule)  # [V, B]
    epochs, batch = _epochs(knowledge), knowledge.batch_size
    taken = dataclasses.replace(
        knowledge.recipe, local_batch=local_steps.size(knowledge)
    )
    long = dataclasses.replace(
        knowledge, batch_size=epochs * batch, recipe=taken, labels=None, similar=None
    )
    keys = jax.vmap(jax.random.split)(keys_of(key, knowledge.victims))  # [V, 2]
    x = initial_images.sown(config.seed, keys[:, 0], long, config.restarts)
    shape = *x.shape[:2], epochs, batch, *x.shape[3:]

    def deal(key: Array, labels: Array) -> Array:
        orders = jax.random.split(key, (config.restarts, epochs))
        dealt = jax.vmap(jax.vmap(jax.random.permutation, (0, None)), (0, None))
        return dealt(orders, labels)

    dealt = jax.vmap(deal)(keys[:, 1], labels)  # [V, R, E, B]
    in_turn = dealt.reshape(*dealt.shape[:2], -1)

    def objective(x: Array) -> Array:
        distances, _ = gradient_distance.between(long, x, in_turn, config.distance)
        variation = jnp.mean(total_variation(x), 2)
        apart = _disagreement(x.reshape(shape))
        return distances + config.tv_weight * variation + config.order_weight * apart

    found = image_search.signed_adam(objective, x, config)
    together = jax.vmap(jax.vmap(_matched))(found.best.reshape(shape), dealt)
    return image_search.end(found, together, dealt[:, :, 0])


def _epochs(knowledge: SharedUpdate) -> int:
    """How often the client goes through its batch.

    Raises:
      ValueError: if local steps do not end with an epoch.
    """
    visits = local_steps.visits(knowledge)
    if visits[0] != visits[-1]:
        raise ValueError(
            f"local_steps is {knowledge.recipe.local_steps}, which takes some examples "
            f"{visits[0]} times and others {visits[-1]}: this attack is on whole "
            "epochs; use inverting_gradients."
        )
    return int(visits[0])


def _disagreement(x: Array) -> Array:
    """How far epochs differ in what order leaves alone, `[V, R]` of `[V, R, E, B, ..]`.

    The mean over pairs of epochs is twice the variance over epochs.
    """
    moments = jnp.stack([jnp.mean(x, 3), jnp.mean(x**2, 3)])  # [2, V, R, E, *shape]
    return 2 * jnp.sum(jnp.mean(jnp.var(moments, 3), range(3, moments.ndim - 1)), 0)


def _matched(x: Array, labels: Array) -> Array:
    """The mean of all epochs' images, `[B, *shape]`, each matched to the first epoch's.

    Args:
      x: images `[E, B, *shape]`.
      labels: `[E, B]`.
    """

    def to_first(own: Array, classes: Array) -> Array:
        pairs = (x[0][:, None] - own[None]) ** 2  # [B, B, *shape]
        costs = jnp.sum(pairs, range(2, pairs.ndim))
        others = labels[0][:, None] != classes[None]
        rows, columns = optax.assignment.hungarian_algorithm(
            costs + _OTHER_LABEL * others
        )
        return own[jnp.zeros(len(own), int).at[rows].set(columns)]

    return jnp.mean(jax.vmap(to_first)(x, labels), 0)
