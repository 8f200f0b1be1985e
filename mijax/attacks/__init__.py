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
    neuron_inference,
    tree_inversion,
)
from mijax.attacks.federated import feature_leakage, mgan_ai, participant_gan
from mijax.attacks.inversion import (
    explanation,
    gamin,
    gmi,
    inverse_network,
    ked_mi,
    lomma,
    mi_face,
    plg_mi,
    ppa,
    template_inversion,
)
from mijax.attacks.leakage import (
    bayes_optimal,
    cpl,
    dlg,
    ggl,
    grad_inversion,
    idlg,
    imprint,
    inverting_gradients,
    learning_to_invert,
    linear_leak,
    order_invariant,
)
from mijax.attacks.pipeline import (
    capacity_abuse,
    correlated_values,
    exposure,
    informed_adversary,
    least_significant_bits,
    poisoned_regression,
    prior_aware,
    sign_encoding,
)
from mijax.attacks.properties import deep_sets
from mijax.attacks.split import inverse_network as split_inverse_network
from mijax.attacks.split import query_free, regularized_mle
from mijax.attacks.updates import cbm_gan, updates_leak

ALL = (
    # Inversion of a trained model.
    mi_face,
    gmi,
    ked_mi,
    lomma,
    ppa,
    template_inversion,
    gamin,
    plg_mi,
    inverse_network,
    explanation,
    # Gradient leakage.
    dlg,
    idlg,
    cpl,
    inverting_gradients,
    order_invariant,
    grad_inversion,
    ggl,
    bayes_optimal,
    linear_leak,
    learning_to_invert,
    imprint,
    # A seat in a federated training.
    participant_gan,
    feature_leakage,
    mgan_ai,
    # Attribute inference.
    map_inference,
    tree_inversion,
    influence_game,
    poisoned_regression,
    attribute_advantage,
    approximate_inference,
    csmia,
    lomia,
    neuron_inference,
    # Inversion of what crosses a split network.
    regularized_mle,
    split_inverse_network,
    query_free,
    # Data of an online update.
    updates_leak,
    cbm_gan,
    # Memorization by malicious training code.
    least_significant_bits,
    correlated_values,
    sign_encoding,
    capacity_abuse,
    # Properties of the training set.
    deep_sets,
    # Unintended memorization.
    exposure,
    informed_adversary,
    prior_aware,
)
