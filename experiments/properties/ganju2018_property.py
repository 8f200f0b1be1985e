"""What the weights of a network tell of its training set as a whole.

Ganju, Wang, Yang, Gunter, Borisov. Property inference attacks on fully connected neural
networks using permutation invariant representations. CCS 2018.
doi:10.1145/3243734.3243834. On the US census, whether women or men prevail: 97 % of the
models by DeepSets, 55 to 60 % by the weights as one vector; quoted from memory.

    python -m experiments ganju2018_property                 # 2 CPU cores, 4 min
    python -m experiments ganju2018_property --preset=paper  # MNIST

The networks tell even digits from odd ones. The property: 80 % of the training digits
have more ink than the median of their class, or 20 % have. It is independent of the
label.

Expected: DeepSets .62 of the models or more, and .08 more than the weights as one
vector; with shuffled properties half of them.
"""

import dataclasses

import numpy as np

from experiments.harness import flags
from experiments.studies import properties
from experiments.studies.properties import Study, more_ink
from mijax.attacks.properties.deep_sets import Config, DeepSets, Flat


def odd(labels: np.ndarray) -> np.ndarray:
    """The task: a digit's parity."""
    return labels % 2


QUICK = Study(
    title="Properties of a training set, read from the weights",
    dataset="mnist5k",
    size=14,
    task=odd,
    has_property=more_ink,
    shares=(0.2, 0.8),
    widths=(32, 16),
    shadows=1_000,
    released=200,
    examples=1_000,
    steps=300,
    batch_size=64,
    methods={
        "DeepSets": Config(DeepSets()),
        "flat": Config(Flat()),
        "flat, ordered": Config(Flat(ordered=True)),
    },
    differences=(
        "digits and their ink; the paper has the census, faces and hardware counters",
        "networks of 196-32-16-2 units",
    ),
)
PAPER = dataclasses.replace(QUICK, dataset="mnist", examples=5_000, steps=1_000)
main = properties.main("ganju2018_property", quick=QUICK, paper=PAPER)

if __name__ == "__main__":
    flags.run(main)
