"""Linear models: ridge regression and multinomial logistic regression.

Letters: N records, D columns, O outputs (1 of a regression, else one a class).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array, lax

from mijax.core import AffineFirst, Target, pytree


@pytree
class Affine:
    """An affine function of a record.

    Attributes:
      weights: `[D, O]`.
      bias: `[O]`.
    """

    weights: Array
    bias: Array


def predict(model: Affine, x: Array) -> Array:
    """Returns `[N, O]` of records `[N, D]`."""
    return x @ model.weights + model.bias[None]


def _released(model: Affine, h: Array) -> Array:
    del model
    return h


def target(model: Affine) -> Target:
    """Makes a target; the completions of one record share its product."""
    shape = (model.weights.shape[0],)
    return Target.from_function(AffineFirst(predict, _released), model, shape)


def ridge(x: Array, y: Array, penalty: float | Array = 0.0) -> Affine:
    """Least squares with a penalty, of which the bias is free.

    Minimizes `mean (y - w x - b)^2 + penalty |w|^2`. Without a penalty collinear
    columns, such as those of a one-hot field, get the least weights.

    Args:
      x: `[N, D]`.
      y: `[N]`.
      penalty: 0 or more.
    """
    center, mean = jnp.mean(x, 0), jnp.mean(y)
    width = x.shape[1]
    pull = jnp.sqrt(penalty * x.shape[0]) * jnp.eye(width)
    rows = jnp.concatenate([x - center[None], pull])
    aims = jnp.concatenate([y - mean, jnp.zeros(width)])
    weights = jnp.linalg.lstsq(rows, aims)[0]
    return Affine(weights[:, None], (mean - center @ weights)[None])


def logistic(
    x: Array,
    labels: Array,
    num_classes: int,
    penalty: float | Array = 1e-4,
    steps: int = 100,
) -> Affine:
    """Multinomial logistic regression, by L-BFGS.

    Minimizes the mean cross-entropy plus `penalty |w|^2 / 2`; the bias is free.

    Args:
      x: `[N, D]`.
      labels: `[N]` int32.
      num_classes: O.
      penalty: more than 0, so that there is one minimum.
      steps: of L-BFGS.
    """

    def loss(model: Affine) -> Array:
        errors = optax.softmax_cross_entropy_with_integer_labels(
            predict(model, x), labels
        )
        return jnp.mean(errors) + 0.5 * penalty * jnp.sum(model.weights**2)

    start = Affine(jnp.zeros((x.shape[1], num_classes)), jnp.zeros(num_classes))
    return minimum(loss, start, steps)


def minimum(loss: Callable[[Affine], Array], start: Affine, steps: int) -> Affine:
    """Minimizes a smooth loss of a linear model by L-BFGS."""
    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def body(carry: Any, _: None) -> tuple[Any, None]:
        model, state = carry
        value, gradient = value_and_grad(model, state=state)
        updates, state = optimizer.update(
            gradient, state, model, value=value, grad=gradient, value_fn=loss
        )
        return (optax.apply_updates(model, updates), state), None

    params: Any = start
    (model, _), _ = lax.scan(body, (params, optimizer.init(params)), length=steps)
    return model
