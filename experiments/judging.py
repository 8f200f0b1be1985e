"""Who judges a reconstruction: never the attacked model.

A `Judge` holds real images of everyone in a feature space of its own, and turns
features of reconstructions into one value each.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
import numpy as np

from experiments.harness import cache
from experiments.harness.programs import batched as batched
from mijax.core import Target
from mijax.data import Dataset
from mijax.evaluation import judges
from mijax.evaluation.judges import Provenance
from mijax.metrics import identity

_PER_PERSON = 8  # real images of each person that a slow judge compares with


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """A feature space with real images in it.

    Attributes:
      name: of the feature space.
      provenance: its design and training data; the verdict is of a judge that shares
        neither with the target.
      features: `images [N, H, W, C] -> [N, F]`.
      reference: features of the real images, `[M, F]`: private ones first.
      labels: their labels, `[M]`; public people's are above the private ones'.
      num_private: how many private identities there are.
    """

    name: str
    provenance: Provenance
    features: Callable[[np.ndarray], np.ndarray]
    reference: np.ndarray
    labels: np.ndarray
    num_private: int

    @property
    def knows_everyone(self) -> bool:
        """Whether public people are among the real images."""
        return int(self.labels.max()) >= self.num_private

    def private(self) -> np.ndarray:
        """Features of the private images."""
        return self.reference[self.labels < self.num_private]

    def nearest(self, seen: np.ndarray, labels: np.ndarray, among: str) -> np.ndarray:
        """Whether the nearest real image is of the right person, `[N]` of 0 and 1.

        Args:
          seen: features of the reconstructions, `[N, F]`.
          labels: who each should be, `[N]`.
          among: `everyone`, or `private`: the private people alone.
        """
        rows = slice(None) if among == "everyone" else self.labels < self.num_private
        return identity.identity_1nn(
            seen, self.reference[rows], labels, self.labels[rows]
        )

    def nearest_mean(self, seen: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Whether the nearest mean feature of a private person is the right one's."""
        own = self.labels < self.num_private
        means = np.zeros((self.num_private, self.reference.shape[1]))
        np.add.at(means, self.labels[own], self.reference[own])
        means /= np.bincount(self.labels[own], minlength=self.num_private)[:, None]
        return identity.identity_1nn(
            seen, means.astype(np.float32), labels, np.arange(self.num_private)
        )

    def knn_distance(self, seen: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Squared distance to the nearest private image of the same person, `[N]`."""
        return identity.knn_distance(seen, self.reference, labels, self.labels)

    def feature_distance(self, seen: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Squared distance to the centroid of the same person's images, `[N]`."""
        return identity.feature_distance(seen, self.reference, labels, self.labels)


def evaluator(
    name: str,
    provenance: Provenance,
    target: Target,
    private: Dataset,
    public: Dataset | None,
) -> Judge:
    """A judge in the penultimate features of a classifier."""
    features = batched(lambda x: target.predict(x).features)
    return _judge(name, provenance, features, features, private, public)


def pixels(private: Dataset, public: Dataset | None) -> Judge:
    """A judge of raw pixels: no network that could be fooled."""
    features = lambda x: x.reshape(len(x), -1)
    provenance = Provenance("pixels", frozenset())
    return _judge("pixels", provenance, features, features, private, public)


def face_networks(
    data_dir: str | None,
    workdir: pathlib.Path,
    private: Dataset,
    public: Dataset | None,
) -> tuple[list[Judge], list[str]]:
    """Public face networks that are at hand as judges, and why others are not.

    Features of real images are kept by the hash of weights and images. dlib's network
    is slow, so it knows a few images of each private person and none of public ones.
    """
    folder = pathlib.Path(data_dir or ".") / "weights"
    found, absent = [], []
    for make, own, others in (
        (lambda: judges.MobileFaceNetCasia(folder / "mobilefacenet.npz"), None, public),
        (judges.DlibResNet, _PER_PERSON, None),
    ):
        try:
            network = make()
        except (ValueError, FileNotFoundError) as error:
            absent.append(str(error))
            continue
        found.append(
            _judge(
                network.name,
                network.provenance,
                network.features,
                lambda x, network=network: cache.once(
                    workdir,
                    name=network.name,
                    inputs=(network.identity, x),
                    compute=lambda: network.features(x),
                ),
                private.first_of_each(own) if own else private,
                others,
            )
        )
    return found, absent


def _judge(
    name: str,
    provenance: Provenance,
    features: Callable[[np.ndarray], np.ndarray],
    of_real: Callable[[np.ndarray], np.ndarray],
    private: Dataset,
    public: Dataset | None,
) -> Judge:
    images, labels = [private.images], [private.labels]
    if public is not None:
        images.append(public.images)
        labels.append(public.labels + np.int32(len(private.names)))
    return Judge(
        name,
        provenance,
        features,
        of_real(np.concatenate(images)),
        np.concatenate(labels),
        len(private.names),
    )


def surest(target: Target, drawn: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of the images drawn, the one that the target is surest of for each label."""
    scores = batched(lambda x: target.predict(x).logits)(drawn)
    return drawn[np.argmax(jax.nn.log_softmax(scores, 1), 0)[labels]]
