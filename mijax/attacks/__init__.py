"""Attacks, one file a method of the literature: each exports `Config` and `attack`.

    attack(key, knowledge, config=Config()) -> Reconstruction | Inference

The type of `knowledge` is the threat model. Nothing here may import metrics, data
sets, defenses or checkpoints: an attack that can measure its success can choose its
answer by it.
"""

from mijax.attacks.attributes import (
    approximate_inference,
    attribute_advantage,
    csmia,
    influence_game,
    lomia,
    map_inference,
    tree_inversion,
)
from mijax.attacks.federated import feature_leakage, participant_gan
from mijax.attacks.inversion import gmi, mi_face, ppa
from mijax.attacks.leakage import (
    cpl,
    dlg,
    ggl,
    grad_inversion,
    idlg,
    imprint,
    inverting_gradients,
    linear_leak,
)
from mijax.attacks.pipeline import (
    capacity_abuse,
    correlated_values,
    least_significant_bits,
    poisoned_regression,
    sign_encoding,
)
from mijax.attacks.properties import deep_sets

ALL = (
    # Inversion of a trained model.
    mi_face,
    gmi,
    ppa,
    # Gradient leakage.
    dlg,
    idlg,
    cpl,
    inverting_gradients,
    grad_inversion,
    ggl,
    linear_leak,
    imprint,
    # A seat in a federated training.
    participant_gan,
    feature_leakage,
    # Attribute inference.
    map_inference,
    tree_inversion,
    influence_game,
    poisoned_regression,
    attribute_advantage,
    approximate_inference,
    csmia,
    lomia,
    # Memorization by malicious training code.
    least_significant_bits,
    correlated_values,
    sign_encoding,
    capacity_abuse,
    # Properties of the training set.
    deep_sets,
)
