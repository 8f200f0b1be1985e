"""mijax: model-inversion attacks and defenses as small JAX functions.

The public face. An attack is `attack(key, knowledge, config)`, one module per method in
`mijax.attacks`. The type of the knowledge (`WhiteBox`, `Scores`, `SharedUpdate`, ...)
is the threat model. `Target` wraps a model, `Prior` a generator of public images, and a
`Defense` is what the model's owner does about it.
"""

from mijax import (
    attacks,
    core,
    defenses,
    federation,
    knowledge,
    priors,
    training,
)
from mijax.core import Inference, Prior, Reconstruction, Target
from mijax.defenses import Defense, chain
from mijax.federation import Recipe
from mijax.knowledge import (
    Labels,
    PartialRecord,
    Scores,
    SharedUpdate,
    WhiteBox,
)

__all__ = [
    "Defense",
    "Inference",
    "Labels",
    "PartialRecord",
    "Prior",
    "Recipe",
    "Reconstruction",
    "Scores",
    "SharedUpdate",
    "Target",
    "WhiteBox",
    "attacks",
    "chain",
    "core",
    "defenses",
    "federation",
    "knowledge",
    "priors",
    "training",
]
