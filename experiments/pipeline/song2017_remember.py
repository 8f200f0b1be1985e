"""Models that remember too much: malicious training code hides images in a model.

Song, Ristenpart, Shmatikov. Machine learning models that remember too much. CCS 2017.
doi:10.1145/3133956.3134077. CIFAR-10: sign encoding of weight 50 gives an error (MAPE)
of 3.5 gray levels at 92.3 % accuracy (none: 92.9 %); quoted from memory.

    python -m experiments song2017_remember                 # 2 CPU cores, 4 min
    python -m experiments song2017_remember --preset=paper  # MNIST

Expected: least significant bits return every bit at no cost of accuracy up to 20 bits
per weight; strong sign encoding returns 98 % of the bits; weight 0 returns half.
Weights that are rounded to 3 bits of fraction (floats of 12 bits) lose the least
significant bits and nothing else.
"""

import dataclasses

from flax import linen as nn

from experiments.harness import flags
from experiments.studies import pipeline
from experiments.studies.pipeline import (
    Study,
    correlation,
    fine_tuning,
    labels,
    low_bits,
    signs,
    through,
)
from mijax.defenses.pruning import prune_layers
from mijax.defenses.quantization import stochastic
from mijax.defenses.released_weights import round_fraction
from mijax.models.mlp import MLP

QUICK = Study(
    title="Training images hidden in a model by its training code",
    dataset="mnist5k",
    network=lambda classes: MLP(classes, (256,), nn.relu),
    hidings={
        ("least significant bits", "8"): low_bits(8, 32),
        ("least significant bits", "20"): low_bits(20, 32),
        ("correlated values", "0"): correlation(0.0, 32),  # a null case
        ("correlated values", "1"): correlation(1.0, 32),
        ("correlated values", "10"): correlation(10.0, 32),
        ("sign encoding", "0"): signs(0.0, 32),  # a null case
        ("sign encoding", "50"): signs(50.0, 32),
        ("sign encoding", "500"): signs(500.0, 32),
        ("capacity abuse", "1 image"): labels(1),
        ("capacity abuse", "3 images"): labels(3),
    },
    defended=(
        ("least significant bits", "20"),
        ("correlated values", "1"),
        ("sign encoding", "500"),
        ("capacity abuse", "1 image"),
    ),
    defenses={
        **{
            ("bits of fraction", str(bits)): through(round_fraction(bits))
            for bits in (2, 3, 7, 11, 15)
        },
        **{
            ("share pruned", str(rate)): through(prune_layers(rate))
            for rate in (0.1, 0.3, 0.5, 0.7, 0.9)
        },
        **{
            ("quantization levels", str(levels)): through(stochastic(levels))
            for levels in (4, 16, 64)
        },
        **{
            ("steps of fine-tuning", str(steps)): fine_tuning(steps)
            for steps in (100, 500, 1500)
        },
    },
    differences=(
        "digits and a perceptron of 203,264 weights; the paper has CIFAR-10 and a "
        "ResNet of 460,000",
        "the payload is neither compressed nor encrypted",
        "sign encoding's penalty is a mean over the weights that carry the payload, so "
        "that its weights do not compare with the paper's",
    ),
)
PAPER = dataclasses.replace(QUICK, dataset="mnist", steps=6_000)
main = pipeline.main("song2017_remember", quick=QUICK, paper=PAPER)

if __name__ == "__main__":
    flags.run(main)
