"""Trainers: defenses that train another model in place of the undefended one.

Each file holds one trainer, a function of the file's name. Its arguments are, in this
order: the PRNG `key`, if it is random; the private records, `x [N, D]` (or `codes`);
their outcomes, `y [N]` or `labels [N]`, if it takes any; then what is public and how
strong the defense is. It returns what may be released: a model, or (of a histogram)
counts from which synthetic records are drawn. The file's docstring says what it
guarantees, if anything.
"""

from collections.abc import Callable
from typing import Any

from mijax.defenses.trainers import (
    feature_priority,
    functional_mechanism,
    mid_linear,
    mid_tree,
    objective_perturbation,
    private_histogram,
    purifier,
)

TRAINERS: tuple[Callable[..., Any], ...] = (
    functional_mechanism.functional_mechanism,
    objective_perturbation.objective_perturbation,
    private_histogram.private_histogram,
    mid_linear.mid_linear,
    mid_tree.mid_tree,
    feature_priority.feature_priority,
    purifier.purifier,
)
