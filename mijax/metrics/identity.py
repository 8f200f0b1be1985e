"""Is it the right person? Verdicts of an evaluator on each reconstruction.

Letters: `B` reconstructions, `K` classes, `D` features, `N` reference images (the
private ones, or those of everyone). Features come from an evaluation model, never from
the attacked one. A reconstruction whose features or logits hold a NaN has no verdict:
its value is NaN, for the report to count. A reference with a NaN raises.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist


def top_k(logits: ArrayLike, labels: ArrayLike, k: int) -> NDArray[np.float64]:
    """Whether the label is among the evaluator's `k` highest classes.

    A tie counts against the attack: an evaluator that says nothing confirms nothing.

    Args:
      logits: `[B, K]`, any increasing function of the evaluator's confidence.
      labels: `[B]`, the class each reconstruction was made for.
      k: how many guesses the evaluator has.

    Returns:
      `[B]` of 0 and 1.

    Raises:
      ValueError: shapes do not match, a label is not in [0, K), or k not in [1, K].
    """
    logits = np.asarray(logits)
    labels = _labels(labels, "labels", len(logits))
    if logits.ndim != 2:
        raise ValueError(f"logits have shape {logits.shape}: give [B, K]")
    classes = logits.shape[1]
    if not 1 <= k <= classes:
        raise ValueError(f"k = {k} must be between 1 and the {classes} classes")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"labels from {labels.min()} to {labels.max()} are not all among the "
            f"{classes} classes of the logits"
        )
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    rank = np.sum(logits >= own, axis=1)
    return np.where(np.isnan(logits).any(axis=1), np.nan, rank <= k)


def any_of_k(hits: ArrayLike) -> NDArray[np.float64]:
    """Whether any of an identity's `k` restarts hit: not top-k, and easier.

    Its mean is the share of identities found at least once by someone who looks at all
    `k` reconstructions and is told which is right.

    Args:
      hits: `[I, k]` of 0 and 1, the verdicts on the k restarts for each identity.

    Returns:
      `[I]` of 0 and 1.

    Raises:
      ValueError: hits is not `[I, k]` with k of at least one.
    """
    hits = np.asarray(hits, np.float64)
    if hits.ndim != 2 or not hits.shape[1]:
        raise ValueError(f"hits have shape {hits.shape}: give [I, k]")
    return hits.max(axis=1)


def knn_distance(
    features: ArrayLike,
    reference: ArrayLike,
    labels: ArrayLike,
    reference_labels: ArrayLike,
) -> NDArray[np.float64]:
    """Squared L2 distance to the nearest private image of the same person.

    Args:
      features: `[B, D]` of the reconstructions.
      reference: `[N, D]` of the private images.
      labels: `[B]`, the person each reconstruction was made for.
      reference_labels: `[N]`, the person on each private image.

    Returns:
      `[B]`, in squared units of the features.

    Raises:
      ValueError: shapes do not match, the reference is not finite, or a label has no
        reference image.

    References:
      Zhang et al. 2020, The Secret Revealer. arXiv:1911.07135
    """

    def nearest(own, others):
        return cdist(own, others, "sqeuclidean").min(axis=1)

    return _per_label(nearest, features, reference, labels, reference_labels)


def feature_distance(
    features: ArrayLike,
    reference: ArrayLike,
    labels: ArrayLike,
    reference_labels: ArrayLike,
) -> NDArray[np.float64]:
    """Squared L2 distance to the centroid of the same person's private images.

    Args:
      features: `[B, D]` of the reconstructions.
      reference: `[N, D]` of the private images.
      labels: `[B]`, the person each reconstruction was made for.
      reference_labels: `[N]`, the person on each private image.

    Returns:
      `[B]`, in squared units of the features.

    Raises:
      ValueError: shapes do not match, the reference is not finite, or a label has no
        reference image.

    References:
      Zhang et al. 2020, The Secret Revealer. arXiv:1911.07135
    """

    def centroid(own, others):
        return np.square(own - others.mean(axis=0)).sum(axis=1)

    return _per_label(centroid, features, reference, labels, reference_labels)


def nearest_neighbor(
    features: ArrayLike, reference: ArrayLike, reference_labels: ArrayLike
) -> NDArray[np.integer]:
    """The person on the reference image that lies nearest in feature space.

    Args:
      features: `[B, D]`, all finite.
      reference: `[N, D]`, at best of everyone and not of the private people alone.
      reference_labels: `[N]`, the person on each reference image.

    Returns:
      `[B]`, each one of `reference_labels`; of equally near images the first wins.

    Raises:
      ValueError: shapes do not match, or anything is not finite.
    """
    from sklearn.metrics import pairwise_distances_argmin  # Late: it takes a second.

    features, reference, reference_labels = _spaces(
        features, reference, reference_labels
    )
    if not np.isfinite(features).all():
        raise ValueError("features are not finite: no image is nearest to a NaN")
    if not len(features):
        return reference_labels[:0]
    return reference_labels[pairwise_distances_argmin(features, reference)]


def identity_1nn(
    features: ArrayLike,
    reference: ArrayLike,
    labels: ArrayLike,
    reference_labels: ArrayLike,
) -> NDArray[np.float64]:
    """Whether the nearest reference image shows the person who was attacked.

    The reference should hold everyone, private and public: the more people it could be
    mistaken for, the harder an adversarial texture is taken for a likeness.

    Args:
      features: `[B, D]` of the reconstructions.
      reference: `[N, D]` of the reference images.
      labels: `[B]`, the person each reconstruction was made for.
      reference_labels: `[N]`, the person on each reference image.

    Returns:
      `[B]` of 0 and 1.

    Raises:
      ValueError: shapes do not match, the reference is not finite, or a label has no
        reference image.
    """
    features = np.asarray(features, np.float64)
    labels = _labels(labels, "labels", len(features))
    _check_present(labels, np.asarray(reference_labels))
    verdicts = np.full(len(features), np.nan)
    finite = np.isfinite(features).all(axis=1)
    predicted = nearest_neighbor(features[finite], reference, reference_labels)
    verdicts[finite] = predicted == labels[finite]
    return verdicts


def _per_label(distance, features, reference, labels, reference_labels):
    features, reference, reference_labels = _spaces(
        features, reference, reference_labels
    )
    labels = _labels(labels, "labels", len(features))
    _check_present(labels, reference_labels)
    distances = np.empty(len(features))
    for label in np.unique(labels):
        rows = labels == label
        distances[rows] = distance(features[rows], reference[reference_labels == label])
    return np.where(np.isfinite(features).all(axis=1), distances, np.nan)


def _spaces(features, reference, reference_labels):
    features = np.asarray(features, np.float64)
    reference = np.asarray(reference, np.float64)
    if features.ndim != 2 or reference.ndim != 2:
        raise ValueError(
            f"features {features.shape} and reference {reference.shape} must be "
            "[B, D] and [N, D]: flatten them first"
        )
    if features.shape[1] != reference.shape[1]:
        raise ValueError(
            f"features of {features.shape[1]} dimensions cannot be compared with a "
            f"reference of {reference.shape[1]}: use one evaluator for both"
        )
    if not len(reference):
        raise ValueError("the reference holds no image")
    if not np.isfinite(reference).all():
        raise ValueError("the reference is not finite: check the evaluator's features")
    return (
        features,
        reference,
        _labels(reference_labels, "reference_labels", len(reference)),
    )


def _labels(labels, name, count):
    labels = np.asarray(labels)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{name} are {labels.dtype} of shape {labels.shape}: give integers of "
            f"shape ({count},)"
        )
    return labels


def _check_present(labels, reference_labels):
    absent = np.setdiff1d(labels, reference_labels)
    if len(absent):
        raise ValueError(
            f"{len(absent)} labels have no reference image (first: {absent[0]}): a "
            "distance to nobody is not a distance"
        )
