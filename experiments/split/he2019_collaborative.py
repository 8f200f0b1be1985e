"""He et al.: images from the features that cross a split network.

He, Zhang, Lee. Model inversion attacks against collaborative inference. ACSAC 2019.
doi:10.1145/3359789.3359824. Tables 3, 4 and 6: PSNR and SSIM by layer and adversary.

    python -m experiments he2019_collaborative                  # 2 CPU cores, 8 min
    python -m experiments he2019_collaborative --kind=cifar     # CIFAR-10
    python -m experiments he2019_collaborative --preset=paper   # MNIST, for a GPU
    python -m experiments he2019_collaborative --preset=paper --kind=cifar

Expected of the first after relu2: white box 22.6 dB, queries of the same distribution
21.4, query-free 13.1, queries of noise 6.6; the mean image 11.9.
"""

import dataclasses

from flax import linen as nn

from experiments.harness import flags
from experiments.harness import run as harness
from experiments.studies import split
from experiments.studies.classifiers import Classifier
from experiments.studies.split import Study, World
from mijax import attacks
from mijax.attacks import query_free, regularized_mle
from mijax.models import cut
from mijax.models.decoders import MapDecoder
from mijax.models.layers import Conv

inverse_network = attacks.split_inverse_network


def two_convolutions(world: World) -> nn.Module:
    """Another shadow: two 3x3 convolutions in place of the first of 5x5."""
    stop = world.module.names.index(world.layer) + 1
    first = world.module.layers[0]
    assert isinstance(first, Conv)
    own = tuple(Conv(first.features, 3, padding=first.padding) for _ in range(2))
    return cut.Half((own[0], nn.relu, own[1], *world.module.layers[1:stop]))


def adversaries(config: query_free.Config, decoders: dict) -> dict:
    """The paper's; `config` is of the query-free ones, `decoders` by layer."""
    return {
        "white box": split.white_box,
        "queries, same set": split.queries(split.same_set, decoders),
        "queries, same distribution": split.queries(split.same_distribution, decoders),
        "queries, noise": split.queries(split.gaussian, decoders),
        "query-free, same network": split.no_query(
            lambda world: world.others, split.same_network, config
        ),
        "query-free, other network": split.no_query(
            lambda world: world.others, two_convolutions, config
        ),
    }


def _table(cells: dict[str, tuple[str, ...]]) -> dict[tuple[str, str, str], float]:
    """Reads "PSNR/SSIM" cells of (adversary -> one a layer)."""
    found = {}
    for adversary, row in cells.items():
        for cell in row:
            layer, psnr, ssim = cell.split("/")
            found[adversary, layer, "psnr"] = float(psnr)
            found[adversary, layer, "ssim"] = float(ssim)
    return found


MNIST = _table(
    {
        "white box": ("conv1/39.69/.9969", "relu2/15.10/.5998"),
        "queries, same set": ("conv1/39.64/.9887", "relu2/20.35/.7334"),
        "queries, same distribution": ("conv1/40.72/.9950", "relu2/20.81/.8046"),
        "queries, noise": ("conv1/14.76/.7188", "relu2/7.72/.4310"),
        "query-free, same network": ("conv1/21.53/.9121", "relu2/9.27/.4652"),
        "query-free, other network": ("conv1/17.86/.6952", "relu2/8.03/.3226"),
    }
)
CIFAR = _table(
    {
        "white box": ("conv11/37.59/.9960", "relu22/19.47/.6940", "relu32/13.38/.1625"),
        "queries, same set": (
            "conv11/49.88/.9993",
            "relu22/19.81/.6939",
            "relu32/15.42/.3124",
        ),
        "queries, same distribution": (
            "conv11/49.02/.9992",
            "relu22/19.36/.6802",
            "relu32/13.95/.2196",
        ),
        "queries, noise": (
            "conv11/48.59/.9996",
            "relu22/12.79/.2930",
            "relu32/12.37/.0440",
        ),
        "query-free, same network": (
            "conv11/21.45/.9145",
            "relu22/11.51/.1723",
            "relu32/11.98/.0102",
        ),
        "query-free, other network": (
            "conv11/13.06/.1553",
            "relu22/11.30/.0467",
            "relu32/11.47/.0793",
        ),
    }
)


def cifar_network(classes: int) -> cut.CutNetwork:
    """The paper's network of CIFAR-10: six convolutions."""
    return cut.lenet(classes, ((64, 64), (128, 128), (128, 128)), (1024,), 3, "SAME")


def narrow_network(classes: int) -> cut.CutNetwork:
    """An eighth as wide."""
    return cut.lenet(classes, ((8, 8), (16, 16), (16, 16)), (128,), 3, "SAME")


def decoders(steps: int, **networks) -> dict:
    """The authors' transposed convolutions by layer, trained for some steps."""
    return {
        layer: inverse_network.Config(network, steps, learning_rate=1e-2)
        for layer, network in networks.items()
    }


def digit_decoders(steps: int) -> dict:
    """Those of digits; margins make up for convolutions that were not padded."""
    return decoders(
        steps,
        conv1=lambda shape: MapDecoder(shape, (), (1,), margins=(2,)),
        relu2=lambda shape: MapDecoder(shape, (8,), (1, 2), margins=(2, 1)),
    ) | {"fc1": inverse_network.Config(steps=steps)}


def object_decoders(steps: int, width: int) -> dict:
    """Those of CIFAR-10."""
    return decoders(
        steps,
        conv11=lambda shape: MapDecoder(shape, (), (1,), 3),
        relu22=lambda shape: MapDecoder(shape, (width,), (2, 1), 3),
        relu32=lambda shape: MapDecoder(shape, (2 * width, width), (2, 2, 1), 3),
    )


SHALLOW = regularized_mle.Config(steps=500, learning_rate=1e-2)
DEEP = regularized_mle.Config(steps=1000, learning_rate=1e-2)
QUICK = Study(
    title="Images from the features that cross a split network",
    dataset="mnist5k",
    target=Classifier(cut.lenet),
    searches={"conv1": SHALLOW, "relu2": DEEP, "fc1": DEEP},
    adversaries=adversaries(query_free.Config(steps=600), digit_decoders(3000)),
    shown="relu2",
    differences=(
        "5,000 digits; the paper has 60,000, and its adversaries' sets are as large",
        "the decoder after fc1 is a perceptron of 512 units",
        "rMLE's terms are means, and the weight of its total variation is chosen on "
        "eight images of the adversary's own among 0, 0.01, 0.1 and 1",
        "images are in [0, 1] and kept there",
        "the paper's query-free rows are those whose adversary has other images than "
        "the training set's",
    ),
    published=MNIST,
)
PAPER = dataclasses.replace(
    QUICK,
    dataset="mnist",
    searches={
        "conv1": SHALLOW,
        "relu2": regularized_mle.Config(steps=5000, learning_rate=1e-3),
        "fc1": regularized_mle.Config(steps=5000, learning_rate=1e-3),
    },
    adversaries=adversaries(query_free.Config(steps=20_000), digit_decoders(40_000)),
    victims=64,
    test_fraction=1 / 7,
    target=Classifier(cut.lenet, steps=10_000),
)
# The paper's images, with training and searches that two cores can do.
ALL_DIGITS = dataclasses.replace(
    PAPER,
    searches={"conv1": SHALLOW, "relu2": DEEP},
    adversaries=adversaries(query_free.Config(steps=4000), digit_decoders(8000)),
    victims=16,
    target=Classifier(cut.lenet, steps=4000),
    differences=QUICK.differences[2:],
)
PAPER_CIFAR = dataclasses.replace(
    PAPER,
    dataset="cifar10_jpeg75",
    target=Classifier(cifar_network, steps=10_000),
    searches={
        "conv11": SHALLOW,
        "relu22": regularized_mle.Config(steps=5000, learning_rate=1e-3),
        "relu32": regularized_mle.Config(steps=5000, learning_rate=1e-3),
    },
    adversaries=adversaries(
        query_free.Config(steps=20_000), object_decoders(40_000, 64)
    ),
    shown="relu22",
    published=CIFAR,
    differences=(
        "CIFAR-10 as JPEGs of quality 75: no number compares with the paper's exactly",
        *QUICK.differences[2:],
    ),
)
QUICK_CIFAR = dataclasses.replace(
    PAPER_CIFAR,
    target=Classifier(narrow_network, steps=1500),
    searches={"conv11": SHALLOW, "relu22": SHALLOW, "relu32": SHALLOW},
    adversaries=adversaries(query_free.Config(steps=1000), object_decoders(2000, 8)),
    victims=8,
    images=8000,
    test_fraction=0.4,
    differences=(
        "8,000 images, a network an eighth as wide, and searches of 500 steps",
        *PAPER_CIFAR.differences,
    ),
)
main = harness.main(
    "he2019_collaborative",
    quick={"mnist": QUICK, "cifar": QUICK_CIFAR, "all_digits": ALL_DIGITS},
    paper={"mnist": PAPER, "cifar": PAPER_CIFAR},
    measure=split.measure,
)

if __name__ == "__main__":
    flags.run(main)
