"""A participant of collaborative learning generates a class that only others have.

Hitaj, Ateniese, Perez-Cruz. Deep models under the GAN: information leakage from
collaborative deep learning. CCS 2017. arXiv:1702.07464. The paper shows pictures: of
MNIST, where two participants have five digits each, and of AT&T's faces, where each of
41 participants has one person.

    python -m experiments hitaj2017_participant_gan                 # 2 CPU cores, 5 min
    python -m experiments hitaj2017_participant_gan --preset=paper  # MNIST, 28x28

Expected: samples twice as near to private images as those of the same generator
without feedback, and alike to the class's mean (correlation .5 to .6; without feedback
.1). Where no one has the class the samples are almost black. That is near to any digit,
so the distance alone is no evidence: see them, and the correlation. Neither the upload
of a tenth of the changes nor these bounds and this noise stop the attack.
"""

import dataclasses

from experiments.harness import flags
from experiments.studies import federated
from experiments.studies.federated import Setting, Study
from mijax.attacks import participant_gan
from mijax.core import chain
from mijax.defenses import clipping, noise
from mijax.federation import Recipe, Selective
from mijax.models.lenet import LeNet


def client_level(norm: float, deviation: float) -> Setting:
    """Each client's change is clipped, and has noise."""
    return Setting(chain(clipping.clip_update(norm), noise.gaussian(deviation)))


QUICK = Study(
    title="What a participant generates of others' images",
    dataset="mnist5k",
    size=14,
    network=lambda classes: LeNet(
        classes, (8, 16), (3, 3), (True, True), (64,), "SAME"
    ),
    shares=((0, 1, 2, 3, 4),),
    own=(5, 6, 7, 8, 9),
    wanted=3,
    recipe=Recipe(local_steps=20, local_batch=32, learning_rate=0.05),
    batch_size=640,
    attack=participant_gan.Config(),
    settings={
        "no defense": Setting(),
        "no one has it": Setting(present=False),  # a null case
        "16 injected": Setting(injected=16),
        "upload .1": Setting(exchange=Selective(upload=0.1)),
        "clip 1, noise .003": client_level(1.0, 0.003),
        "clip 1, noise .03": client_level(1.0, 0.03),
    },
    differences=(
        "perceptron as generator and Adam; the paper has a DCGAN and SGD",
        "the paper judges by eye; it has no numbers to compare with",
        "participants act in parallel, the server takes the mean",
    ),
)
PAPER = dataclasses.replace(QUICK, dataset="mnist", size=28)
main = federated.main("hitaj2017_participant_gan", quick=QUICK, paper={"digits": PAPER})

if __name__ == "__main__":
    flags.run(main)
