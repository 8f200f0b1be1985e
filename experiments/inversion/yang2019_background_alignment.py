"""Yang et al.: inputs from their confidences, by a decoder of other images.

Yang, Zhang, Chang, Liang. Neural network inversion in adversarial setting via
background knowledge alignment. CCS 2019. doi:10.1145/3319535.3354261. Figures of
inputs recovered from truncated confidences; the paper tabulates no error of MNIST.

    python -m experiments yang2019_background_alignment  # 2 CPU cores, 3 min
    python -m experiments yang2019_background_alignment --kind=faces  # lfw, objects
    python -m experiments yang2019_background_alignment --preset=paper  # MNIST, GPU
"""

import dataclasses

import numpy as np
from flax import linen as nn

from experiments.harness import flags
from experiments.harness import run as harness
from experiments.harness.run import Run
from experiments.studies import decoding
from experiments.studies.classifiers import Classifier, evaluator
from experiments.studies.decoding import Release, Study, World
from mijax import data
from mijax.attacks import inverse_network
from mijax.data import Dataset, TrainTest
from mijax.defenses import top_k
from mijax.models.decoders import DenseDecoder
from mijax.models.lenet import LeNet
from mijax.models.mlp import MLP

_SIDE = 28
_RELATED = 4000  # images of other classes that the adversary has at most
_JUDGED = 100  # classes that the evaluator knows at most; else it knows private ones
_OBJECTS = 12_000  # images of CIFAR-10 in all


def truncated(*numbers: int) -> dict[str, Release]:
    """All confidences, their raw values, and the `m` largest alone."""
    return {
        "all": Release(),
        "all, without logarithm": Release(code=inverse_network.raw_scores),
    } | {f"{m} largest": Release(lambda made, m=m: top_k.top_k(m)) for m in numbers}


def linear(shape: tuple[int, ...]) -> nn.Module:
    """A decoder for few images: no hidden layer, and zeros at first."""
    return DenseDecoder(shape, (), final_init=nn.initializers.zeros)


def digits(run: Run) -> World:
    """0 to 4 are private; 5 to 9 related, faces another kind of image."""
    loaded = data.load(run.dataset or "mnist5k", data_dir=run.data_dir)
    faces = data.load("att_faces", data_dir=run.data_dir, size=_SIDE)
    return _world("the digits 0 to 4", loaded, range(5), faces.images, run.seed, 0.5)


def faces(run: Run) -> World:
    """30 of AT&T's people are private; the other 10 related, digits another kind."""
    loaded = data.load("att_faces", data_dir=run.data_dir, size=_SIDE)
    people = np.random.default_rng(run.seed).permutation(40)[:30]
    others = data.load("mnist5k", data_dir=run.data_dir)
    return _world(
        "30 people of AT&T", loaded, np.sort(people), others.images, run.seed, 0.5
    )


def wild_faces(run: Run) -> World:
    """LFW's 62 people of 20 images or more are private; 4,000 of others related."""
    loaded = data.load("lfw64", data_dir=run.data_dir, size=_SIDE)
    private = np.flatnonzero(loaded.counts() >= 20)
    return _world(f"{len(private)} people of LFW", loaded, private, None, run.seed, 0.5)


def objects(run: Run) -> World:
    """CIFAR-10's airplanes to deer are private; the other five classes related."""
    loaded = data.load("cifar10_jpeg75", data_dir=run.data_dir)
    rows = np.random.default_rng(run.seed).permutation(len(loaded))[:_OBJECTS]
    some = dataclasses.replace(
        loaded, images=loaded.images[rows], labels=loaded.labels[rows]
    )
    return _world("5 classes of CIFAR-10", some, range(5), None, run.seed, 0.3)


def _world(name, loaded: Dataset, private, other, seed: int, share: float) -> World:
    sides = data.by_label(loaded, [int(label) for label in private])
    mine = data.train_test(sides.private, test_fraction=share, seed=seed)
    rest = data.train_test(mine.test, test_fraction=0.5, seed=seed)
    judge = data.train_test(sides.private, test_fraction=0.2, seed=seed)
    if len(loaded.names) <= _JUDGED:
        everyone = data.train_test(loaded, test_fraction=0.2, seed=seed)
        judge = _numbered(everyone, loaded, private)
    order = np.random.default_rng(seed)
    auxiliaries = {
        "same": rest.train.images,
        "related": order.permutation(sides.public.images)[:_RELATED],
    }
    if other is not None:
        auxiliaries["other"] = order.permutation(other)
    return World(
        name,
        TrainTest(mine.train, rest.test),
        rest.train,
        auxiliaries,
        judge,
    )


def _numbered(everyone: TrainTest, loaded: Dataset, private) -> TrainTest:
    """All images, with the private classes first, as the target numbers them."""
    first = [int(label) for label in private]
    order = [*first, *(i for i in range(len(loaded.names)) if i not in first)]
    rank = np.argsort(order).astype(np.int32)
    names = tuple(loaded.names[i] for i in order)
    return TrainTest(
        *(
            dataclasses.replace(part, labels=rank[part.labels], names=names)
            for part in everyone
        )
    )


DIGITS = Study(
    title="Inputs from their confidences",
    data=digits,
    target=Classifier(lambda classes: MLP(classes, (256,), nn.relu)),
    judge=Classifier(evaluator),
    releases=truncated(1, 3)
    | {"all, decoder trained with the target": Release(joint=10.0)},
    differences=(
        "5,000 digits and a perceptron; the paper has 60,000 and convolutions",
        "the decoder is a perceptron, the paper's transposed convolutions",
        "auxiliary sets: 625 digits of the private classes, 2,500 of the others, 400 "
        "faces",
    ),
)
FACES = dataclasses.replace(
    DIGITS,
    data=faces,
    releases=truncated(1, 3, 5, 10),
    # What suits three or four of the adversary's own ten people best, from a decoder of
    # the others: hidden layers learn its 100 images by heart.
    attack=inverse_network.Config(linear, steps=1500, learning_rate=1e-2),
    victims=60,
    differences=(
        "AT&T's 40 people; the paper has FaceScrub's 530 and CelebA",
        "the decoder is linear before its sigmoid, the paper's transposed convolutions",
    ),
)
LFW = dataclasses.replace(
    FACES,
    data=wild_faces,
    attack=DIGITS.attack,
    victims=300,
    differences=(
        "Labeled Faces in the Wild, 28x28: 62 people with 20 images or more; the paper "
        "has FaceScrub's 530 and CelebA, 64x64",
        DIGITS.differences[1],
    ),
)
OBJECTS = dataclasses.replace(
    DIGITS,
    data=objects,
    target=Classifier(
        lambda classes: LeNet(classes, (16, 32), (5, 5), (True, True), (128,))
    ),
    releases=truncated(1),
    differences=(
        "12,000 images of CIFAR-10, compressed with loss, and a small network",
        DIGITS.differences[1],
    ),
)
PAPER = dataclasses.replace(
    DIGITS,
    target=Classifier(
        lambda classes: LeNet(classes, (32, 64), (5, 5), (True, True), (256,), "SAME"),
        steps=10_000,
    ),
    judge=Classifier(evaluator, steps=10_000),
    attack=inverse_network.Config(steps=50_000, batch_size=128, learning_rate=2e-4),
    victims=2000,
)
main = harness.main(
    "yang2019_background_alignment",
    quick={"digits": DIGITS, "faces": FACES, "lfw": LFW, "objects": OBJECTS},
    paper={"digits": PAPER},
    measure=decoding.measure,
)

if __name__ == "__main__":
    flags.run(main)
