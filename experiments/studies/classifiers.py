"""What studies of learned inversion share: classifiers, and errors of what is found."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.harness import programs
from experiments.harness.results import Record, metric
from experiments.harness.run import Run
from mijax.core import Defense, Target
from mijax.data import TrainTest
from mijax.metrics import images
from mijax.models.lenet import LeNet

_MEASURES = {
    "mse": (images.mse, 0.0),
    "ssim": (images.ssim, 1.0),
    "psnr": (images.psnr, None),
}


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A network and its training by Adam.

    Attributes:
      network: a module, from the number of classes.
      steps: of training.
      batch_size: examples a step.
      learning_rate: of Adam.
    """

    network: Callable[[int], Any]
    steps: int = 600
    batch_size: int = 64
    learning_rate: float = 1e-3

    def train(
        self,
        run: Run,
        key: jax.Array,
        name: str,
        known: TrainTest,
        defense: Defense = Defense(),
    ) -> tuple[Target, np.ndarray]:
        """Returns the classifier, and whether it is right about each test image."""
        return run.train(
            key,
            file_name(name),
            self.network(len(known.train.names)),
            known,
            optimizer=optax.adam(self.learning_rate),
            steps=self.steps,
            batch_size=self.batch_size,
            objective=defense.objective,
            chunk=500,
        )


def evaluator(classes: int) -> LeNet:
    """Returns the small convolutional network that judges recovered images."""
    return LeNet(classes, (6, 16), (5, 5), (True, True), (84,), "SAME")


def named(judge: Target, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the judge sees each image's label, `[N]` of 0 and 1."""
    guess = programs.batched(lambda x: judge.predict(x).logits)
    return (guess(np.asarray(x)).argmax(1) == labels).astype(float)


def errors(
    labels: Mapping[str, str],
    truth: np.ndarray,
    found: np.ndarray,
    blind: np.ndarray,
    measures: tuple[str, ...] = ("mse", "ssim"),
    published: Mapping[str, float] | None = None,
) -> list[Record]:
    """How far images are from the true ones, beside those found without the target.

    Args:
      labels: of the records.
      truth: `[N, H, W, C]`.
      found: `[N, H, W, C]`.
      blind: what is there without the target, `[N, H, W, C]`.
      measures: among `mse`, `ssim` and `psnr`.
      published: the paper's numbers, by measure.
    """
    records = []
    for name in measures:
        measure, perfect = _MEASURES[name]
        mine, other = (
            np.asarray(measure(jnp.asarray(truth), jnp.asarray(x)))
            for x in (found, blind)
        )
        paper = (published or {}).get(name)
        line = metric(mine, baseline=other, perfect=perfect, paper=paper)
        records.append(Record(labels, name, line))
    return records


def file_name(name: str) -> str:
    """Returns a name as that of a file: letters and digits alone."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)
