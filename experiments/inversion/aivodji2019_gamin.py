"""Aivodji et al.: GAMIN, inversion by queries alone, with no image to start from.

Aivodji, Gambs, Ther. GAMIN: an adversarial approach to black-box model inversion. 2019.
arXiv:1909.11835. Digits that people recognize for up to .60 of the labels, from
convolutional targets.

    python -m experiments aivodji2019_gamin                 # 2 CPU cores, 4 min
    python -m experiments aivodji2019_gamin --preset=paper  # MNIST, for a GPU
"""

import dataclasses

from flax import linen as nn

from experiments.harness import flags
from experiments.harness import run as harness
from experiments.studies import surrogates
from experiments.studies.classifiers import Classifier, evaluator
from experiments.studies.surrogates import Study
from mijax.attacks import gamin
from mijax.models.lenet import LeNet
from mijax.models.mlp import MLP


def convolutional(classes: int) -> nn.Module:
    """A network of two convolutions."""
    return LeNet(classes, (32, 64), (5, 5), (True, True), (256,), "SAME")


QUICK = Study(
    title="Images that a target takes for a label, by queries alone",
    dataset="mnist5k",
    target=Classifier(lambda classes: MLP(classes, (256,), nn.relu)),
    judge=Classifier(evaluator),
    differences=(
        "5,000 digits and a perceptron as the target; the paper has 60,000 and several "
        "networks",
        "generator and surrogate are perceptrons, trained for a fixed number of steps",
        "people judge in the paper, here another network, the nearest real image and "
        "the class means",
    ),
)
PAPER = dataclasses.replace(
    QUICK,
    dataset="mnist",
    target=Classifier(convolutional, steps=10_000),
    judge=Classifier(evaluator, steps=10_000),
    attack=gamin.Config(surrogate=convolutional, steps=20_000, batch_size=64),
)
main = harness.main(
    "aivodji2019_gamin",
    quick={"digits": QUICK},
    paper={"digits": PAPER},
    measure=surrogates.measure,
)

if __name__ == "__main__":
    flags.run(main)
