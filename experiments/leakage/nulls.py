"""Null cases: knowledge that says nothing of the victim, so that nothing can be found.

In each of them another client shares what is attacked (`Clients.before`), labels and
statistics included, and the attack is judged by the victim as ever.
"""

import dataclasses

import jax
import jax.numpy as jnp

from mijax.knowledge import SharedUpdate


def others(knowledge: SharedUpdate) -> SharedUpdate:
    """All that the other client shared."""
    return knowledge


def zeros(knowledge: SharedUpdate) -> SharedUpdate:
    """Updates and statistics of nothing but zeros."""
    update, statistics = jax.tree.map(
        jnp.zeros_like, (knowledge.update, knowledge.statistics)
    )
    return dataclasses.replace(knowledge, update=update, statistics=statistics)


CHANGES = {"none": None, "others": others, "zeros": zeros}
