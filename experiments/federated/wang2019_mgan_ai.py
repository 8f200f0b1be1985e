"""A server of federated learning generates one client's data, told from the others'.

Wang, Song, Zhang, Song, Wang, Qi. Beyond inferring class representatives: user-level
privacy leakage from federated learning. INFOCOM 2019. arXiv:1812.00535. Digits and
AT&T's faces with 10 clients; pictures and an Inception score, quoted from memory.

    python -m experiments wang2019_mgan_ai                 # 2 CPU cores, 4 min
    python -m experiments wang2019_mgan_ai --kind=faces    # AT&T, who it is
    python -m experiments wang2019_mgan_ai --preset=paper  # MNIST, 28x28, 10 clients

The victim's images are turned by 90 degrees, those of the other clients are upright.

Expected: batches of 4 come back almost exactly, labels included, and the discriminator
tells real images of the victim from the others'. The samples are crude: saturated, one
picture a class; more of them are turned than without the identity, and how many differs
from GAN to GAN. Under secure aggregation nothing comes back.
"""

import dataclasses

import numpy as np
from flax import linen as nn

from experiments.harness import flags
from experiments.studies import user_level
from experiments.studies.federations import ClientLevel
from experiments.studies.user_level import Setting, Study
from mijax.attacks import mgan_ai
from mijax.defenses import pruning
from mijax.federation import Recipe
from mijax.models.lenet import LeNet
from mijax.models.mlp import MLP


def turned(images: np.ndarray) -> np.ndarray:
    """The victim's style."""
    return np.ascontiguousarray(np.rot90(images, 1, (1, 2)))


QUICK = Study(
    title="What a server generates of one client's images",
    dataset="mnist5k",
    size=14,
    network=lambda classes: MLP(classes, (64,), nn.sigmoid),
    recipe=Recipe(learning_rate=0.5),
    batch_size=4,
    clients=5,
    style=turned,
    style_name="turned by 90 degrees",
    judge=lambda classes: LeNet(classes, (16, 32), (3, 3), (True, True), (64,), "SAME"),
    training=1_500,
    attack=mgan_ai.Config(),
    settings={
        "passive": Setting(),
        "victim isolated": Setting(isolated=True),
        "victim of noise alone": Setting(noise=True),
        "secure aggregation": Setting(summed=True),
        "upload a tenth": Setting(defense=pruning.prune(0.9)),
        "clip 1, noise .003": Setting(level=ClientLevel(1.0, 0.003)),
        "clip 1, noise .03": Setting(level=ClientLevel(1.0, 0.03)),
        "clip 1, noise .3": Setting(level=ClientLevel(1.0, 0.3)),
    },
    differences=(
        "a perceptron of sigmoids as the shared model, and one as generator",
        "upright and turned digits; the paper's clients differ in other ways",
        "no public images: the discriminator's real images are the representatives",
    ),
)
PAPER = dataclasses.replace(QUICK, dataset="mnist", size=28, clients=10)
FACES = dataclasses.replace(
    QUICK,
    dataset="att_faces",
    size=32,
    settings={
        name: QUICK.settings[name]
        for name in (
            "passive",
            "victim isolated",
            "victim of noise alone",
            "secure aggregation",
        )
    },
    differences=(
        QUICK.differences[0],
        "faces at 32x32, 64 a client, upright and turned; the paper's clients differ "
        "in other ways",
        QUICK.differences[2],
    ),
)
main = user_level.main(
    "wang2019_mgan_ai",
    quick={"digits": QUICK, "faces": FACES},
    paper={"digits": PAPER},
)

if __name__ == "__main__":
    flags.run(main)
