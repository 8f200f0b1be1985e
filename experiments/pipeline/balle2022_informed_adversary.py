"""Informed adversaries: the one training record that is not known, from the weights.

Balle, Cherubin, Hayes. Reconstructing training data with informed adversaries. IEEE
S&P 2022. arXiv:2201.04845. Their figure 1 shows digits recovered from a perceptron of
one hidden layer of 10 units, with 10,000 known records and 59,000 shadow models.

    python -m experiments balle2022_informed_adversary                 # 2 CPUs, 4 min
    python -m experiments balle2022_informed_adversary --preset=paper  # MNIST; a GPU

Expected: reconstructions have a fraction of the squared error of the mean image of the
record's class; those of models that another record trained have more than it.
"""

import dataclasses

from flax import linen as nn

from experiments.harness import flags
from experiments.studies import informed
from experiments.studies.informed import Study
from mijax.attacks import informed_adversary
from mijax.models.mlp import MLP

QUICK = Study(
    title="The one record that the adversary does not know",
    dataset="mnist5k",
    network=lambda classes: MLP(classes, (10,), nn.elu),
    config=informed_adversary.Config(widths=(512,)),
    differences=(
        "300 known records and 2,400 shadow models; the paper has 10,000 and 59,000",
        "full batches for 60 steps, from one initialization that is known",
    ),
)
PAPER = dataclasses.replace(
    QUICK,
    dataset="mnist",
    known=10_000,
    shadows=58_000,
    victims=800,
    steps=100,
    config=informed_adversary.Config(widths=(1000, 1000), steps=60_000, batch_size=128),
)
main = informed.main("balle2022_informed_adversary", quick=QUICK, paper=PAPER)

if __name__ == "__main__":
    flags.run(main)
