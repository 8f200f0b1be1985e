"""rMLE: the smoothest image whose features are those that crossed the split.

He, Zhang, Lee (2019), white box. From a gray image, AMSGrad minimizes

    |f1(x) - v|^2 + weight * TV(x),   TV(x) = sum (dx^2 + dy^2)^(power / 2)

where v are the features and f1 the first half.

Departures: both terms are means, over features and over pixels, so that a weight means
the same at every layer (the paper's are of sums, or of a mean and a sum). The power is
2, as in the authors' code; the paper's is 1. Images are kept in [0, 1], and the best
iterate by this same objective is returned, not the last.

References:
  He, Zhang, Lee. Model inversion attacks against collaborative inference. ACSAC 2019.
  doi:10.1145/3359789.3359824.
"""

import jax.numpy as jnp
import optax
from jax import Array

from mijax import search
from mijax.core import Reconstruction, choose, hyper_parameters, static
from mijax.knowledge.split_features import SplitWhiteBox

_SMOOTH = 1e-12  # under the root, which has no slope at 0


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      steps: of descent (the paper: 500 at shallow layers, 5,000 at deep ones).
      learning_rate: of AMSGrad, in pixels (the paper: 1e-2 shallow, 1e-3 deep).
      weight: of the total variation.
      power: of a difference between neighbors.
      start: the gray of the first image.
    """

    steps: int = static(default=500)
    learning_rate: float | Array = 1e-2
    weight: float | Array = 0.1
    power: float | Array = 2.0
    start: float | Array = 0.5


def variation(x: Array, power: float | Array) -> Array:
    """Returns the mean over pixels of (dx^2 + dy^2)^(power / 2), `[V]`.

    Differences reach to the right and down, and are 0 at the border.
    """
    down = jnp.diff(x, axis=1, append=x[:, -1:])
    right = jnp.diff(x, axis=2, append=x[:, :, -1:])
    lengths = down**2 + right**2
    return jnp.mean((lengths + _SMOOTH) ** (power / 2), (1, 2, 3))


def attack(
    key: Array, knowledge: SplitWhiteBox, config: Config = Config()
) -> Reconstruction:
    """Recovers the input of features by descent through the first half.

    Args:
      key: one key, or one a victim; it is consumed, though the method is deterministic.
      knowledge: features `[V, ...]`, and the first half.
      config: hyper-parameters.

    Returns:
      Images `[V, H, W, C]` in [0, 1]; `candidates` holds the one start.

    Raises:
      ValueError: if `steps` is negative, or the features are of another layer.
    """
    del key
    knowledge.check_shapes()
    v = knowledge.features

    def objective(x: Array) -> Array:
        errors = (knowledge.first(x) - v) ** 2
        distance = jnp.mean(errors.reshape(errors.shape[0], -1), 1)
        return distance + config.weight * variation(x, config.power)

    found = search.descend(
        search.gradient_of(objective),
        jnp.full((knowledge.victims, *knowledge.shape), config.start, jnp.float32),
        optax.amsgrad(config.learning_rate),
        steps=config.steps,
        project=lambda x: jnp.clip(x, 0.0, 1.0),
    )
    return choose(found.best[:, None], found.loss[:, None], found.trace[:, None])
