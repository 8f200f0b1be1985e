"""How a set of reconstructions lies among the real images, in one feature space.

Letters: `N` real images, `M` reconstructions, `D` features.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, logsumexp


class PRDC(NamedTuple):
    """Verdicts on each image; the mean of a field is the published metric."""

    precision: NDArray[np.float64]  # [M] 0/1: the fake lies in some real image's ball
    recall: NDArray[np.float64]  # [N] 0/1: the real image lies in some fake's ball
    density: NDArray[np.float64]  # [M] real balls around the fake, in units of k
    coverage: NDArray[np.float64]  # [N] 0/1: some fake lies in the real image's ball


def frechet_distance(real: ArrayLike, fake: ArrayLike) -> float:
    """Frechet distance between Gaussians fitted to the two sets of features.

    With Inception features it is the FID; a report names the features it used. It is
    biased upwards for small sets, so that only equal sizes compare.

    Args:
      real: features `[N, D]` of the private images.
      fake: features `[M, D]` of the reconstructions.

    Returns:
      `|mean - mean'|^2 + tr(S + S' - 2 (S S')^(1/2))`, in squared feature units.

    Raises:
      ValueError: a value is not finite, or a set has no more images than there are
        features: its covariance is then singular by construction, and the distance
        would measure the number of images.

    References:
      Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule.
      arXiv:1706.08500
    """
    real, fake = _check(real, fake)
    dimensions = real.shape[1]
    for name, features in (("real", real), ("fake", fake)):
        if len(features) <= dimensions:
            raise ValueError(
                f"{len(features)} {name} images cannot give a covariance of "
                f"{dimensions} features: give at least {dimensions + 1}, or project "
                "onto fewer features"
            )
    shift = real.mean(axis=0) - fake.mean(axis=0)
    covariance = np.atleast_2d(np.cov(real, rowvar=False))
    covariance_hat = np.atleast_2d(np.cov(fake, rowvar=False))
    # tr (S S')^(1/2) = tr (R S' R)^(1/2) with R = S^(1/2): symmetric, hence real.
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ covariance_hat @ root)
    overlap = np.sqrt(np.maximum(cross, 0)).sum()
    spread = np.trace(covariance) + np.trace(covariance_hat)
    return float(max(shift @ shift + spread - 2 * overlap, 0.0))


def inception_score(logits: ArrayLike) -> float:
    """How surely and how variedly a classifier sees classes in a set of images.

    With Inception's classes it is the published score; a report names the classifier.

    Args:
      logits: the classifier's of the reconstructions, `[M, K]`.

    Returns:
      `exp(mean KL(p(class | image) || mean p(class)))`, 1 to K.

    References:
      Salimans et al. 2016, Improved techniques for training GANs. arXiv:1606.03498
    """
    log_p = log_softmax(np.asarray(logits, np.float64), axis=1)
    log_mean = logsumexp(log_p, axis=0) - np.log(len(log_p))
    return float(np.exp(np.mean(np.sum(np.exp(log_p) * (log_p - log_mean), 1))))


def precision_recall_density_coverage(
    real: ArrayLike, fake: ArrayLike, k: int = 3
) -> PRDC:
    """Fidelity and diversity by balls that reach each image's k-th neighbor.

    The ball of an image reaches its k-th nearest other image of its own set, the rim
    excluded.

    Args:
      real: features `[N, D]` of the private images.
      fake: features `[M, D]` of the reconstructions.
      k: which neighbor sets the radius; 3 or 5 in the literature.

    Returns:
      A verdict for each image; take means.

    Raises:
      ValueError: a value is not finite, or a set has no k-th neighbor.

    References:
      Kynkaanniemi et al. 2019, Improved Precision and Recall Metric. arXiv:1904.06991
      Naeem et al. 2020, Reliable Fidelity and Diversity Metrics. arXiv:2002.09797
    """
    real, fake = _check(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(
            f"k = {k} needs more than k images in each set: got {len(real)} real and "
            f"{len(fake)} fake"
        )

    def radii(features):
        return np.partition(cdist(features, features), k, axis=1)[:, k]

    distances = cdist(real, fake)  # [N, M]
    in_real_ball = distances < radii(real)[:, None]
    in_fake_ball = distances < radii(fake)[None, :]
    return PRDC(
        precision=np.asarray(in_real_ball.any(axis=0), np.float64),
        recall=np.asarray(in_fake_ball.any(axis=1), np.float64),
        density=in_real_ball.sum(axis=0) / k,
        coverage=np.asarray(in_real_ball.any(axis=1), np.float64),
    )


def _check(real, fake):
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"real {real.shape} and fake {fake.shape} must be [N, D] and [M, D], of "
            "one feature space"
        )
    for name, features in (("real", real), ("fake", fake)):
        finite = np.isfinite(features).all(axis=1).sum()
        if finite < len(features):
            raise ValueError(
                f"{name} features are finite for {finite} of {len(features)} images: "
                "a set with holes has no distribution"
            )
    return real, fake
