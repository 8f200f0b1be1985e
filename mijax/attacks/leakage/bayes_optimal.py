"""Bayes-optimal: the likeliest batch, given how the update was defended.

Balunović, Dimitrov, Staab, Vechev (2022). An adversary who knows how a defense draws
what is shared, and how images are distributed, errs least by maximizing over batches

    log p(update observed | update of the batch)  +  log p(batch),

and attacks that match gradients are cases of it: the squared distance is for Gaussian
noise, the sum of absolute differences for Laplace noise. Each density here is one
defense's first term, negated, in nats up to a constant,

    (update of the batch, update observed) -> scalar,

and `jax.tree_util.Partial`s carry its numbers. Defenses without noise have a density
of 0 or infinity; what cannot be followed downhill is widened, as each docstring says.

Departures from the paper:
- p(batch) is exponential in total variation, with the mean that it has in the public
  images (or `roughness`), as many nats as an image has numbers;
- the search is `inverting_gradients`', by signs of the gradient, as densities differ by
  many orders of magnitude; theirs is Adam with decay by exponents;
- a defense's numbers, such as the deviation of noise, are known rather than estimated.

References:
  Balunović et al. Bayesian framework for gradient leakage. ICLR 2022. arXiv:2111.04706.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from mijax import core
from mijax.attacks.leakage import (
    gradient_distance,
    image_search,
    initial_images,
    label_rules,
)
from mijax.attacks.leakage.initial_images import Seed
from mijax.attacks.leakage.label_rules import Rule
from mijax.attacks.leakage.total_variation import refuse_flat, total_variation
from mijax.core import concrete, hyper_parameters, static
from mijax.knowledge import SharedUpdate

Density = Callable[[Any, Any], Array]

_PRECISION = 1e-3  # of what is shared exactly, in units of its root mean square
_LEAST = 0.05  # the least probability of a rounding; beyond it the cost is a line


def _sum(update: Any, observed: Any, cost: Callable[[Array, Array], Array]) -> Array:
    """The sum of what each leaf costs."""
    costs = jax.tree.leaves(jax.tree.map(cost, update, observed))
    return jnp.sum(jnp.stack(costs))


def _gaussian(deviation: Array, update: Any, observed: Any) -> Array:
    return gradient_distance.squared(update, observed) / (2 * deviation**2)


def _laplace(scale: Array, update: Any, observed: Any) -> Array:
    return _sum(update, observed, lambda u, o: jnp.sum(jnp.abs(u - o)) / scale)


def _exact(update: Any, observed: Any) -> Array:
    return _gaussian(_width(observed), update, observed)


def _width(observed: Any) -> Array:
    """How exactly numbers that are shared as they are need to agree."""
    shared = _sum(observed, observed, lambda u, o: jnp.sum(o != 0))
    length = gradient_distance.length(observed)
    return _PRECISION * length / jnp.sqrt(jnp.maximum(shared, 1))


def _shown(update: Any, observed: Any) -> Array:
    kept = jax.tree.map(lambda u, o: jnp.where(o == 0, 0, u), update, observed)
    return _exact(kept, observed)


def _pruned(update: Any, observed: Any) -> Array:
    least = jnp.min(jnp.stack(jax.tree.leaves(jax.tree.map(_smallest, observed))))
    return _with_bounds(update, observed, jax.tree.map(lambda _: least, observed))


def _pruned_layers(update: Any, observed: Any) -> Array:
    return _with_bounds(update, observed, jax.tree.map(_smallest, observed))


def _smallest(o: Array) -> Array:
    return jnp.min(jnp.where(o == 0, jnp.inf, jnp.abs(o)))


def _with_bounds(update: Any, observed: Any, bounds: Any) -> Array:
    width = _width(observed)

    def beyond(u: Array, o: Array, bound: Array) -> Array:
        excess = jnp.where(o == 0, jnp.maximum(jnp.abs(u) - bound, 0), 0)
        return jnp.sum(excess**2) / (2 * width**2)

    costs = jax.tree.leaves(jax.tree.map(beyond, update, observed, bounds))
    return _shown(update, observed) + jnp.sum(jnp.stack(costs))


def _signs(update: Any, observed: Any) -> Array:
    def cost(u: Array, o: Array) -> Array:
        size = jnp.mean(jnp.abs(jax.lax.stop_gradient(u)))
        against = jnp.maximum(-jnp.sign(o) * u, 0)
        return jnp.sum(against) / jnp.where(size > 0, size, 1)

    return _sum(update, observed, cost)


def _rounded(levels: Array, update: Any, observed: Any) -> Array:
    def cost(u: Array, o: Array) -> Array:
        largest = jnp.max(jnp.abs(o))  # The largest magnitude is a level.
        step = jnp.where(largest > 0, largest, 1) / levels
        away = jnp.abs(u - o) / step
        likely = jnp.maximum(1 - away, _LEAST)
        return jnp.sum(jnp.maximum(away - (1 - _LEAST), 0) / _LEAST - jnp.log(likely))

    return _sum(update, observed, cost)


def _clipped(norm: Array, density: Density, update: Any, observed: Any) -> Array:
    shrink = jnp.minimum(1.0, norm / gradient_distance.length(update))
    return density(jax.tree.map(lambda u: shrink * u, update), observed)


def _positive(name: str, given: float | Array) -> float | Array:
    """Returns a number above 0, or refuses it by its name."""
    known = concrete(given) if isinstance(given, jax.Array) else np.asarray(given)
    if known is not None and not np.all((known > 0) & np.isfinite(known)):
        raise ValueError(
            f"The density's {name} is {given}: it must be above 0 and finite; of no "
            "defense the density is exact()."
        )
    return given


def gaussian(deviation: float | Array) -> Density:
    """Of noise of a standard deviation, which is above 0."""
    return Partial(_gaussian, _positive("deviation", deviation))


def laplace(scale: float | Array) -> Density:
    """Of Laplace noise of a scale, which is above 0."""
    return Partial(_laplace, _positive("scale", scale))


def exact() -> Density:
    """Of no defense: Gaussian, of a thousandth of the update's root mean square."""
    return Partial(_exact)


def shown() -> Density:
    """As `exact` where something is shared; what is exactly zero says nothing."""
    return Partial(_shown)


def pruned(layers: bool = False) -> Density:
    """As `shown`, and the rest is no larger than what is shared: of all, or a leaf."""
    return Partial(_pruned_layers if layers else _pruned)


def signs() -> Density:
    """Of signs: a number of the other sign costs its size in mean sizes of the leaf."""
    return Partial(_signs)


def rounded(levels: float | Array) -> Density:
    """Of unbiased rounding to levels: 1 less the distance in steps, above .05."""
    return Partial(_rounded, _positive("levels", levels))


def clipped(norm: float | Array, density: Density) -> Density:
    """Of clipping to a length before another defense; of examples, in batches of 1."""
    return Partial(_clipped, _positive("norm", norm), density)


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      steps: iterations.
      restarts: first guesses a victim.
      seed: first images, one of `.initial_images`.
      label_rule: one of `.label_rules`, where labels are not known.
      learning_rate: of Adam, in pixels.
      density: of the clients' defense, one of this module.
      roughness: the mean total variation of images, where none are public.
    """

    steps: int = static(default=4_800)
    restarts: int = static(default=1)
    seed: Seed = static(default=initial_images.gray_noise)
    label_rule: Rule = static(default=label_rules.bias_corrected)
    learning_rate: float | Array = 0.025
    density: Density = exact()
    roughness: float | Array = 0.1


def attack(
    key: Array, knowledge: SharedUpdate, config: Config = Config()
) -> core.Reconstruction:
    """Recovers the likeliest batch through a defense whose noise it knows.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: of V victims; `public` images tell how rough images are.
      config: hyper-parameters, the defense's density among them.

    Returns:
      Images `[V, B, *shape]` in [0, 1], and labels `[V, B]`; losses are in nats.

    Raises:
      ValueError: if the update is not the target's, if the rule of labels or the seed
        lack what they need, if `steps` is negative, or if `restarts` is not positive.
    """
    refuse_flat(knowledge.target.shape)
    if not callable(config.density):
        raise ValueError(
            f"density is {config.density!r}: give the defense's, such as "
            "bayes_optimal.gaussian(deviation), or exact() for none."
        )
    knowledge, x, labels = image_search.begin(key, knowledge, config, config.label_rule)
    roughness = jnp.asarray(config.roughness)
    if knowledge.public is not None:
        roughness = jnp.mean(total_variation(knowledge.public))
    nats = x[0, 0, 0].size / roughness

    def objective(x: Array) -> Array:
        costs, _ = gradient_distance.between(knowledge, x, labels, config.density)
        return costs + nats * jnp.sum(total_variation(x), 2)

    found = image_search.signed_adam(objective, x, config)
    return image_search.end(found, found.best, labels)
