"""Generalization against inversion: does who overfits give away more, and to whom?

The open issue of surveys of model inversion. Yeom et al. (CSF 2018, arXiv:1709.01604)
tie membership and attribute advantage to overfitting; Zhao et al. (EuroS&P 2021,
arXiv:2103.07101) find attribute inference infeasible where membership inference works.
Of recovering a class the literature says the opposite: accurate targets give it away.

    python -m experiments generalization                 # 2 CPU cores, 5 min
    python -m experiments generalization --preset=paper  # MNIST; a GPU

Expected: membership advantage and exposure rise with the generalization gap. The figure
has a point a target: perceptrons that differ in width, steps, weight decay, or data.
"""

import dataclasses

from experiments.harness import flags
from experiments.studies import generalization
from experiments.studies.generalization import Setting, Study
from mijax.attacks import informed_adversary

QUICK = Study(
    title="Generalization against inversion",
    dataset="mnist5k",
    axes={
        "width": (4, 8, 16),
        "steps": (10, 25, 200),
        "decay": (0.01, 0.1),
        "known": (25, 50, 200),
    },
    repeats=2,
    differences=(
        "the targets are small: 100 training records in the middle, 10 x 10 pixels",
        "a canary is noise with a random label, ranked among such noise by its loss: "
        "the measure of the secret sharer, on a classifier",
    ),
)
PAPER = dataclasses.replace(
    QUICK,
    dataset="mnist",
    base=Setting(width=128, known=1_000),
    axes={
        "width": (8, 32, 512, 2_048),
        "steps": (25, 50, 200, 400, 1_600),
        "decay": (0.0001, 0.001, 0.01, 0.1),
        "known": (100, 300, 3_000, 10_000),
    },
    repeats=5,
    canaries=100,
    candidates=8_192,
    victims=200,
    shadows=5_000,
    informed=informed_adversary.Config(steps=8_000),
)
main = generalization.main("generalization", quick=QUICK, paper=PAPER)

if __name__ == "__main__":
    flags.run(main)
