"""Attack models: what is learned of a field from the model's behavior.

- `lomia`: Mehnaz et al. 2022. Where exactly one value makes the model right, it is
  taken to be the person's; boosted trees learn the value of the others from those.
- `learned score:2`: boosted trees learn the field of members from all that an adversary
  knows, what the model released of them included; members out of fold.
- `neurons`: Jayaraman and Evans 2022; what the neurons of a network add to an
  imputation. Members are judged by the neurons of the other half of them, others by
  those of one half.

Departure from Mehnaz et al.: their attack model is an ensemble of a hosted service.

References:
  Mehnaz et al. Are your sensitive attributes private? USENIX Security 2022.
  arXiv:2201.09370.
  Jayaraman, Evans. Are attribute inference attacks just imputation? CCS 2022.
  arXiv:2209.01292.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mijax.attacks import neuron_inference
from mijax.audit import rows
from mijax.audit.adversaries import Answers
from mijax.audit.models import Model, activations
from mijax.audit.rows import Frame
from mijax.evaluation import imputation

_MOST = 20_000  # records from which an attack model learns
_COMPLETE = 5_000  # records by which neurons are chosen
_READ = neuron_inference.Config().neurons
_scores = jax.jit(neuron_inference.scores, static_argnames="neurons")


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
    with imputation.one_thread():
        model = imputation.boosting(seed).fit(known[one[some]], value[some])
        beliefs[:, model.classes_] = model.predict_proba(known)
    beliefs[one] = right[one]
    return beliefs


def neurons(
    model: Model,
    frame: Frame,
    sides: tuple[NDArray[np.intp], NDArray[np.intp]],
    columns: Sequence[str],
    unknown: Sequence[str],
    examples: NDArray[np.intp],
    codes: NDArray[np.intp],
    prior: tuple[NDArray[np.float64], NDArray[np.float64]],
    batch: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Beliefs in the values, `[V, S]`, of members and of others.

    Args:
      model: a network.
      frame: all rows, as read.
      sides: rows of members and of others.
      columns: that the network is given.
      unknown: the column that is overwritten.
      examples: a row that has each candidate, `[S, 1]`.
      codes: of all rows, `[N]`.
      prior: beliefs without the network.
      batch: how many rows it is asked about at a time.
      seed: of the records by which neurons are chosen.
    """

    def seen(people: NDArray[np.intp], example: NDArray[np.intp]) -> NDArray:
        parts = []
        for some in np.array_split(people, -(-len(people) // batch)):
            given = rows.take(frame, some, columns)
            for name, row in zip(unknown, example, strict=True):
                if name in columns:
                    where = np.full(len(some), row)
                    given = rows.overwritten(given, name, frame, where)
            parts.append(activations(model, given))
        return np.concatenate(parts)

    members, others = sides
    order = np.random.default_rng(seed).permutation(len(members))
    halves = order[::2], order[1::2]
    beliefs = np.zeros((len(members), len(examples))), np.zeros_like(prior[1])
    for value, example in enumerate(examples):
        inside, outside = seen(members, example), seen(others, example)
        has = codes[members] == value

        def score(known: NDArray, asked: NDArray, inside=inside, has=has) -> NDArray:
            known = known[:_COMPLETE]
            said = _scores(
                jnp.asarray(inside[known]), has[known], jnp.asarray(asked), _READ
            )
            return np.asarray(said, np.float64)

        beliefs[1][:, value] = score(order[::2], outside)
        for known, asked in (halves, halves[::-1]):
            beliefs[0][asked, value] = score(known, inside[asked])
    found = []
    for score_of, share in zip(beliefs, prior, strict=True):
        joint = score_of * share
        found.append(joint / np.maximum(joint.sum(1, keepdims=True), 1e-300))
    return found[0], found[1]
