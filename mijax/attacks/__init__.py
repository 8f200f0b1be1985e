"""Attacks, one file a method of the literature: each exports `Config` and `attack`.

    attack(key, knowledge, config=Config()) -> Reconstruction

The type of `knowledge` is the threat model. Nothing here may import metrics, data
sets, defenses or checkpoints: an attack that can measure its success can choose its
answer by it.
"""

from mijax.attacks import (
    cpl,
    dlg,
    ggl,
    gmi,
    grad_inversion,
    idlg,
    imprint,
    inverting_gradients,
    linear_leak,
    mi_face,
)

ALL = (
    mi_face,
    gmi,
    dlg,
    idlg,
    cpl,
    inverting_gradients,
    grad_inversion,
    linear_leak,
    imprint,
    ggl,
)
