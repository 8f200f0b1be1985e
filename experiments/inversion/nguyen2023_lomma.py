"""LOMMA: logit loss and distilled students, each added to GMI's search in turn.

Nguyen, Chandrasegaran, Abdollahzadeh, Cheung. Re-thinking model inversion attacks
against deep neural networks. CVPR 2023. arXiv:2304.01669. CelebA, IR152: GMI 30.6 %
top-1, with both changes 82.4 (as cited in the literature, not checked in the PDF).

    python -m experiments nguyen2023_lomma                  # digits, 2 CPU cores, 6 min
    python -m experiments nguyen2023_lomma --kind=faces     # 10 min
    python -m experiments nguyen2023_lomma --kind=fine_tuned  # the demo's target
    python -m experiments nguyen2023_lomma --preset=paper   # the paper's steps
"""

import dataclasses

from experiments.harness import flags
from experiments.inversion import struppek2022_ppa, zhang2020_gmi
from experiments.studies import inversion
from experiments.studies.inversion import Attack, Study
from experiments.studies.targets import CasiaHead, Model
from mijax.attacks import gmi, lomma
from mijax.attacks.inversion import losses
from mijax.models.lenet import mcnn, scnn
from mijax.models.resnet import resnet18
from mijax.models.vgg import VGG16


def attacks(
    steps: int, restarts: int, rate: float, students: tuple[Model, ...]
) -> dict[str, Attack]:
    """GMI, GMI with the logit loss, and LOMMA with students."""
    base = gmi.Config(steps=steps, restarts=restarts, learning_rate=rate)
    return {
        "lomma": Attack(
            lomma,
            lomma.Config(steps=steps, restarts=restarts, learning_rate=rate),
            students=students,
        ),
        "gmi_cross_entropy": Attack(gmi, base),
        "gmi_logit": Attack(gmi, dataclasses.replace(base, identity_loss=losses.logit)),
    }


def _study(study: Study, which: dict[str, Attack]) -> Study:
    return zhang2020_gmi.variant(
        study,
        "LOMMA",
        which,
        "students are small networks of other designs; the paper distills "
        "EfficientNets B0, B1 and B2 for 20 epochs",
    )


_DIGITS = (
    Model(lambda classes: scnn(classes, 8), steps=300, learning_rate=0.01),
    Model(lambda classes: mcnn(classes, 8), steps=300, learning_rate=0.01),
)
_FACES = (
    Model(
        lambda classes: resnet18(classes, 16, small_images=False),
        steps=300,
        learning_rate=0.05,
    ),
)
_LARGE = (
    Model(resnet18, steps=6000, learning_rate=0.01),
    Model(VGG16, steps=6000, learning_rate=0.01),
)
DIGITS = _study(zhang2020_gmi.DIGITS, attacks(300, 1, 0.02, _DIGITS))
FACES = _study(zhang2020_gmi.FEW_FACES, attacks(100, 1, 0.1, _FACES))
# Model augmentation by a public network of other data, beside PPA with none.
_PPA = struppek2022_ppa.DIRECT.attacks["ppa"]
FINE_TUNED = dataclasses.replace(
    struppek2022_ppa.DIRECT,
    title="PPA with LOMMA's model augmentation",
    attacks={
        "ppa_casia": dataclasses.replace(_PPA, students=(CasiaHead(),)),
        "ppa": _PPA,
    },
)

if __name__ == "__main__":
    flags.run(
        inversion.main(
            "nguyen2023_lomma",
            quick={"digits": DIGITS, "faces": FACES, "fine_tuned": FINE_TUNED},
            paper={
                "digits": _study(
                    zhang2020_gmi.PAPER_DIGITS, attacks(2400, 5, 0.02, _DIGITS)
                ),
                "faces": _study(zhang2020_gmi.PAPER, attacks(2400, 5, 0.02, _LARGE)),
            },
        )
    )
