"""Zhao X. et al.: what explanations add to confidences for a decoder.

Zhao, Zhang, Xiao, Lim. Exploiting explanations for model inversion attacks. ICCV 2021.
arXiv:2104.12669. The paper's numbers of MNIST could not be checked.

    python -m experiments zhao2021x_explanations                 # 2 CPU cores, 3 min
    python -m experiments zhao2021x_explanations --preset=paper  # MNIST, for a GPU
"""

import dataclasses

from flax import linen as nn

from experiments.harness import flags
from experiments.harness import run as harness
from experiments.studies import decoding
from experiments.studies.classifiers import Classifier, evaluator
from experiments.studies.decoding import Release, Study
from mijax.attacks import inverse_network
from mijax.knowledge.explained import gradient, gradient_times_input
from mijax.models.mlp import MLP

QUICK = Study(
    title="What explanations add to confidences",
    data=decoding.digits,
    target=Classifier(lambda classes: MLP(classes, (128,), nn.relu)),
    judge=Classifier(evaluator),
    releases={
        "confidences": Release(),
        "and gradient": Release(explain=gradient),
        "and gradient x input": Release(explain=gradient_times_input),
        "null: and another model's gradient x input": Release(
            explain=gradient_times_input, foreign=True
        ),
    },
    reduced="same",
    differences=(
        "5,000 digits and perceptrons; the paper has CelebA, iCV-MEFED and MNIST",
        "one decoder of confidences and the flat map, not the paper's U-Net",
        "targets that explain nothing are not attacked by attention transfer",
    ),
)
PAPER = dataclasses.replace(
    QUICK,
    target=dataclasses.replace(QUICK.target, steps=5000),
    judge=dataclasses.replace(QUICK.judge, steps=5000),
    attack=inverse_network.Config(steps=50_000, batch_size=128),
    victims=2000,
)
main = harness.main(
    "zhao2021x_explanations",
    quick={"digits": QUICK},
    paper={"digits": PAPER},
    measure=decoding.measure,
)

if __name__ == "__main__":
    flags.run(main)
