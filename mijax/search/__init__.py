"""Search engines, each written once and used by every attack."""

from mijax.search.descent import (
    SearchResult,
    central_differences,
    descend,
    gradient_of,
)
from mijax.search.evolution import Strategy, elite_gaussian, evolve
from mijax.search.lbfgs import lbfgs

__all__ = [
    "SearchResult",
    "Strategy",
    "central_differences",
    "descend",
    "elite_gaussian",
    "evolve",
    "gradient_of",
    "lbfgs",
]
