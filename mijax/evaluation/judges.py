"""Judges of recovered faces: networks that were not attacked, and what they share.

A judge of the target's own design, or trained on its data, is fooled by what fools the
target. Each therefore states its design and data, and the verdict on an attack is the
lowest that a judge sharing neither gives.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mijax.models import mobile_face_net

_BATCH = 64


class Provenance(NamedTuple):
    """What a network is made of.

    Attributes:
      design: the family of its layers, such as "MobileFaceNet".
      data: what it was trained on, such as "CASIA-WebFace".
    """

    design: str
    data: frozenset[str]


class Judge(Protocol):
    """A network that maps faces to features in which near means alike."""

    @property
    def name(self) -> str:
        """As tables print it."""
        ...

    @property
    def provenance(self) -> Provenance:
        """Its design and training data."""
        ...

    @property
    def identity(self) -> bytes:
        """A hash of its weights and of how it frames faces."""
        ...

    def features(self, images: np.ndarray) -> np.ndarray:
        """Returns unit features `[N, F]` of images `[N, H, W, C]` in [0, 1]."""
        ...


class MobileFaceNetCasia:
    """The MobileFaceNet that was trained on CASIA-WebFace.

    Args:
      path: of its weights, as `mijax.models.mobile_face_net.load` takes it.
    """

    name = "mobile_face_net_casia"
    provenance = Provenance("MobileFaceNet", frozenset({"CASIA-WebFace"}))

    def __init__(self, path: str | pathlib.Path) -> None:
        self._variables = mobile_face_net.load(path)
        self.identity = _file_hash(path)
        self._embed = jax.jit(mobile_face_net.embed)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Returns `[N, 128]`."""
        padded = np.concatenate(
            [images, np.repeat(images[-1:], -len(images) % _BATCH, 0)]
        )
        batches = padded.reshape(-1, _BATCH, *images.shape[1:])
        features = [self._embed(self._variables, jnp.asarray(x)) for x in batches]
        return _unit(np.concatenate(features)[: len(images)])


class DlibResNet:
    """dlib's face network: a ResNet of 29 layers, trained on photographs of its own.

    Its data are FaceScrub, VGG-Face and faces from the web. It needs the packages
    `dlib-bin` and `face-recognition-models`, whose code is not run for their weights.

    Args:
      path: of the weights; None takes those of `face-recognition-models`.

    Raises:
      ValueError: if a package is missing.

    References:
      King. Dlib-ml: a machine learning toolkit. JMLR 2009. The network is described at
      http://blog.dlib.net/2017/02/high-quality-face-recognition-with-deep.html.
    """

    name = "dlib_resnet"
    provenance = Provenance("ResNet", frozenset({"FaceScrub", "VGG-Face", "web"}))

    # dlib frames faces with more of the head than a centre crop of LFW-a shows.
    _SIDE, _PADDING = 150, 0.1

    def __init__(self, path: str | pathlib.Path | None = None) -> None:
        path = path or _packaged_weights()
        try:
            dlib: Any = importlib.import_module("dlib")
        except ImportError as error:
            raise ValueError(
                "dlib's network needs the package dlib-bin: install it, or leave this "
                "judge out."
            ) from error
        self._network = dlib.face_recognition_model_v1(str(path))
        self.identity = _file_hash(path) + repr((self._SIDE, self._PADDING)).encode()

    def features(self, images: np.ndarray) -> np.ndarray:
        """Returns `[N, 128]`; about 9 faces a second on two cores."""
        ends = -self._PADDING, 1 + self._PADDING
        rows = mobile_face_net.interpolation(images.shape[1], self._SIDE, *ends)
        columns = mobile_face_net.interpolation(images.shape[2], self._SIDE, *ends)
        features = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            x = np.einsum("ih,bhwc,jw->bijc", rows, batch, columns, optimize=True)
            x = np.clip(np.round(255 * x), 0, 255).astype(np.uint8)
            x = np.ascontiguousarray(np.broadcast_to(x, (*x.shape[:3], 3)))
            features.extend(self._network.compute_face_descriptor(list(x)))
        return _unit(np.array(features, np.float32))


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """Real images of people, as a judge sees them.

    Attributes:
      judge: whose features.
      features: of the real images, `[M, F]`.
      labels: who is on each, `[M]`.
      means: the unit mean feature of each person, `[P, F]`.
    """

    judge: Judge
    features: np.ndarray
    labels: np.ndarray
    means: np.ndarray

    def by_nearest_image(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Whether the nearest real image is of the right person, `[N]` of 0 and 1."""
        return self.named(self.judge.features(images), labels)[0]

    def by_nearest_mean(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Whether the nearest mean feature is the right person's, `[N]` of 0 and 1."""
        return self.named(self.judge.features(images), labels)[1]

    def named(
        self, features: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Both verdicts on features `[N, F]`, where they were made already.

        A feature that is not finite names no one.
        """
        finite = np.all(np.isfinite(features), axis=1)
        features = np.where(finite[:, None], features, 0)
        nearest = np.equal(
            self.labels[np.argmax(features @ self.features.T, 1)], labels
        )
        mean = np.equal(np.argmax(features @ self.means.T, 1), labels)
        return (nearest & finite).astype(float), (mean & finite).astype(float)


def gallery(judge: Judge, features: np.ndarray, labels: np.ndarray) -> Gallery:
    """Makes a gallery of a judge's features `[M, F]` of real images, labels `[M]`.

    Raises:
      ValueError: if labels are not `[M]`, do not run from 0 without a gap, or a feature
        is not finite.
    """
    labels = np.asarray(labels)
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"There are {labels.shape} labels for {len(features)} features: give one "
            "for each."
        )
    if not np.isfinite(features).all():
        raise ValueError(f"{judge.name}'s features of real images are not finite.")
    people = np.unique(labels)
    if not np.array_equal(people, np.arange(len(people))):
        raise ValueError(
            f"labels are of {len(people)} people up to {people[-1]}: number people "
            "from 0, each with an image."
        )
    sums = np.zeros((len(people), features.shape[1]), np.float64)
    np.add.at(sums, labels, features)
    return Gallery(judge, features, labels, _unit(sums).astype(np.float32))


def shared(judge: Provenance, target: Provenance) -> tuple[str, ...]:
    """Says what a judge has in common with the target: "design", "data", or neither."""
    common = []
    if judge.design == target.design:
        common.append("design")
    if judge.data & target.data:
        common.append("data")
    return tuple(common)


def verdict(
    values: Mapping[str, float], judges: Sequence[Judge], target: Provenance
) -> tuple[str, float]:
    """Returns the lowest value by a judge that shares nothing with the target.

    Args:
      values: by the judges' names.
      judges: all that were asked.
      target: what the attacked model is made of.

    Returns:
      The judge's name, and its value.

    Raises:
      ValueError: if each judge shares something.
    """
    unrelated = [judge.name for judge in judges if not shared(judge.provenance, target)]
    if not unrelated:
        raise ValueError(
            f"Of the judges {', '.join(judge.name for judge in judges)} each shares "
            f"its design or data with the target ({target.design}): add one that does "
            "not."
        )
    name = min(unrelated, key=lambda name: values[name])
    return name, values[name]


def _unit(features: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norms, 1e-12)


def _file_hash(path: str | pathlib.Path) -> bytes:
    return hashlib.sha256(pathlib.Path(path).read_bytes()).digest()


def _packaged_weights() -> pathlib.Path:
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "dlib's network needs the package face-recognition-models for its weights: "
            "install it, or leave this judge out."
        )
    folder = pathlib.Path(next(iter(spec.submodule_search_locations)))
    return folder / "models" / "dlib_face_recognition_resnet_model_v1.dat"
