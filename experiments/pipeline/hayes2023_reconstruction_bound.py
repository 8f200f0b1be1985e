"""The reconstruction bound: what DP-SGD leaves to an adversary who knows all else.

Hayes, Mahloujifar, Balle. Bounding training data reconstruction in DP-SGD. NeurIPS
2023. arXiv:2302.07225. Their figures show the bound and the success of the prior-aware
attack over epsilon, close together.

    python -m experiments hayes2023_reconstruction_bound                 # 2 CPUs, 6 min
    python -m experiments hayes2023_reconstruction_bound --preset=paper  # MNIST; a GPU

Expected: success rises with epsilon from a guess to certainty, at no point above the
bound; with another sampling probability the same epsilon has another bound.
"""

import dataclasses

from experiments.harness import flags
from experiments.studies import reconstruction_bound
from experiments.studies.reconstruction_bound import Study
from mijax.models.mlp import MLP, SoftmaxRegression

QUICK = Study(
    title="The success of any reconstruction, and its bound",
    dataset="mnist5k",
    network=lambda classes: SoftmaxRegression(classes),
    differences=(
        "a softmax regression of 14 x 14 pixels and 300 known records; the paper has a "
        "perceptron of MNIST with about 1,000, and CIFAR-10",
        "the exact posterior of the candidates in place of a sum of inner products",
        "the bound is evaluated by the accountant; the paper estimates it by sampling",
    ),
)
PAPER = dataclasses.replace(
    QUICK,
    dataset="mnist",
    network=lambda classes: MLP(classes, (10,)),
    side=28,
    known=1_000,
    trials=1_000,
    updates=100,
    samplings=(1.0, 0.1, 0.02),
    epsilons=(1.0, 2.0, 4.0, 10.0, 20.0, 50.0, 100.0),
)
main = reconstruction_bound.main(
    "hayes2023_reconstruction_bound", quick=QUICK, paper=PAPER
)

if __name__ == "__main__":
    flags.run(main)
