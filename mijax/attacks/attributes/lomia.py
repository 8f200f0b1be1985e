"""LOMIA: a model of the missing field, trained where the predicted label betrays it.

Mehnaz, Dibbo, Kabir, Li, Bertino (2022), the label-only attack. The model is asked
about each candidate value of each record.

1. Records of which exactly one value makes the model predict the true outcome ("case
   1") are taken to have that value.
2. An attack model is trained on them: the known fields and the outcome in, the value
   out.
3. It infers the value of the other records; with `keep_case_one`, those of case 1 keep
   theirs (the paper reports both).

Departures from the paper: the attack model is an ensemble of a hosted service there; it
is one small network here, trained on all case-1 records at every step. Fields are
standardized over the victims' records. Where no record is of case 1 nothing was
learned, and the posterior is the prior.

References:
  Mehnaz et al. Are your sensitive attributes private? Novel model inversion attribute
  inference attacks on classification models. USENIX Security 2022. arXiv:2201.09370.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from mijax import core, search
from mijax.core import hyper_parameters, static
from mijax.knowledge import Asked, PartialRecord
from mijax.models.mlp import MLP


@hyper_parameters
class Config:
    """Hyper-parameters of the attack model.

    Attributes:
      steps: of Adam, over all records of case 1.
      width: hidden units.
      keep_case_one: whether records of case 1 keep the value that was read off.
      learning_rate: Adam's.
      weight_decay: Adam's, decoupled.
    """

    steps: int = static(default=300)
    width: int = static(default=32)
    keep_case_one: bool = static(default=True)
    learning_rate: float | Array = 0.01
    weight_decay: float | Array = 0.01


def attack(
    key: Array, knowledge: PartialRecord, config: Config = Config()
) -> core.Inference:
    """Recovers the value of a missing field from predicted labels and true outcomes.

    Args:
      key: initializes the attack model and breaks ties; the key is consumed.
      knowledge: needs `outcome`, each victim's true class; an oracle of labels does.
      config: hyper-parameters.

    Returns:
      The attack model's posterior of the sensitive values, `[V, S]`; `V * K` queries.

    Raises:
      ValueError: if the outcome is missing, or the model is a regression.
    """
    classes, outcome = knowledge.oracle.num_classes, knowledge.outcome
    if outcome is None or classes < 2:
        raise ValueError(
            "LOMIA needs a classifier and each victim's true class: pass "
            "PartialRecord(..., outcome=)."
        )
    values = knowledge.num_values

    def read(asked: Asked) -> Array:
        right = jnp.argmax(asked.answers, -1) == asked.outcome
        return knowledge.candidates.combine(
            right.astype(jnp.int32), jax.ops.segment_max
        )

    right, left = knowledge.query(read)  # [V, S] of 0 and 1
    case_one = (jnp.sum(right, 1) == 1)[:, None]
    known = knowledge.known
    spread = jnp.std(known, 0, keepdims=True)
    known = (known - jnp.mean(known, 0, keepdims=True)) / jnp.maximum(spread, 1e-6)
    features = jnp.concatenate([known, jax.nn.one_hot(outcome, classes)], 1)

    network = MLP(values, (config.width,), jax.nn.relu)

    def logits(variables: Any) -> Array:
        prediction: Any = network.apply(variables, features)
        return prediction.logits

    init_key, tie_key = jax.random.split(key)

    def loss(variables: Any) -> Array:
        each = optax.softmax_cross_entropy(logits(variables), right.astype(jnp.float32))
        return jnp.mean(each, where=case_one[:, 0])

    found = search.descend(
        search.gradient_of(loss),
        network.init(init_key, features[:1]),
        optax.adamw(config.learning_rate, weight_decay=config.weight_decay),
        steps=config.steps,
    )
    inferred = jax.nn.log_softmax(logits(found.best))
    if config.keep_case_one:
        inferred = jnp.where(case_one, jnp.log(right), inferred)
    log_prior = knowledge.log_prior
    log_joint = jnp.where(jnp.any(case_one), inferred, log_prior)
    return core.infer(log_joint, log_prior, left.spent - knowledge.spent, tie_key)
