"""Secure aggregation: the server sees the sum of its clients' updates, and no other.

References:
  Bonawitz et al. Practical secure aggregation for privacy-preserving machine learning.
  CCS 2017. doi:10.1145/3133956.3133982.
"""

import dataclasses

import jax
import jax.numpy as jnp

from mijax.knowledge.shared_update import SharedUpdate


def securely_summed(knowledge: SharedUpdate) -> SharedUpdate:
    """Returns what is left of V clients' updates: their mean, as one client's.

    The mean of V gradients of B examples each is the gradient of one client with all
    V * B of them. Of changes of the weights after local steps that is no client's
    exactly, and the recipe describes it the less, the farther the clients went.
    Statistics of batches and similar images are dropped.
    """
    labels = knowledge.labels
    return dataclasses.replace(
        knowledge,
        update=jax.tree.map(lambda leaf: jnp.mean(leaf, 0)[None], knowledge.update),
        batch_size=knowledge.victims * knowledge.batch_size,
        labels=None if labels is None else labels.reshape(1, -1),
        statistics=None,
        similar=None,
    )
