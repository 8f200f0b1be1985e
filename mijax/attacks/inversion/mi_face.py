"""MI-Face: descend to the image that the target is most confident about.

Fredrikson, Jha, Ristenpart (2015). From a start image,

    x <- Process(x - learning_rate * gradient of c),   c(x) = 1 - f_label(x),

and the image of least cost c is returned. With a `WhiteBox` the gradient is exact;
with `Scores` it is a central difference per pixel, `2 D + 1` queries a step and a
victim, and as many to judge the last image. With a
`Codec` the search runs in the target's own first layer and `process` in pixels
between (Process-DAE).

Departures from the paper: it stops early where the cost has not fallen for 100
iterations or is below a threshold; a compiled loop over many victims would save
nothing by that, so it runs `steps` iterations, which can only lower the cost that is
returned. Images are kept in [0, 1]. `learning_rate` is 10 where the paper's 0.1 needs
thousands of iterations to leave a uniform softmax; both are a number in `Config`.

References:
  Fredrikson, Jha, Ristenpart. Model inversion attacks that exploit confidence
  information and basic countermeasures. CCS 2015. doi:10.1145/2810103.2813677.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from mijax import core, search
from mijax.core import concrete, hyper_parameters, static
from mijax.knowledge import Scores, WhiteBox

_COUNTABLE = 2**31 - 1


def unprocessed(x: Array) -> Array:
    """The identity: what the paper does for softmax regression and the MLP."""
    return x


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      steps: iterations (the paper allows 5,000).
      process: applied to images `[V, *shape]` after each step.
      finish: applied to the images returned, after the search.
      learning_rate: see the departures.
      start: the pixel value of the first image, 0 in the paper.
      difference: half the distance between the two queries of a pixel, for `Scores`.
    """

    steps: int = static(default=500)
    process: Callable[[Array], Array] = static(default=unprocessed)
    finish: Callable[[Array], Array] = static(default=unprocessed)
    learning_rate: float | Array = 10.0
    start: float | Array = 0.0
    difference: float | Array = 0.05

    def __post_init__(self) -> None:
        """Refuses a difference that is none."""
        difference = concrete(self.difference)
        if difference is not None and not np.all(difference > 0):
            raise ValueError(
                f"difference is {self.difference}: it must be positive, such as 0.05."
            )


def attack(
    key: Array, knowledge: WhiteBox | Scores, config: Config = Config()
) -> core.Reconstruction:
    """Recovers the image that the target is most confident about, for each victim.

    Args:
      key: one key, or one a victim; it is consumed, though the method is
        deterministic.
      knowledge: what the adversary has; `labels` are `[V]`.
      config: hyper-parameters.

    Returns:
      Images `[V, *shape]` in [0, 1]; `candidates` holds the one restart.

    Raises:
      ValueError: if `steps` is negative, if `labels` are not `[V]`, or if there would
        be more queries than a counter holds.
    """
    del key
    knowledge.check_labels()
    if isinstance(knowledge, Scores):
        found, decode, queries = _with_scores(knowledge, config)
    else:
        found, decode, queries = _with_gradients(knowledge, config)
    images = config.finish(decode(found.best))
    return core.choose(
        images[:, None], found.loss[:, None], found.trace[:, None], queries
    )


def _with_gradients(knowledge: WhiteBox, config: Config) -> Any:
    target, codec = knowledge.target, knowledge.codec
    encode = codec.encode if codec else unprocessed
    decode = codec.decode if codec else unprocessed

    def objective(code: Array) -> Array:
        scores = jax.nn.softmax(target.predict(decode(code)).logits)
        return 1 - jnp.take_along_axis(scores, knowledge.labels[:, None], 1)[:, 0]

    def project(code: Array) -> Array:
        if codec and config.process is unprocessed:
            return code
        return encode(config.process(jnp.clip(decode(code), 0.0, 1.0)))

    shape = knowledge.labels.shape[0], *target.shape
    found = search.descend(
        search.gradient_of(objective),
        encode(jnp.full(shape, config.start, jnp.float32)),
        optax.sgd(config.learning_rate),
        steps=config.steps,
        project=project,
    )
    return found, decode, 0


def _with_scores(knowledge: Scores, config: Config) -> Any:
    victims, shape = knowledge.labels.shape[0], knowledge.shape
    queries = victims * (2 * math.prod(shape) + 1) * (config.steps + 1)
    if queries > _COUNTABLE:
        raise ValueError(
            f"The attack would ask {queries:,} queries, more than a counter holds: "
            "lower steps, or attack fewer victims at a time."
        )

    def decode(x: Array) -> Array:
        return x.reshape(-1, *shape)

    def cost(x: Array, asked: Scores) -> tuple[Array, Scores]:
        scores, asked = asked.query(decode(x))
        labels = jnp.repeat(knowledge.labels, x.shape[0] // victims)
        return 1 - jnp.take_along_axis(scores, labels[:, None], 1)[:, 0], asked

    found = search.descend(
        search.central_differences(cost, config.difference),
        jnp.full((victims, math.prod(shape)), config.start, jnp.float32),
        optax.sgd(config.learning_rate),
        steps=config.steps,
        project=lambda x: config.process(decode(jnp.clip(x, 0.0, 1.0))).reshape(
            x.shape
        ),
        aux=knowledge,
    )
    return found, decode, found.aux.spent - knowledge.spent
