"""Which recovered image of a batch is whose: a gradient says nothing of order.

The one place where a batch is put into the truth's order, by Hungarian assignment, so
that images and labels of it can be compared. It sees the truth: no attack may use it.

Letters: `V` victims, `B` examples of each.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from mijax.metrics import images

_WORST = 1e6  # what an image that is not finite costs; images in [0, 1] cost at most 1


class Matched(NamedTuple):
    """Each true image beside the recovered one that was assigned to it.

    Attributes:
      order: `x_hat[v, order[v, b]]` is the one for `x[v, b]`, `[V, B]`.
      x_hat: the recovered images in the truth's order, `[V, B, H, W, C]`.
      mse: of each pair, `[V, B]`; NaN where an image is not finite.
      psnr: in decibels, `[V, B]`.
      ssim: `[V, B]`.
    """

    order: np.ndarray
    x_hat: np.ndarray
    mse: np.ndarray
    psnr: np.ndarray
    ssim: np.ndarray


def match(x: np.ndarray, x_hat: np.ndarray) -> Matched:
    """Assigns recovered images to true ones so that their squared errors sum least.

    Args:
      x: true images `[V, B, H, W, C]` in [0, 1].
      x_hat: recovered ones, in any order within a victim's batch.

    Raises:
      ValueError: if the shapes differ or are not of that form.

    References:
      Kuhn. The Hungarian method for the assignment problem. 1955.
      doi:10.1002/nav.3800020109.
    """
    x, x_hat = np.asarray(x), np.asarray(x_hat)
    if x.ndim != 5 or x.shape != x_hat.shape:
        raise ValueError(
            f"x {x.shape} and x_hat {x_hat.shape} must be batches of images of one "
            "shape [V, B, H, W, C]"
        )
    order = np.stack(
        [_assign(true, found) for true, found in zip(x, x_hat, strict=True)]
    )
    arranged = np.take_along_axis(x_hat, order[:, :, None, None, None], axis=1)
    pairs = [jnp.asarray(a.reshape(-1, *a.shape[2:])) for a in (x, arranged)]
    small = min(x.shape[2:4]) < len(images.GAUSSIAN_11)
    window = images.UNIFORM_7 if small else images.GAUSSIAN_11
    distances = (images.mse(*pairs), images.psnr(*pairs), images.ssim(*pairs, window))
    each = (np.asarray(d).reshape(order.shape) for d in jax.device_get(distances))
    return Matched(order, arranged, *each)


def label_accuracy(labels: np.ndarray, labels_hat: np.ndarray) -> np.ndarray:
    """The share of each batch's labels that were recovered, as multisets.

    A label that occurs twice must be recovered twice.

    Args:
      labels: true classes `[V, B]`.
      labels_hat: recovered ones `[V, B]`, in any order.

    Returns:
      `[V]` in [0, 1].

    Raises:
      ValueError: if the shapes differ or are not `[V, B]`.
    """
    labels, labels_hat = np.asarray(labels), np.asarray(labels_hat)
    if labels.ndim != 2 or labels.shape != labels_hat.shape:
        raise ValueError(
            f"labels {labels.shape} and labels_hat {labels_hat.shape} must be of one "
            "shape [V, B]"
        )
    classes = np.union1d(labels, labels_hat)
    counts, counts_hat = (
        (each[:, :, None] == classes).sum(1) for each in (labels, labels_hat)
    )
    return np.minimum(counts, counts_hat).sum(1) / labels.shape[1]


def _assign(x: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
    a, b = (each.reshape(len(each), -1).astype(np.float64) for each in (x, x_hat))
    costs = ((a[:, None] - b[None]) ** 2).mean(2)
    costs = np.where(np.isfinite(costs), np.minimum(costs, _WORST), _WORST)
    return optimize.linear_sum_assignment(costs)[1]
