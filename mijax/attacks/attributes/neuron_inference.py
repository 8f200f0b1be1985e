"""Neuron inference: the value to which a network's neurons respond.

Jayaraman and Evans (2022), the white-box attack. The adversary holds the weights and
some complete records. For each value of the sensitive field,

1. all records, complete ones and victims, are given that value;
2. the neurons whose activations correlate most with whether a complete record really
   has it, rising or falling, are chosen, 10 in the paper;
3. each of their activations is replaced by its quantile among the complete records, and
   a victim's score is their average, weighted by the correlations. A neuron that falls
   with the value is read with its sign turned.

The score times the prior is the belief: with an imputation as the prior, this is the
paper's WB.IP; with a uniform one, WB.

Departures from the paper: it takes neurons that rise with the value alone, so that a
lone one that falls says nothing; where no neuron correlates, a value's score is 1/2.
The neurons are the penultimate layer and the logits unless the knowledge names others;
the paper takes all layers.

References:
  Jayaraman, Evans. Are attribute inference attacks just imputation? CCS 2022.
  arXiv:2209.01292.
"""

import jax
import jax.numpy as jnp
from jax import Array

from mijax import core
from mijax.core import hyper_parameters, static
from mijax.knowledge import WhiteBoxRecord

_TINY = 1e-6


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      neurons: how many are read for each value.
    """

    neurons: int = static(default=10)

    def __post_init__(self) -> None:
        """Raises ValueError if no neuron is read."""
        if self.neurons < 1:
            raise ValueError(f"neurons is {self.neurons}: at least one must be read.")


def attack(
    key: Array, knowledge: WhiteBoxRecord, config: Config = Config()
) -> core.Inference:
    """Recovers the value of a missing field from the weights and complete records.

    Args:
      key: breaks ties; the key is consumed.
      knowledge: one missing field.
      config: hyper-parameters.

    Returns:
      The posterior of the sensitive values, `[V, S]`; no query.
    """
    candidates = knowledge.candidates
    prior = jnp.atleast_2d(jax.nn.log_softmax(candidates.log_prior))

    def score(value: Array, encoding: Array) -> Array:
        complete, victims = (
            knowledge.activations(
                x.at[:, candidates.columns].set(
                    jnp.broadcast_to(encoding, (x.shape[0], *encoding.shape))
                )
            )
            for x in (knowledge.complete, knowledge.record)
        )
        return scores(complete, knowledge.value == value, victims, config.neurons)

    values = jnp.arange(candidates.encodings.shape[0])
    found = jax.lax.map(lambda each: score(*each), (values, candidates.encodings)).T
    return core.infer(jnp.log(found) + prior, prior, key=key)


def scores(complete: Array, has: Array, victims: Array, neurons: int) -> Array:
    """How much victims' neurons respond as those of records with a value, `[V]`.

    Args:
      complete: activations of complete records, `[N, M]`.
      has: whether each has the value, `[N]`.
      victims: activations of the victims, `[V, M]`.
      neurons: how many of them are read.
    """
    has = jnp.asarray(has, jnp.float32) - jnp.mean(jnp.asarray(has, jnp.float32))
    centered = complete - jnp.mean(complete, 0, keepdims=True)
    norm = jnp.linalg.norm(centered, axis=0) * jnp.linalg.norm(has)
    correlation = jnp.where(norm > _TINY, has @ centered / jnp.maximum(norm, _TINY), 0)
    count = min(neurons, complete.shape[1])
    weight, top = jax.lax.top_k(jnp.abs(correlation), count)
    sign = jnp.sign(correlation[None, top])

    def quantile(known: Array, asked: Array) -> Array:
        known = jnp.sort(known)
        below = jnp.searchsorted(known, asked) + jnp.searchsorted(
            known, asked, side="right"
        )
        return below / (2 * known.shape[0])

    known, asked = sign * complete[:, top], sign * victims[:, top]
    response = jax.vmap(quantile, 1, 1)(known, asked) @ weight
    total = jnp.sum(weight)
    average = response / jnp.maximum(total, _TINY)
    return jnp.maximum(jnp.where(total > _TINY, average, 0.5), _TINY)
