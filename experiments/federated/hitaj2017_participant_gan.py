"""A participant of collaborative learning generates a class that only others have.

Hitaj, Ateniese, Perez-Cruz. Deep models under the GAN: information leakage from
collaborative deep learning. CCS 2017. arXiv:1702.07464. The paper shows pictures: of
MNIST, where two participants have five digits each, and of AT&T's faces, where each of
41 participants has one person.

    python -m experiments hitaj2017_participant_gan                 # 2 CPU cores, 5 min
    python -m experiments hitaj2017_participant_gan --preset=paper  # MNIST, 28x28
    python -m experiments hitaj2017_participant_gan --kind=faces    # AT&T, 41 take part

Expected: samples twice as near to private images as those of the same generator
without feedback, and alike to the class's mean (correlation .5 to .6; without feedback
.1). Where no one has the class the samples are almost black. That is near to any digit,
so the distance alone is no evidence: see them, and the correlation. Neither the upload
of a tenth of the changes nor these bounds and this noise stop the attack.
"""

import dataclasses

from flax import linen as nn

from experiments.harness import flags
from experiments.studies import federated
from experiments.studies.federated import Setting, Study
from experiments.studies.federations import ClientLevel
from mijax.attacks import participant_gan
from mijax.federation import Recipe, Selective
from mijax.models.lenet import LeNet
from mijax.models.mlp import MLP

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
        "clip 1, noise .003": Setting(level=ClientLevel(1.0, 0.003)),
        "clip 1, noise .03": Setting(level=ClientLevel(1.0, 0.03)),
        "clip 1, noise .3": Setting(level=ClientLevel(1.0, 0.3)),
    },
    differences=(
        "perceptron as generator and Adam; the paper has a DCGAN and SGD",
        "the paper judges by eye; it has no numbers to compare with",
        "participants act in parallel, the server takes the mean",
    ),
)
PAPER = dataclasses.replace(QUICK, dataset="mnist", size=28)
FACES = dataclasses.replace(
    QUICK,
    dataset="att_faces",
    size=32,
    shares=tuple((person,) for person in range(40)),
    own=(39,),
    wanted=0,
    network=lambda classes: MLP(classes, (64,), nn.relu),
    recipe=Recipe(local_steps=2, local_batch=8, learning_rate=0.1),
    batch_size=16,
    attack=participant_gan.Config(rounds=300, steps=20, injected=2),
    settings={"no defense": Setting(), "no one has it": Setting(present=False)},
    differences=(
        *QUICK.differences,
        "faces at 32x32 and a perceptron",
        "the adversary shares one of the 40 people with a client",
    ),
)
main = federated.main(
    "hitaj2017_participant_gan",
    quick={"digits": QUICK, "faces": FACES},
    paper={"digits": PAPER, "faces": dataclasses.replace(FACES, size=64)},
)

if __name__ == "__main__":
    flags.run(main)
