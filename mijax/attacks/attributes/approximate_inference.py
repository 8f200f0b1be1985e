"""AI and AAI: attribute inference from membership scores, exact and approximate.

Zhao, Agrawal, Coburn, Asghar, Bhaskar, Kaafar, Webb, Dickinson (2021). Every completion
of a record is scored by how much it looks like a member, and

- AI guesses the completion of the largest score, ties broken at random;
- AAI, with a `radius`, guesses the one around which the posterior has most mass.

The paper's point is that this fails even where membership inference succeeds, because
membership inference fails against non-members nearby ("strong" membership inference,
at distance r). That is an experiment and no attack: score records and their
`neighbors` at each distance with the same `membership` function, and compare.

Departures from the paper: it lets any membership attack score, shadow models included;
here the score is a function of one answer. The posterior is the softmax of the score,
in nats, and the prior; the paper's prior is uniform. AAI is described by what counts as
success; the guess that is best for it is made here.

References:
  Zhao et al. On the (in)feasibility of attribute inference attacks on machine learning
  models. EuroS&P 2021. arXiv:2103.07101.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from mijax import core
from mijax.core import hyper_parameters, static
from mijax.knowledge import Asked, PartialRecord

_MOST = 4096  # candidates whose distances are held at once
_TINY = 1e-38


def confidence_of_outcome(answers: Array, outcome: Array) -> Array:
    """The logarithm of the confidence in the true class."""
    confidence = jnp.take_along_axis(answers, outcome[..., None], -1)[..., 0]
    return jnp.log(jnp.maximum(confidence, _TINY))


def confidence(answers: Array, outcome: Array | None) -> Array:
    """The logarithm of the largest confidence; needs no outcome."""
    del outcome
    return jnp.log(jnp.maximum(jnp.max(answers, -1), _TINY))


def negative_entropy(answers: Array, outcome: Array | None) -> Array:
    """How far the confidences are from undecided, in nats; needs no outcome."""
    del outcome
    return jnp.sum(jax.scipy.special.xlogy(answers, answers), -1)


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      membership: `(answers [K, B, C], outcome [1, B]) -> [K, B]`, higher for members.
      radius: None for AI; for AAI, the distance within which a guess counts, the sum
        of absolute differences of the sensitive field's columns.
      temperature: divides the score.
    """

    membership: Callable[[Array, Array], Array] = static(default=confidence_of_outcome)
    radius: float | Array | None = None
    temperature: float | Array = 1.0


def attack(
    key: Array, knowledge: PartialRecord, config: Config = Config()
) -> core.Inference:
    """Recovers the completion of a record that looks most like a member.

    Args:
      key: breaks ties; the key is consumed.
      knowledge: an oracle of confidences; with `outcome`, unless the score needs none.
      config: the score, and the radius of AAI.

    Returns:
      The posterior of the sensitive values, `[V, S]`; `V * K` queries.

    Raises:
      ValueError: if the score needs an outcome that is missing, or AAI is asked of too
        many candidates or of candidates of more than one field.
    """
    candidates, scored = knowledge.candidates, config.membership
    if knowledge.outcome is None and scored is confidence_of_outcome:
        raise ValueError(
            "The confidence in the outcome needs each victim's: pass "
            "PartialRecord(..., outcome=), or another `membership`."
        )
    if knowledge.oracle.num_classes < 2:
        raise ValueError("Membership scores are of confidences: give a classifier.")

    def read(asked: Asked) -> Array:
        score = scored(asked.answers, asked.outcome) / config.temperature  # [K, B]
        best = jnp.max(score, 0, keepdims=True)
        return candidates.marginal(asked.log_prior + (score - best))

    log_joint, left = knowledge.query(read)
    queries = left.spent - knowledge.spent
    found = core.infer(log_joint, knowledge.log_prior, queries, key)
    if config.radius is None:
        return found
    size = candidates.encodings.shape[0]
    if candidates.value is not None or size > _MOST:
        raise ValueError(
            f"AAI measures distances between {size:,} candidates: give one field's, at "
            f"most {_MOST:,}."
        )
    apart = candidates.encodings[:, None] - candidates.encodings[None]
    near = jnp.sum(jnp.abs(apart), -1) <= config.radius  # [K, K]
    mass = jnp.exp(found.log_posterior) @ near.astype(jnp.float32)
    guess = core.infer(jnp.log(mass), knowledge.log_prior, queries, key).guess
    return dataclasses.replace(found, guess=guess)


def neighbors(key: Array, x: Array, distance: int) -> Array:
    """Returns records at that Hamming distance from binary records `x [B, D]`.

    The key is consumed.

    Raises:
      ValueError: if the distance is not 0 to D.
    """
    if not 0 <= distance <= x.shape[1]:
        raise ValueError(f"distance is {distance}: it must be 0 to {x.shape[1]}.")
    order = jnp.argsort(jax.random.uniform(key, x.shape), 1)
    return jnp.where(jnp.argsort(order, 1) < distance, 1 - x, x)
