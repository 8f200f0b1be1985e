"""Attacks, one file a method of the literature: each exports `Config` and `attack`.

    attack(key, knowledge, config=Config()) -> Reconstruction | Inference

The type of `knowledge` is the threat model. Nothing here may import metrics, data
sets, defenses or checkpoints: an attack that can measure its success can choose its
answer by it.
"""

from mijax.attacks import (
    approximate_inference,
    attribute_advantage,
    csmia,
    gmi,
    influence_game,
    lomia,
    map_inference,
    mi_face,
    poisoned_regression,
    tree_inversion,
)

ALL = (
    *(mi_face, gmi),
    # Attributes.
    *(map_inference, tree_inversion, influence_game, poisoned_regression),
    *(attribute_advantage, approximate_inference, csmia, lomia),
)
