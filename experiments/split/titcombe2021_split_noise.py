"""Titcombe et al.: noise on what crosses a split network, and NoPeek.

Titcombe, Hall, Papadopoulos, Romanini. Practical defences against model inversion
attacks for split neural networks. 2021. arXiv:2104.05743. Accuracy .979 (noise of scale
.5, NoPeek .05) to .968 (1, .5); distance correlation of images and what is recovered
.945 (noise .1), .928 (noise 1), .748 (NoPeek .5), as its repository lists them.

    python -m experiments titcombe2021_split_noise                 # 2 CPU cores, 3 min
    python -m experiments titcombe2021_split_noise --preset=paper  # MNIST, for a GPU
"""

import dataclasses

from flax import linen as nn

from experiments.harness import flags
from experiments.harness import run as harness
from experiments.studies import split_defenses
from experiments.studies.classifiers import Classifier, evaluator
from experiments.studies.split_defenses import Setting, Study
from mijax import attacks
from mijax.core import chain
from mijax.defenses import feature_noise, nopeek
from mijax.models.cut import CutNetwork, flatten
from mijax.models.layers import Conv, max_pool

inverse_network = attacks.split_inverse_network


def noise(scale: float, *, trained: bool = True) -> Setting:
    """Laplace noise on what is sent, and in training too or not."""

    def make(key):
        return feature_noise.laplace_features(key, scale)

    return Setting(make if trained else None, make)


def dependence(weight: float, scale: float = 0.0) -> Setting:
    """NoPeek in training, perhaps with noise."""

    def sent(key):
        return feature_noise.laplace_features(key, scale)

    def trained(key):
        return chain(sent(key), nopeek.nopeek(weight))

    return Setting(trained, sent)


def dropped(rate: float) -> Setting:
    """Features dropped when sent (He et al. 2020)."""
    return Setting(None, lambda key: feature_noise.feature_dropout(key, rate))


def perceptron(classes: int) -> CutNetwork:
    """Layers of 256 and 64 units, cut after tanh."""
    names = ("flatten", "fc1", "relu1", "fc2", "tanh2", "logits")
    layers = (flatten, nn.Dense(256), nn.relu, nn.Dense(64), nn.tanh)
    return CutNetwork(names, (*layers, nn.Dense(classes)))


def convolutional(classes: int) -> CutNetwork:
    """The paper's: two convolutions and 500 units, cut after tanh; then 128."""
    layers = {
        "conv1": Conv(32, 3, padding="VALID"),
        "relu1": nn.relu,
        "conv2": Conv(64, 3, padding="VALID"),
        "relu2": nn.relu,
        "pool2": max_pool,
        "flatten": flatten,
        "fc1": nn.Dense(500),
        "tanh2": nn.tanh,
        "fc2": nn.Dense(128),
        "relu3": nn.relu,
        "logits": nn.Dense(classes),
    }
    return CutNetwork(tuple(layers), tuple(layers.values()))


QUICK = Study(
    title="Noise and NoPeek on what crosses a split network",
    dataset="mnist5k",
    target=Classifier(perceptron, steps=3000, learning_rate=1e-4),  # The paper's.
    layer="tanh2",
    judge=Classifier(evaluator, steps=1000),
    settings={
        "none": Setting(),
        "noise .5": noise(0.5),
        "noise 1": noise(1.0),
        "noise 1, afterwards only": noise(1.0, trained=False),
        "NoPeek .5": dependence(0.5),
        "dropout .5": dropped(0.5),
    },
    differences=(
        "5,000 digits and a perceptron of 256 and 64 units; the paper has 60,000 and "
        "convolutions",
        "the decoder is a perceptron, the paper's transposed convolutions",
        "distances are Euclidean, squared in the paper's code",
        "dropout of features is He, Zhang and Lee's (2020)",
    ),
)
PAPER = dataclasses.replace(
    QUICK,
    dataset="mnist",
    target=Classifier(convolutional, 3000, 128, 1e-4),
    judge=Classifier(evaluator, 3000, 128),
    settings={
        "none": Setting(),
        **{f"noise {scale:g}": noise(scale) for scale in (0.1, 0.2, 0.5, 1, 2, 5)},
        "noise 1, afterwards only": noise(1.0, trained=False),
        **{f"NoPeek {weight:g}": dependence(weight) for weight in (0.1, 0.5, 1)},
        "noise .5, NoPeek .1": dependence(0.1, 0.5),
        "noise 1, NoPeek .5": dependence(0.5, 1.0),
    },
    attack=inverse_network.Config(steps=20_000, batch_size=128),
    victims=2000,
)
main = harness.main(
    "titcombe2021_split_noise",
    quick={"digits": QUICK},
    paper={"digits": PAPER},
    measure=split_defenses.measure,
)

if __name__ == "__main__":
    flags.run(main)
