"""Inverting Gradients: match the direction of the gradient by signed Adam.

Geiping, Bauermeister, Droege, Moeller (2020). Over images in [0, 1],

    1 - cos(update of the guess, update observed) + tv_weight * total variation,

by Adam on the sign of its gradient, with a rate that falls tenfold after 3/8, 5/8 and
7/8 of the steps. An update of several local steps (FedAvg) is matched by unrolling
them.

Departures from the paper:
- pixels are in [0, 1], not standardized: the paper's rate of 0.1 in units of a standard
  deviation of about 1/4 is `learning_rate=0.025` here, and random first guesses have
  that mean and deviation;
- total variation is in those pixels too: the paper's weights are 4 times as large here,
  and the default is not the paper's;
- several weights of total variation are tried at once, each from every first guess,
  and `at_the_corner` chooses among them without the truth; of the restarts of one
  weight the least distance alone decides, as in the paper;
- a restart returns its best iterate by its own loss, not its last.

References:
  Geiping et al. Inverting gradients: how easy is it to break privacy in federated
  learning? NeurIPS 2020. arXiv:2003.14053.
"""

import jax.numpy as jnp
from jax import Array

from mijax import core
from mijax.attacks.leakage import (
    gradient_distance,
    image_search,
    initial_images,
    label_rules,
)
from mijax.attacks.leakage.gradient_distance import Distance
from mijax.attacks.leakage.initial_images import Seed
from mijax.attacks.leakage.label_rules import Rule
from mijax.attacks.leakage.total_variation import (
    refuse_flat,
    refuse_weights,
    total_variation,
)
from mijax.core import hyper_parameters, static
from mijax.knowledge import SharedUpdate

_FLAT = 1e-2  # images that are smoother count as if they were not


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      steps: iterations; 24,000 in the authors' benchmarks.
      restarts: first guesses a victim; 8 in the paper's tables.
      seed: first images, one of `.initial_images`.
      distance: one of `.gradient_distance`.
      label_rule: one of `.label_rules`, where labels are not known.
      learning_rate: of Adam, in pixels.
      tv_weight: of total variation in pixels, 4 times the paper's, which has 1e-6 to
        1e-1. No value fits all networks: several are tried, each at the cost of all
        `restarts`. One number tries that one.
    """

    steps: int = static(default=4_800)
    restarts: int = static(default=1)
    seed: Seed = static(default=initial_images.gray_noise)
    distance: Distance = static(default=gradient_distance.cosine)
    label_rule: Rule = static(default=label_rules.bias_corrected)
    learning_rate: float | Array = 0.025
    tv_weight: float | Array | tuple[float | Array, ...] = (1e-4, 1e-3, 1e-2, 1e-1)

    def __post_init__(self) -> None:
        """Refuses weights of total variation that are negative, or none."""
        refuse_weights(self.tv_weight)


def attack(
    key: Array, knowledge: SharedUpdate, config: Config = Config()
) -> core.Reconstruction:
    """Recovers the images of a batch from the direction of its update.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: of V victims.
      config: hyper-parameters.

    Returns:
      Images `[V, B, *shape]` in [0, 1], and labels `[V, B]`. The R candidates are all
      restarts of the first weight, then of the second, and so on; losses are distances
      of updates alone, traces the whole objective.

    Raises:
      ValueError: if the update is not the target's, if the rule of labels or the seed
        lack what they need, if `steps` is negative, or if `restarts` is not positive.
    """
    refuse_flat(knowledge.target.shape)
    knowledge, x, labels = image_search.begin(key, knowledge, config, config.label_rule)
    weights = jnp.ravel(jnp.asarray(config.tv_weight))  # [W]
    x, labels = (jnp.concatenate([each] * len(weights), 1) for each in (x, labels))
    weight_of = jnp.repeat(weights, config.restarts)[None]  # [1, R]

    def objective(x: Array) -> Array:
        distances, _ = gradient_distance.between(knowledge, x, labels, config.distance)
        return distances + weight_of * jnp.mean(total_variation(x), 2)

    found = image_search.signed_adam(objective, x, config)
    rough = jnp.mean(total_variation(found.best), 2)
    distances = found.loss - weight_of * rough
    best = at_the_corner(distances, rough, len(weights))
    return core.choose(found.best, distances, found.trace, labels=labels, best=best)


def at_the_corner(distances: Array, roughness: Array, weights: int) -> Array:
    """Chooses among weights of a prior without the truth: the L-curve's corner, `[V]`.

    Of each weight the restart of the least distance stands; of those, the one whose
    roughness times the third power of its residual (the root of its distance) is least.
    Where less smoothing no longer lowers the distance it is noise that is fitted, and
    where more of it costs distance it is the image that is lost.

    Args:
      distances: of all candidates, weight by weight, `[V, W * R]`.
      roughness: of their images, `[V, W * R]`.
      weights: W.

    References:
      Regińska. A regularization parameter in discrete ill-posed problems. SIAM Journal
      on Scientific Computing 1996. doi:10.1137/S1064827593252672.
    """
    by_weight = len(distances), weights, -1
    restart = jnp.argmin(distances.reshape(by_weight), 2, keepdims=True)  # [V, W, 1]
    products = jnp.maximum(distances, 0) ** 1.5 * jnp.maximum(roughness, _FLAT)
    of_weight = jnp.take_along_axis(products.reshape(by_weight), restart, 2)[:, :, 0]
    weight = jnp.argmin(of_weight, 1)
    size = distances.shape[1] // weights
    return weight * size + restart[jnp.arange(len(weight)), weight, 0]
