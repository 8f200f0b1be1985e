"""Which examples a client's local steps take, and how labels may lie in them."""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from mijax.knowledge import SharedUpdate


def size(knowledge: SharedUpdate) -> int:
    """Returns how many examples a client takes at once.

    Raises:
      ValueError: if that does not divide its batch.
    """
    recipe, batch = knowledge.recipe, knowledge.batch_size
    taken = (recipe.local_steps and recipe.local_batch) or batch
    if batch % taken:
        raise ValueError(
            f"local_batch is {taken}, which does not divide {batch}: attack as many "
            "examples as whole steps take."
        )
    return taken


def visits(knowledge: SharedUpdate) -> np.ndarray:
    """Returns how many steps take each example, `[B]`, most first.

    Raises:
      ValueError: if some are never taken: the update holds nothing of them.
    """
    taken, batch = size(knowledge), knowledge.batch_size
    steps = knowledge.recipe.local_steps or 1
    if steps * taken < batch:
        raise ValueError(
            f"{steps} local steps of {taken} take {steps * taken} of {batch} examples, "
            "and the others leave no trace: attack those that are taken, "
            f"batch_size={steps * taken}."
        )
    groups = batch // taken
    return np.repeat(-((np.arange(groups) - steps) // groups), taken)


def orders(knowledge: SharedUpdate, restarts: int) -> np.ndarray:
    """Returns every way to deal a batch to its local steps, `[N, B]`, of positions.

    Order within a step does not count.

    Raises:
      ValueError: if there are more ways than restarts to try them in.
    """
    taken, batch = size(knowledge), knowledge.batch_size
    ways = math.factorial(batch) // math.factorial(taken) ** (batch // taken)
    if ways > restarts:
        raise ValueError(
            f"labels are not known, and local steps of {taken} may take {batch} "
            f"examples in {ways} orders, but restarts is {restarts}: give the labels "
            f"in the client's order, or try all orders with restarts={ways} in an "
            "attack whose restarts are independent."
        )
    return np.array(list(_dealt(tuple(range(batch)), taken)))


def _dealt(positions: tuple[int, ...], taken: int) -> Iterator[tuple[int, ...]]:
    if not positions:
        yield ()
        return
    for first in itertools.combinations(positions, taken):
        rest = tuple(p for p in positions if p not in first)
        yield from (first + others for others in _dealt(rest, taken))
