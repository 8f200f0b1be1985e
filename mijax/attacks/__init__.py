"""Attacks, one file a method of the literature: each exports `Config` and `attack`.

    attack(key, knowledge, config=Config()) -> Reconstruction | Inference

The type of `knowledge` is the threat model. Nothing here may import metrics, data
sets, defenses or checkpoints: an attack that can measure its success can choose its
answer by it.
"""

from mijax.attacks import (
    approximate_inference,
    attribute_advantage,
    cpl,
    csmia,
    dlg,
    ggl,
    gmi,
    grad_inversion,
    idlg,
    imprint,
    influence_game,
    inverting_gradients,
    linear_leak,
    lomia,
    map_inference,
    mi_face,
    poisoned_regression,
    tree_inversion,
)

ALL = (
    # Inversion of a trained model.
    *(mi_face, gmi),
    # Gradient leakage.
    *(dlg, idlg, cpl, inverting_gradients, grad_inversion, ggl, linear_leak, imprint),
    # Attributes.
    *(map_inference, tree_inversion, influence_game, poisoned_regression),
    *(attribute_advantage, approximate_inference, csmia, lomia),
)
