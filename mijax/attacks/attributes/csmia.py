"""CSMIA: of the values that make the model right, the one that it is surest of.

Mehnaz, Dibbo, Kabir, Li, Bertino (2022), the confidence-score attack. The model is
asked about each candidate value. Let c(v) say how often it then predicts the victim's
true outcome.

1. One value has the largest c(v): that value.
2. Several have it: of those, the value with the most confidence in the outcome.
3. The model is never right: the value with the least confidence in what it predicts.

Where other fields are unknown too, c(v) and the confidences are sums over their
completions. Ties are broken at random. The method ignores the prior.

Departures from the paper: it gives a guess; here the values that its three cases leave
share the posterior by their confidences, so that the likeliest is that guess. In case
3 a value's share is by how much its confidence falls short of the completions' number.

References:
  Mehnaz et al. Are your sensitive attributes private? Novel model inversion attribute
  inference attacks on classification models. USENIX Security 2022. arXiv:2201.09370.
"""

import jax.numpy as jnp
from jax import Array

from mijax import core
from mijax.core import pytree
from mijax.knowledge import Asked, PartialRecord


@pytree
class Config:
    """The method has no hyper-parameters."""


def attack(
    key: Array, knowledge: PartialRecord, config: Config = Config()
) -> core.Inference:
    """Recovers the value of a missing field from confidences and the true outcome.

    Args:
      key: breaks ties; the key is consumed.
      knowledge: needs `outcome`, each victim's true class; an oracle of confidences.
      config: none.

    Returns:
      Shares of the sensitive values, `[V, S]`; `V * K` queries.

    Raises:
      ValueError: if the outcome is missing, or the model is a regression.
    """
    del config
    if knowledge.outcome is None or knowledge.oracle.num_classes < 2:
        raise ValueError(
            "CSMIA needs a classifier and each victim's true class: pass "
            "PartialRecord(..., outcome=)."
        )
    combine = knowledge.candidates.combine

    def read(asked: Asked) -> Array:
        right = jnp.argmax(asked.answers, -1) == asked.outcome  # [K, B]
        confidence = jnp.max(asked.answers, -1)
        often = combine(right.astype(jnp.float32))  # c(v), [S, B]
        sure = combine(jnp.where(right, confidence, 0.0))
        unsure = combine(1.0 - confidence)
        best = jnp.max(often, 0, keepdims=True)
        return jnp.where(best > 0, jnp.where(often == best, sure, 0.0), unsure)

    share, left = knowledge.query(read)
    # Sure of every value, the model tells them not apart.
    share = jnp.where(jnp.max(share, 1, keepdims=True) > 0, share, 1.0)
    queries = left.spent - knowledge.spent
    return core.infer(jnp.log(share), knowledge.log_prior, queries, key)
