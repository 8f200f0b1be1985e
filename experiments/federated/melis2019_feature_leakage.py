"""A participant of federated learning infers properties of others' batches.

Melis, Song, De Cristofaro, Shmatikov. Exploiting unintended feature leakage in
collaborative learning. S&P 2019. arXiv:1805.04049. On faces, race while the task is
gender: an AUC of 1.0 with two participants, falling as there are more; quoted from
memory.

    python -m experiments melis2019_feature_leakage                 # 2 CPU cores, 4 min
    python -m experiments melis2019_feature_leakage --preset=paper  # MNIST
    python -m experiments melis2019_feature_leakage --kind=glasses  # faces

Of digits, the task is the digit; the property, that a digit has more ink than 70 % of
its class. It is independent of the label. Of LFW's faces the task is the gender; the
property, eyeglasses or a smile (`--kind=smiling`) by Kumar's attributes, which are
right for most images (see `mijax.data.lfw_attributes`), or that both Kumar's label and
a network's say the person is black (`--kind=race`; images on which they disagree are
left out, and the labels are noisy all the same). No person is on two sides.

Expected: of digits, an AUC of .95 or more with one client, less with more of them and
where less of the batch has the property. Of eyeglasses the updates tell about what the
task's predictions alone tell, as most who wear them are men.
"""

import dataclasses
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.harness import flags
from experiments.studies import federated_properties
from experiments.studies.federated_properties import Sample, Study
from experiments.studies.federations import ClientLevel
from mijax.attacks import feature_leakage
from mijax.core import Defense, Target
from mijax.data import Dataset
from mijax.data.lfw_attributes import attributes, by_gender
from mijax.defenses import pruning
from mijax.federation import Recipe
from mijax.models.lenet import LeNet
from mijax.models.mlp import MLP


def heavy(images: Dataset, data_dir: str | None) -> Sample:
    """Whether a digit has more ink than 70 % of its class."""
    del data_dir
    labels, number = images.labels, len(images)
    ink = images.images.reshape(number, -1).mean(1)
    limits = {c: np.quantile(ink[labels == c], 0.7) for c in np.unique(labels)}
    has = ink > np.array([limits[c] for c in labels])
    return Sample(images, has, np.arange(number))


Said = Mapping[str, np.ndarray]


def black(said: Said) -> np.ndarray:
    """1 or 0 where two labels agree on whether a person is black, else empty."""
    ours, theirs = said["k_black"], said["d_race"]
    yes, no = theirs == "black", (theirs != "black") & (theirs != "")
    return np.select([(ours == "1") & yes, (ours == "0") & no], ["1", "0"], "")


def faces(value_of: Callable[[Said], np.ndarray]) -> federated_properties.Sampling:
    """Gender as the task; as the property, what is told of an image: 1, 0 or empty."""

    def sample(images: Dataset, data_dir: str | None) -> Sample:
        said = attributes(images, data_dir)
        faces, known = by_gender(images, said)
        value, people = value_of(said)[known], images.labels[known]
        rows = np.flatnonzero(value != "")
        faces = dataclasses.replace(
            faces, images=faces.images[rows], labels=faces.labels[rows]
        )
        return Sample(faces, value[rows] == "1", people[rows])

    return sample


def dropout(rate: float) -> Defense:
    """Each client's gradient is of the network with hidden features dropped.

    They are those of the last layer, named `logits`, of which a share of `rate` is 0,
    for each example another.
    """

    def update(
        updates: Any, state: Any, params: Any = None, **batch: Any
    ) -> tuple[Any, Any]:
        del updates
        target: Target = batch["target"]

        def loss(trained: Any) -> jax.Array:
            features = target.with_trained(trained).predict(batch["x"]).features
            assert features is not None
            kept = jax.random.bernoulli(batch["key"], 1 - rate, features.shape)
            last = trained["logits"]
            logits = features * kept / (1 - rate) @ last["kernel"] + last["bias"][None]
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits, batch["labels"]
            )
            return jnp.mean(losses)

        return jax.grad(loss)(params), state

    return Defense(
        update=optax.GradientTransformationExtraArgs(
            lambda params: optax.EmptyState(), update
        )
    )


QUICK = Study(
    title="Properties of others' batches in a federated training",
    dataset="mnist5k",
    network=lambda classes: MLP(classes, (128,), nn.relu),
    sample=heavy,
    property_name="heavy ink",
    clients=(1, 4, 9, 29),
    shares=(1.0, 0.5),
    every=5,
    recipe=Recipe(learning_rate=0.1),
    batch_size=32,
    attack=feature_leakage.Config(rounds=400),
    defenses={
        "dropout .5": dropout(0.5),
        "upload a tenth": pruning.prune(0.9),
        "clip 1, noise .003": ClientLevel(1.0, 0.003).defense,
        "clip 1, noise .03": ClientLevel(1.0, 0.03).defense,
        "clip 1, noise .3": ClientLevel(1.0, 0.3).defense,
    },
    differences=(
        "digits and their ink; the paper has faces, reviews and check-ins",
        "the passive adversary shares nothing of its own",
    ),
)
GLASSES = dataclasses.replace(
    QUICK,
    dataset="lfw64",
    size=32,
    network=lambda classes: MLP(classes, (64,), nn.relu),
    sample=faces(operator.itemgetter("k_eyeglasses")),
    property_name="eyeglasses",
    attack=feature_leakage.Config(rounds=300, batches=2),
    defenses={},
    active_clients=1,
    differences=(
        "LFW at 32x32, a perceptron, 300 rounds; the paper has convolutions",
        "properties by Kumar's attributes, of which some are wrong",
        "the passive adversary shares nothing of its own",
    ),
)
SMILING = dataclasses.replace(
    GLASSES,
    sample=faces(operator.itemgetter("k_smiling")),
    property_name="a smile",
)
RACE = dataclasses.replace(
    GLASSES,
    sample=faces(black),
    property_name="said to be black by two labels",
    differences=(
        GLASSES.differences[0],
        "race by two noisy labels where they agree (408 images of 12,387); whoever "
        "they agree on wrongly counts as they say",
        GLASSES.differences[-1],
    ),
)
KINDS = {"digits": QUICK, "glasses": GLASSES, "smiling": SMILING, "race": RACE}
FULL = feature_leakage.Config(rounds=3_000)


def convolutions(classes: int) -> LeNet:
    """The paper's kind of network."""
    return LeNet(classes, (32, 64), (3, 3), (True, True), (256,), "SAME")


PAPER = {"digits": dataclasses.replace(QUICK, attack=FULL, dataset="mnist")} | {
    name: dataclasses.replace(KINDS[name], attack=FULL, network=convolutions)
    for name in ("glasses", "smiling", "race")
}
main = federated_properties.main("melis2019_feature_leakage", quick=KINDS, paper=PAPER)

if __name__ == "__main__":
    flags.run(main)
