"""Yang et al.: confidences through a purifier, against a decoder that knows of it.

Yang, Shao, Xuan, Chang, Zhang. Defending model inversion and membership inference
attacks via prediction purification. 2020. arXiv:2005.03915. Inversion errors up to 4
times as large, accuracy less by at most .004, confidences moved by at most 5.5 %.

    python -m experiments yang2020_purification                 # 2 CPU cores, 3 min
    python -m experiments yang2020_purification --preset=paper  # MNIST, for a GPU
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.tree_util import Partial

from experiments.harness import flags
from experiments.harness import run as harness
from experiments.studies import decoding
from experiments.studies.classifiers import Classifier, evaluator
from experiments.studies.decoding import Release, Study, Trained
from mijax.attacks import inverse_network
from mijax.core import Defense
from mijax.defenses import mid, rounding
from mijax.defenses.trainers.purifier import purifier
from mijax.models.mlp import MLP
from mijax.models.variational import VariationalMLP


def purified(bottleneck: int, steps: int = 5000) -> Release:
    """Through a purifier of this bottleneck, trained on the reference images."""

    def make(made: Trained) -> Defense:
        scores = jax.nn.softmax(made.target.predict(made.reference).logits)
        said = jnp.argmax(scores, 1)
        widths = (32, bottleneck, 32)
        return purifier(made.key, scores, said, widths=widths, steps=steps)

    return Release(make, trained=True)


def _label(scores: jax.Array) -> jax.Array:
    return jax.nn.one_hot(jnp.argmax(scores, -1), scores.shape[-1])


def bottleneck(weight: float) -> Release:
    """A target with a variational bottleneck, which MID of this weight regularizes."""
    return Release(None, VariationalMLP, mid.mid(weight))


QUICK = Study(
    title="Purified confidences against a decoder",
    data=decoding.digits,
    target=Classifier(lambda classes: MLP(classes, (256,), nn.relu)),
    judge=Classifier(evaluator),
    releases={
        "all": Release(),
        "purifier, bottleneck of 8": purified(8),
        "rounding, .01": Release(lambda made: rounding.rounding(0.01)),
        "label": Release(lambda made: Defense(output=Partial(_label))),
        "bottleneck, MID 0": bottleneck(0.0),
        "bottleneck, MID .1": bottleneck(0.1),
    },
    reduced="same",
    differences=(
        "5,000 digits and perceptrons; the paper has faces, CIFAR-10 and others",
        "the purifier is not trained against an adversary of its own",
        "rounding, the label alone and MID are not the paper's",
    ),
)
PAPER = dataclasses.replace(
    QUICK,
    releases={
        **QUICK.releases,
        "purifier, bottleneck of 8": purified(8, 50_000),
        "purifier, bottleneck of 2": purified(2, 50_000),
        **{f"bottleneck, MID {w:g}": bottleneck(w) for w in (1e-3, 1e-2, 0.5)},
    },
    target=dataclasses.replace(QUICK.target, steps=5000),
    judge=dataclasses.replace(QUICK.judge, steps=5000),
    attack=inverse_network.Config(steps=50_000, batch_size=128),
    victims=2000,
)
main = harness.main(
    "yang2020_purification",
    quick={"digits": QUICK},
    paper={"digits": PAPER},
    measure=decoding.measure,
)

if __name__ == "__main__":
    flags.run(main)
