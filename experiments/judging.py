"""Who judges a reconstruction: never the attacked model.

A `Judge` holds real images of everyone in a feature space of its own, and turns
reconstructions into one value each.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.harness.programs import batched as batched
from mijax.core import Target
from mijax.data import Dataset
from mijax.metrics import identity
from mijax.models import mobile_face_net


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """A feature space with everyone's real images in it.

    Attributes:
      name: of the feature space.
      features: `images [N, H, W, C] -> [N, F]`.
      reference: features of the real images, `[M, F]`: private ones first.
      labels: their labels, `[M]`; public people's are above the private ones'.
      num_private: how many private identities there are.
    """

    name: str
    features: Callable[[np.ndarray], np.ndarray]
    reference: np.ndarray
    labels: np.ndarray
    num_private: int

    def nearest(
        self, images: np.ndarray, labels: np.ndarray, everyone: bool = True
    ) -> np.ndarray:
        """1-NN identification of each image, `[N]` of 0 and 1.

        Among all people, or among the private ones alone.
        """
        rows = slice(None) if everyone else self.labels < self.num_private
        return identity.identity_1nn(
            self.features(images), self.reference[rows], labels, self.labels[rows]
        )

    def knn_distance(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Squared distance to the nearest private image of the same person, `[N]`."""
        return identity.knn_distance(
            self.features(images), self.reference, labels, self.labels
        )

    def feature_distance(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Squared distance to the centroid of the same person's images, `[N]`."""
        return identity.feature_distance(
            self.features(images), self.reference, labels, self.labels
        )

    def private(self) -> np.ndarray:
        """Features of the private images."""
        return self.reference[self.labels < self.num_private]


def evaluator(
    name: str, target: Target, private: Dataset, public: Dataset | None
) -> Judge:
    """A judge in the penultimate features of a classifier."""
    return _judge(
        name,
        batched(lambda x: target.predict(x).features),
        private,
        public,
    )


def face_features(
    folder: str | None, private: Dataset, public: Dataset | None
) -> Judge | None:
    """A judge in MobileFaceNet's embeddings; None where its weights are not at hand.

    They are normalized to unit length, so that nearest means most alike in cosine.
    """
    path = pathlib.Path(folder or ".") / "weights" / "mobilefacenet.npz"
    if not path.is_file():
        return None
    variables = mobile_face_net.load(path)

    def embed(x: Any) -> Any:
        embedding = mobile_face_net.embed(variables, x)
        return embedding / jax.numpy.linalg.norm(embedding, axis=1, keepdims=True)

    return _judge("MobileFaceNet", batched(embed), private, public)


def pixels(private: Dataset, public: Dataset | None) -> Judge:
    """A judge of raw pixels: no network that could be fooled."""
    return _judge("pixels", lambda x: x.reshape(len(x), -1), private, public)


def _judge(
    name: str,
    features: Callable[[np.ndarray], np.ndarray],
    private: Dataset,
    public: Dataset | None,
) -> Judge:
    images, labels = [private.images], [private.labels]
    if public is not None:
        images.append(public.images)
        labels.append(public.labels + np.int32(len(private.names)))
    return Judge(
        name,
        features,
        features(np.concatenate(images)),
        np.concatenate(labels),
        len(private.names),
    )


def surest(target: Target, drawn: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of the images drawn, the one that the target is surest of for each label."""
    logits = batched(lambda x: target.predict(x).logits)(drawn)
    return drawn[np.argmax(jax.nn.log_softmax(logits, 1), 0)[labels]]
