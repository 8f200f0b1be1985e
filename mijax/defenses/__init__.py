"""Defenses: what changes at each place where a model meets its data.

A defense is a `Defense`; `chain` composes them, as `optax.chain` does, and `chain()`
is no defense. Each file holds one family; its docstring says what it guarantees. What
trains another model altogether is a trainer: see `mijax.defenses.trainers`.
"""

from mijax.core.defense import Defense, Objective, chain

__all__ = ["Defense", "Objective", "chain"]
