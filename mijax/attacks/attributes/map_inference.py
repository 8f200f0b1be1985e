"""MAP inference: which value of a missing field explains the outcome best.

Fredrikson, Lantz, Jha, Lin, Page, Ristenpart (2014), algorithm A_pi. Of every
completion x' of a record, with y the outcome and p the prior of what is unknown,

    score(x') = error(y | f(x')) * p(x'),

and the sensitive value whose completions have the largest sum of scores is guessed.
The error is a normal of the model's root mean squared error, or a confusion matrix.

Departures from the paper: sums and products are of logarithms; the posterior of all
values is returned, not the guess alone; the prior may be conditional, such as an
imputation's from the known fields, or joint, where the paper has independent
marginals. Ties are broken by the order of the candidates.

References:
  Fredrikson et al. Privacy in pharmacogenetics: an end-to-end case study of
  personalized warfarin dosing. USENIX Security 2014.
  https://www.usenix.org/conference/usenixsecurity14/technical-sessions/presentation/fredrikson_matthew
"""

import jax.numpy as jnp
from jax import Array

from mijax import core
from mijax.core import pytree
from mijax.knowledge import Asked, PartialRecord


@pytree
class Config:
    """The method has no hyper-parameters: all numbers are knowledge."""


def attack(
    key: Array, knowledge: PartialRecord, config: Config = Config()
) -> core.Inference:
    """Recovers the value of a missing field from the rest of a record and its outcome.

    Args:
      key: the key is consumed; the method itself is deterministic.
      knowledge: needs `outcome` and `error`.
      config: none.

    Returns:
      The posterior of the sensitive values, `[V, S]`; `V * K` queries.

    Raises:
      ValueError: if the outcome or the error model is missing.
    """
    del key, config
    error = knowledge.error
    if error is None or knowledge.outcome is None:
        raise ValueError(
            "MAP inference needs each victim's outcome and the model's error: pass "
            "PartialRecord(..., outcome=, error=normal(rmse) or confusion(matrix))."
        )

    def read(asked: Asked) -> Array:
        evidence = error(asked.answers, asked.outcome)  # [K, B]
        # Relative to the best, so that no evidence is exactly none.
        best = jnp.max(evidence, 0, keepdims=True)
        relative = evidence - jnp.where(jnp.isfinite(best), best, 0.0)
        return knowledge.candidates.marginal(asked.log_prior + relative)

    log_joint, left = knowledge.query(read)
    return core.infer(log_joint, knowledge.log_prior, left.spent - knowledge.spent)
