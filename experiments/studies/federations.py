"""What the studies of federated trainings share: a task, and its model at the start."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.harness import programs
from experiments.harness.results import Record, metric
from experiments.harness.run import Run
from mijax import data
from mijax.core import Defense, Target, chain
from mijax.data import Dataset, TrainTest
from mijax.defenses import clipping, dp_sgd, noise
from mijax.federation import Recipe

DELTA = 1e-3  # of the epsilons: below one in the number of clients


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned, and how.

    Attributes:
      title: of the page.
      dataset: of `mijax.data.load`, where `--dataset` is not given.
      size: the side of an image; None for the data set's own.
      network: from the number of classes.
      recipe: how all train.
      batch_size: examples that a client takes in a round.
      differences: from the paper's set-up.
    """

    title: str
    dataset: str
    size: int | None = None
    network: Callable[[int], nn.Module]
    recipe: Recipe
    batch_size: int
    differences: tuple[str, ...] = ()

    def load(self, run: Run) -> Dataset:
        """The data set."""
        name = run.dataset or self.dataset
        return data.load(name, data_dir=run.data_dir, size=self.size)

    def images(self, run: Run) -> TrainTest:
        """The data set, a fifth of it to test on."""
        return data.train_test(self.load(run), test_fraction=0.2, seed=run.seed)

    def start(self, key: jax.Array, images: Dataset, extra: int = 0) -> Target:
        """The untrained model, with `extra` classes that no image has."""
        module, shape = self.network(len(images.names) + extra), images.images.shape[1:]
        variables = module.init(key, jnp.zeros((1, *shape)))
        return Target.from_linen(module, variables, shape)


@dataclasses.dataclass(frozen=True)
class ClientLevel:
    """Differential privacy of a client: its update is clipped, and has noise.

    Attributes:
      norm: to which updates are clipped.
      multiplier: the noise's deviation, in units of the norm.
    """

    norm: float
    multiplier: float

    @property
    def defense(self) -> Defense:
        """Of each client's update."""
        deviation = self.norm * self.multiplier
        return chain(clipping.clip_update(self.norm), noise.gaussian(deviation))

    def epsilon(self, rounds: int) -> float:
        """What one who sees each client's update of all rounds learns of a client.

        Clients take part in all rounds, so that nothing is gained by sampling them.
        """
        return dp_sgd.epsilon(self.multiplier, 1.0, rounds, DELTA)


def epsilons(levels: Mapping[str, ClientLevel | None], rounds: int) -> list[Record]:
    """The epsilon of each setting that has one."""
    return [
        Record({"setting": name}, "epsilon", metric([level.epsilon(rounds)]))
        for name, level in levels.items()
        if level is not None
    ]


def hits(target: Target, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the target is right about each image, `[N]` of 0 and 1."""
    return np.asarray(np.argmax(logits(target, x), 1) == labels, float)


def logits(target: Target, x: np.ndarray) -> np.ndarray:
    """The target's logits of any number of images, `[N, K]`."""
    return np.asarray(programs.batched(lambda x: target.predict(x).logits)(x))
