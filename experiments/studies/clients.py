"""The clients whose updates are attacked, and what the adversary has of others.

Letters: V victims, B examples of each.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from mijax import data, priors
from mijax.core import Prior
from mijax.data import Dataset

LOSSY = (
    "CIFAR-10 here is a lossy copy (JPEG, quality 75): no figure on it compares with "
    "published CIFAR-10 figures."
)
_SIDE = 32
_SPLITS = {"mnist": "test", "cifar10_jpeg75": "test"}
# LFW's other people taught the shipped prior. Its digits are MNIST's own, of both
# splits, so that there is no prior of MNIST.
_AT_LEAST = {"lfw64": 20}
_FACES = {"att_faces", "lfw64"}
_PUBLIC = 2000  # images that the adversary has
_PRIORS = {"att_faces": "faces64", "lfw64": "faces64"}


@dataclasses.dataclass(frozen=True, eq=False)
class Clients:
    """Victims, and images that the adversary may have.

    Attributes:
      x: the victims' images, `[V, B, H, W, C]`.
      labels: `[V, B]`.
      similar: another image of each one's class, of no victim, `[V, B, H, W, C]`.
      public: images of nobody among the victims (for faces, of other people).
      num_classes: K.
      prior: the name of a shipped generator of such images, if there is one.
      spare: `x`, `labels` and `similar` of one more client, `[1, B, ...]`, for nulls.
    """

    x: np.ndarray
    labels: np.ndarray
    similar: np.ndarray
    public: np.ndarray
    num_classes: int
    prior: str | None
    spare: Mapping[str, np.ndarray]

    @property
    def before(self) -> "Clients":
        """The client before each one; before the first, the spare one."""
        moved = {
            name: np.concatenate([first, getattr(self, name)[:-1]])
            for name, first in self.spare.items()
        }
        return dataclasses.replace(self, **moved)

    def part(self, index: int, of: int) -> "Clients":
        """One of as many parts of the victims, in order; nulls stay what they are."""
        rows = np.array_split(np.arange(len(self.x)), of)[index]
        own = {name: getattr(self, name)[rows] for name in self.spare}
        spare = {name: getattr(self.before, name)[rows[:1]] for name in self.spare}
        return dataclasses.replace(self, **own, spare=spare)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return self.x.shape[2:]

    @property
    def mean_image(self) -> np.ndarray:
        """The mean of the public images, for every victim alike, as `x`."""
        return np.broadcast_to(self.public.mean(0), self.x.shape)

    def load_prior(self) -> Prior | None:
        """The shipped generator of such images, resized to these, if there is one."""
        if self.prior is None:
            return None
        return priors.load(self.prior).resized(*self.shape[:2])


def load(name: str, data_dir: str | None, split: str | None = None) -> Dataset:
    """Loads a data set at 32x32; of MNIST and CIFAR-10 the test images, or `split`.

    Raises:
      FileNotFoundError: if its files are not at hand.
    """
    size = None if name == "mnist" else _SIDE
    loaded = data.load(
        name, data_dir=data_dir, size=size, split=split or _SPLITS.get(name)
    )
    if name in _AT_LEAST:
        loaded = data.by_count(loaded, at_least=_AT_LEAST[name]).private
    if name == "mnist":
        pads = [(0, 0), (2, 2), (2, 2), (0, 0)]
        loaded = dataclasses.replace(loaded, images=np.pad(loaded.images, pads))
    return loaded


def choose(dataset: Dataset, victims: int, batch: int, seed: int) -> Clients:
    """Chooses victims at random: of faces among half of the people, others are public.

    Raises:
      ValueError: if there are too few images.
    """
    rng = np.random.default_rng(seed)
    number = len(dataset.names)
    if dataset.name in _FACES:
        private = np.isin(dataset.labels, rng.permutation(number)[: number // 2])
    else:
        private = np.arange(len(dataset)) >= min(_PUBLIC, len(dataset) // 2)
    order = rng.permutation(np.flatnonzero(private))
    used = (victims + 1) * batch
    if used >= len(order):
        raise ValueError(
            f"{victims} victims of {batch} images are more than the {len(order)} "
            f"private images of {dataset.name} allow beside a spare client and similar "
            "images: attack fewer, with --num_victims."
        )
    rows, free = order[:used], order[used:]
    chosen = {
        "x": dataset.images[rows],
        "labels": dataset.labels[rows],
        "similar": _similar(dataset, rows, free),
    }
    chosen = {k: v.reshape(victims + 1, batch, *v.shape[1:]) for k, v in chosen.items()}
    return Clients(
        **{name: each[:-1] for name, each in chosen.items()},
        public=dataset.images[rng.permutation(np.flatnonzero(~private))[:_PUBLIC]],
        num_classes=number,
        prior=_PRIORS.get(dataset.name),
        spare={name: each[-1:] for name, each in chosen.items()},
    )


def _similar(dataset: Dataset, rows: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The first free image of the class of each row; any where none is left."""
    first = dict(zip(dataset.labels[free][::-1], free[::-1], strict=True))
    return dataset.images[[first.get(dataset.labels[row], free[0]) for row in rows]]
