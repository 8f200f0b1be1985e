"""Attack models: what is learned of a field from the model's behavior.

- `lomia`: Mehnaz et al. 2022. Where exactly one value makes the model right, it is
  taken to be the person's; boosted trees learn the value of the others from those.
- `learned`: boosted trees learn the field of members from all that an adversary knows,
  what the model released of them included, and name it of others; members out of fold.

Departure from Mehnaz et al.: their attack model is an ensemble of a hosted service.

References:
  Mehnaz et al. Are your sensitive attributes private? USENIX Security 2022.
  arXiv:2201.09370.
"""

import numpy as np
from numpy.typing import NDArray

from mijax.audit.adversaries import Answers
from mijax.evaluation import imputation

_MOST = 20_000  # records from which an attack model learns


def lomia(
    answers: Answers, known: NDArray[np.float64], prior: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Beliefs in the values, `[V, S]`; the prior's where no value betrays itself.

    Args:
      answers: of a classifier.
      known: what is known of each person, the outcome included, `[V, D]`.
      prior: `[V, S]`.
      seed: of the attack model.
    """
    values = prior.shape[1]
    right = answers.label == answers.outcome[:, None]
    right = right.reshape(len(right), values, -1).any(2)
    one = np.flatnonzero(right.sum(1) == 1)
    value = right[one].argmax(1)
    present = np.unique(value)
    if not len(one):
        return prior
    beliefs = np.zeros(prior.shape)
    if len(present) < 2:
        beliefs[:, present[0]] = 1.0
        return beliefs
    some = np.random.default_rng(seed).permutation(len(one))[:_MOST]
    with imputation.threads(len(known)):
        model = imputation.boosting(seed).fit(known[one[some]], value[some])
        beliefs[:, model.classes_] = model.predict_proba(known)
    beliefs[one] = right[one]
    return beliefs
