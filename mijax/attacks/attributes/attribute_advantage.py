"""Membership reduction: the value with which a record looks trained on.

Yeom, Giacomelli, Fredrikson, Jha (2018). The reduction of attribute to membership
inference tries the candidates in the order of their prior and declares the first one
that a membership test accepts; if it accepts none, it declares nothing. A test sees the
model's error y - f(x_v):

- `within_deviation`: the error is at most the training deviation;
- `likelier_in_training`: the error is likelier under the training deviation than under
  that of the population.

The paper's other adversary weighs the prior by a normal of the error: that is MAP
inference with `error=normal(training deviation)`. What theory expects of membership
tests is in `known_deviations` and `unknown_deviation`.

Departures from the paper: a posterior is returned, the prior restricted to what the
test accepts; the guess is its mode, or -1. The authors' code tries candidates in the
opposite order of their prior.

References:
  Yeom et al. Privacy risk in machine learning: analyzing the connection to
  overfitting. CSF 2018. arXiv:1709.01604.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import erf

from mijax import core
from mijax.core import hyper_parameters, static
from mijax.knowledge import Asked, PartialRecord


def within_deviation(error: Array, training: Array, population: Array) -> Array:
    """Whether an error is at most the training deviation."""
    del population
    return jnp.abs(error) <= training


def likelier_in_training(error: Array, training: Array, population: Array) -> Array:
    """Whether an error is likelier under the training deviation."""

    def log_density(deviation: Array) -> Array:
        return -0.5 * (error / deviation) ** 2 - jnp.log(deviation)

    return log_density(training) > log_density(population)


@hyper_parameters
class Config:
    """What the adversary knows of the model's errors.

    Attributes:
      test: which errors are a member's.
      training: their deviation on training data, in the outcome's unit.
      population: their deviation elsewhere.
    """

    test: Callable[[Array, Array, Array], Array] = static(default=within_deviation)
    training: float | Array = 1.0
    population: float | Array = 2.0


def attack(
    key: Array, knowledge: PartialRecord, config: Config = Config()
) -> core.Inference:
    """Recovers the value of a missing field that makes a record look trained on.

    Args:
      key: the key is consumed; the method itself is deterministic.
      knowledge: a regression, with `outcome`.
      config: the test, and the deviations of errors.

    Returns:
      The prior of the values that the test accepts, `[V, S]`, and a guess of -1 where
      it accepts none; `V * K` queries.

    Raises:
      ValueError: if the outcome is missing, or the model is a classifier.
    """
    del key
    if knowledge.outcome is None or knowledge.oracle.num_classes != 1:
        raise ValueError(
            "The reduction needs a regression and each victim's outcome: pass "
            "PartialRecord(..., outcome=)."
        )
    training, population = map(jnp.asarray, (config.training, config.population))

    def read(asked: Asked) -> Array:
        error = asked.outcome - asked.answers[..., 0]
        accepted = config.test(error, training, population)
        joint = jnp.where(accepted, asked.log_prior, -jnp.inf)
        return knowledge.candidates.marginal(joint)

    log_joint, left = knowledge.query(read)
    queries = left.spent - knowledge.spent
    found = core.infer(log_joint, knowledge.log_prior, queries)
    accepted = jnp.any(jnp.isfinite(log_joint), 1)
    return dataclasses.replace(found, guess=jnp.where(accepted, found.guess, -1))


def known_deviations(ratio: Array) -> Array:
    """The advantage of `likelier_in_training`, if errors are normal.

    Args:
      ratio: of the population's deviation to that of training, above 1; any shape.
    """
    cut = jnp.sqrt(jnp.log(ratio) / (ratio**2 - 1))
    return erf(ratio * cut) - erf(cut)


def unknown_deviation(ratio: Array) -> Array:
    """The advantage of `within_deviation`, if errors are normal; as above."""
    root = jnp.sqrt(jnp.asarray(0.5))
    return erf(root) - erf(root / ratio)
