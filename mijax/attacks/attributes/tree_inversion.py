"""Decision-tree inversion: a missing field from a tree and who took its paths.

Fredrikson, Jha, Ristenpart (2015). The white-box adversary holds the paths of a tree
and how many training examples took each. With p_i the share of path i, S the paths that
the known fields allow, and phi_i(v) whether path i allows value v,

    Pr[v] proportional to P(v) * sum_{i in S} p_i phi_i(v) / sum_j p_j phi_j(v).

Where the outcome y is known, p_i in the numerator is the share of examples that took
path i and had y. The black-box adversary, who holds the confusion matrix C and no
paths, ranks values by C[y, f(x_v)] P(v), which is MAP inference; C is how often f(x_v)
is predicted where y is true (`confusion`). Read the other way (`reliability`) it finds
more.

Departures from the paper: its formula leaves the outcome out, which makes the attack
worse than the mode on some data; both are here, by whether the knowledge has an
outcome. Several unknown fields are summed out, as in MAP inference.

References:
  Fredrikson, Jha, Ristenpart. Model inversion attacks that exploit confidence
  information and basic countermeasures. CCS 2015. doi:10.1145/2810103.2813677.
"""

import jax
import jax.numpy as jnp
from jax import Array

from mijax import core
from mijax.attacks.attributes import map_inference
from mijax.core import Paths, pytree
from mijax.knowledge import PartialRecord

_BOXES = 2**14  # records x paths compared at a time; changes no result


@pytree
class Config:
    """The method has no hyper-parameters: all numbers are knowledge."""


def attack(
    key: Array, knowledge: PartialRecord, config: Config = Config()
) -> core.Inference:
    """Recovers the value of a missing field from the paths or answers of a tree.

    Args:
      key: the key is consumed; the method itself is deterministic.
      knowledge: with `paths`, white-box: no query, and an `outcome` may be missing.
        Without, black-box: needs `outcome` and `error`, a `confusion` matrix.
      config: none.

    Returns:
      The posterior of the sensitive values, `[V, S]`.

    Raises:
      ValueError: if what the adversary needs is missing.
    """
    if knowledge.paths is None:
        return map_inference.attack(key, knowledge)
    paths, candidates = knowledge.paths, knowledge.candidates
    columns = candidates.columns
    if paths.low.shape[1] != knowledge.record.shape[1]:
        raise ValueError(
            f"The paths are of {paths.low.shape[1]} columns but records have "
            f"{knowledge.record.shape[1]}: take them of the same model."
        )
    knowledge.check_shapes()
    share = paths.counts / jnp.sum(paths.counts)  # [P, classes]
    allows = _inside(  # phi, [K, P]
        Paths(paths.low[:, columns], paths.high[:, columns], paths.counts),
        candidates.encodings,
    )
    known = Paths(
        paths.low.at[:, columns].set(-jnp.inf),
        paths.high.at[:, columns].set(jnp.inf),
        paths.counts,
    )
    expected = allows @ jnp.sum(share, 1)  # [K]

    def some(rows: tuple[Array, Array | None]) -> Array:
        records, outcome = rows
        weight = jnp.sum(share, 1)[None] if outcome is None else share[:, outcome].T
        reached = (_inside(known, records) * weight) @ allows.T  # [B, K]
        return jnp.log(reached) - jnp.log(expected)[None]

    rows = knowledge.known, knowledge.outcome
    evidence = core.in_chunks(some, rows, max(1, _BOXES // len(paths.low)))
    prior = jnp.atleast_2d(jax.nn.log_softmax(candidates.log_prior))
    log_joint = candidates.marginal((prior + evidence).T).T
    return core.infer(log_joint, knowledge.log_prior)


def _inside(paths: Paths, x: Array) -> Array:
    """Whether each row of `x [B, d]` takes each path, `[B, P]` of 0 and 1."""
    above = x[:, None] > paths.low[None]
    return jnp.all(above & (x[:, None] <= paths.high[None]), -1).astype(jnp.float32)
