"""Salem et al.: the data of an online update, from answers before and after.

Salem, Bhattacharya, Backes, Fritz, Zhang. Updates-Leak: data set inference and
reconstruction attacks in online learning. USENIX Security 2020. arXiv:1904.01067.
Labels of single images: about .68 on MNIST, .96 on CIFAR-10, .10 by chance (read off
the paper's figure).

    python -m experiments salem2020_updates_leak                 # 2 CPU cores, 7 min
    python -m experiments salem2020_updates_leak --kind=sets     # images of many
    python -m experiments salem2020_updates_leak --kind=objects  # CIFAR-10
    python -m experiments salem2020_updates_leak --kind=places   # Location
    python -m experiments salem2020_updates_leak --preset=paper  # MNIST, for a GPU
"""

import dataclasses

from flax import linen as nn

from experiments.harness import flags
from experiments.harness import run as harness
from experiments.studies import updates
from experiments.studies.updates import Case, Study
from mijax.attacks import cbm_gan, updates_leak
from mijax.defenses import posterior_noise
from mijax.models.lenet import LeNet
from mijax.models.mlp import MLP

SINGLE = updates_leak.Config()
SKEWED = dataclasses.replace(
    SINGLE, summary=updates_leak.class_means, set_size=50, concentration=0.5
)
UNIFORM = dataclasses.replace(SKEWED, concentration=1000.0)
SETS = cbm_gan.Config(clones=10_000, steps=1000, batch_size=8)


def noised(deviation: float, config: updates_leak.Config = SINGLE) -> Case:
    """Single images, behind noise on the posteriors."""
    return Case(config, lambda key: posterior_noise.posterior_noise(key, deviation))


def convolutional(classes: int) -> nn.Module:
    """The paper's network of digits, without dropout."""
    return LeNet(classes, (10, 20), (5, 5), (True, True), (50,))


QUICK = Study(
    title="What an online update reveals of its data",
    load=updates.images("mnist5k"),
    network=lambda classes: MLP(classes, (64,), nn.relu),
    cases={
        "single images": Case(SINGLE, image=True),
        "single images, noise .001": noised(1e-3),
        "single images, noise .01": noised(1e-2),
        "50 images, skewed labels": Case(SKEWED),
        "50 images, uniform labels": Case(UNIFORM),
    },
    differences=(
        "5,000 digits, perceptrons of 64 units and 2,000 clones; the paper has 60,000, "
        "convolutions and 10,000 clones",
        "an update is one step of SGD at 0.01 on the whole set, the paper's an epoch "
        "at 0.001 with momentum",
        "distributions of labels are read from the direction of the mean difference of "
        "each class: the whole difference does not pass from the shadow model to "
        "another",
        "the decoder of single images is not a pretrained autoencoder's",
    ),
    published={("single images", "label_accuracy"): 0.68},
)

QUICK_SETS = dataclasses.replace(
    QUICK,
    title="The images of an online update of many",
    cases={"20 images": Case(SETS)},
    victims=200,
    differences=(
        "5,000 digits and perceptrons of 64 units; the paper has 60,000 and "
        "convolutions",
        "sets have 20 images, the paper's 100; generator and critic are smaller",
        QUICK.differences[1],
        "codes are the direction of the mean difference of each class, not the whole "
        "difference",
    ),
)


def _objects(classes: int) -> nn.Module:
    return LeNet(classes, (8, 16), (5, 5), (True, True), (64,))


def _cases(shadow, steps: int) -> dict[str, Case]:
    """Single images, and sets with labels that are skewed."""
    single, skewed, sets = (
        dataclasses.replace(config, shadow=shadow, shadow_steps=steps)
        for config in (SINGLE, SKEWED, SETS)
    )
    return {
        "single images": Case(single, image=True),
        "50 images, skewed labels": Case(skewed),
        "20 images": Case(dataclasses.replace(sets, clones=2000)),
    }


OBJECTS = dataclasses.replace(
    QUICK,
    load=updates.images("cifar10_jpeg75", 12_000),
    network=_objects,
    cases=_cases(_objects, 1500),
    steps=1500,
    differences=(
        "12,000 images of CIFAR-10, compressed with loss, a small network, 2,000 "
        "clones and sets of 20; the paper has 60,000, 10,000 and sets of 100",
        *QUICK.differences[1:],
    ),
    published={("single images", "label_accuracy"): 0.96},
)
PLACES = dataclasses.replace(
    QUICK,
    load=updates.places,
    cases=_cases(updates_leak.perceptron, 600),
    differences=(
        "Foursquare's check-ins of Bangkok (5,010 people, 441 places, 30 clusters), "
        "where the paper has Instagram's of New York; perceptrons of 64 units, 2,000 "
        "clones and sets of 20",
        *QUICK.differences[1:],
    ),
    published={("single images", "label_accuracy"): 0.30},
)


def _large(config: updates_leak.Config) -> updates_leak.Config:
    larger = dataclasses.replace(
        config, shadow=convolutional, clones=10_000, shadow_steps=4000, steps=4000
    )
    if isinstance(larger, cbm_gan.Config):
        return dataclasses.replace(larger, set_size=100, samples=20_000)
    return larger


PAPER = dataclasses.replace(
    QUICK,
    load=updates.images("mnist"),
    network=convolutional,
    cases={
        name: dataclasses.replace(case, config=_large(case.config))
        for name, case in {**QUICK.cases, **QUICK_SETS.cases}.items()
    },
    victims=1000,
    steps=4000,
)
main = harness.main(
    "salem2020_updates_leak",
    quick={
        "images": QUICK,
        "sets": QUICK_SETS,
        "objects": OBJECTS,
        "places": PLACES,
    },
    paper={"images": PAPER},
    measure=updates.measure,
    free_mib={"quick": 128, "paper": 1024},  # Sets of many images are kept.
)

if __name__ == "__main__":
    flags.run(main)
