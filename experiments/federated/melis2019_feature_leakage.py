"""A participant of federated learning infers properties of others' batches.

Melis, Song, De Cristofaro, Shmatikov. Exploiting unintended feature leakage in
collaborative learning. S&P 2019. arXiv:1805.04049. On faces, race while the task is
gender: an AUC of 1.0 with two participants, falling as there are more; quoted from
memory.

    python -m experiments melis2019_feature_leakage                 # 2 CPU cores, 3 min
    python -m experiments melis2019_feature_leakage --preset=paper  # MNIST

The task is the digit; the property, that a digit has more ink than 70 % of its class.
It is independent of the label.

Expected: an AUC of .95 or more with one client, less with more of them and where less
of the batch has the property; .5 by the labels alone and with shuffled properties.
"""

import dataclasses

import numpy as np
from flax import linen as nn

from experiments.harness import flags
from experiments.studies import federated_properties
from experiments.studies.federated_properties import Study
from mijax.attacks import feature_leakage
from mijax.federation import Recipe
from mijax.models.mlp import MLP


def heavy(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether a digit has more ink than 70 % of its class."""
    ink = images.reshape(len(images), -1).mean(1)
    limits = {c: np.quantile(ink[labels == c], 0.7) for c in np.unique(labels)}
    return ink > np.array([limits[c] for c in labels])


QUICK = Study(
    title="Properties of others' batches in a federated training",
    dataset="mnist5k",
    network=lambda classes: MLP(classes, (128,), nn.relu),
    has_property=heavy,
    property_name="heavy ink",
    clients=(1, 4, 9),
    shares=(1.0, 0.5),
    every=5,
    recipe=Recipe(learning_rate=0.1),
    batch_size=32,
    attack=feature_leakage.Config(rounds=400),
    differences=(
        "digits and their ink; the paper has faces, reviews and check-ins",
        "the adversary shares nothing of its own",
    ),
)
PAPER = dataclasses.replace(
    QUICK,
    dataset="mnist",
    clients=(1, 4, 9, 29),
    attack=feature_leakage.Config(rounds=3_000),
)
main = federated_properties.main("melis2019_feature_leakage", quick=QUICK, paper=PAPER)

if __name__ == "__main__":
    flags.run(main)
