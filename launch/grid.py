"""The algebra of sweeps: a sweep is a list of dictionaries of flags, and so is any mix.

def sweep():
    seeds = each("seed", range(5))
    small = product(each("gmi.steps", [100]), each("gmi.learning_rate", [0.1, 0.2]))
    large = product(each("gmi.steps", [1500]), each("gmi.learning_rate", [0.02]))
    return product(concatenation(small, large), seeds)
"""

import itertools
from collections.abc import Iterable
from typing import Any

Flags = dict[str, Any]
Sweep = list[Flags]


def each(name: str, values: Iterable[Any]) -> Sweep:
    """One run for each value of one flag."""
    return [{name: value} for value in values]


def product(*sweeps: Sweep) -> Sweep:
    """Every combination, the last sweep varying fastest.

    Raises:
      ValueError: if two sweeps set the same flag.
    """
    return [_joined(parts) for parts in itertools.product(*sweeps)]


def together(*sweeps: Sweep) -> Sweep:
    """The first of each sweep in one run, the second of each in the next (a zip).

    Raises:
      ValueError: if they differ in length, or two set the same flag.
    """
    lengths = [len(sweep) for sweep in sweeps]
    if len(set(lengths)) > 1:
        raise ValueError(f"sweeps of {lengths} runs cannot go together: give as many.")
    return [_joined(parts) for parts in zip(*sweeps, strict=True)]


def concatenation(*sweeps: Sweep) -> Sweep:
    """The runs of one sweep after those of another."""
    return list(itertools.chain(*sweeps))


def _joined(parts: Iterable[Flags]) -> Flags:
    joined: Flags = {}
    for part in parts:
        for name, value in part.items():
            if name in joined:
                raise ValueError(f"--{name} is set by two sweeps: leave it to one.")
            joined[name] = value
    return joined
