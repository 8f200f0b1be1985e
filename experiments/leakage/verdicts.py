"""How close recovered images are, beside what needs no update.

One attempt is one image. It succeeds if its squared error is below `SUCCESS`, CPL's
criterion; an attempt that is not finite is a failure, and counts.
"""

import jax
import numpy as np

from experiments.harness import report
from experiments.leakage.clients import Clients
from mijax.metrics import matching

SUCCESS = 0.01
PERFECT = {"success_rate": 1.0, "mse": 0.0, "psnr": None, "ssim": 1.0}
FAILED = {"success_rate": 0.0, "mse": 1.0, "psnr": 0.0, "ssim": 0.0}
BASELINE = (
    "the mean of public images (of faces: of other people), alike for everyone; of "
    "labels: as many of each class."
)
PRECISION = (
    "All is computed in float32, which is enough: recovered images come within 1e-5 of "
    "the mean squared error, three orders below what counts as success."
)

Values = dict[str, np.ndarray]


def without_update(key: jax.Array, clients: Clients) -> dict[str, np.ndarray]:
    """Images that need no update, `[V, B, H, W, C]`: public mean, a prior's sample."""
    images = {"mean_image": np.broadcast_to(clients.public.mean(0), clients.x.shape)}
    if (prior := clients.load_prior()) is not None:
        number = int(np.prod(clients.x.shape[:2]))
        z = prior.sample(key, number)
        images["prior_sample"] = np.asarray(prior.images(z)).reshape(clients.x.shape)
    return images


def compare(clients: Clients, x_hat: np.ndarray) -> tuple[Values, np.ndarray]:
    """Each metric of each image, `[V * B]`, and the images in the truth's order."""
    matched = matching.match(clients.x, x_hat)
    values = {name: getattr(matched, name).ravel() for name in ("mse", "psnr", "ssim")}
    values["success_rate"] = (values["mse"] < SUCCESS).astype(float)
    return values, matched.x_hat


def lines(
    clients: Clients,
    x_hat: np.ndarray,
    variant: str,
    baseline: Values | None,
    paper: float | None = None,
) -> dict[str, report.Metric]:
    """The result's lines of one set of recovered images.

    Args:
      clients: the truth.
      x_hat: `[V, B, H, W, C]`.
      variant: of the metrics' names.
      baseline: the values of the mean image; None for what needs no update itself.
      paper: the published success rate.
    """
    victims = np.repeat(np.arange(len(clients.x)), clients.x.shape[1])
    values, _ = compare(clients, x_hat)
    return {
        f"{name}/{variant}": report.metric(
            each,
            clusters=victims,
            failure=FAILED[name],
            baseline=None if baseline is None else baseline[name],
            perfect=None if baseline is None else PERFECT[name],
            paper=paper if name == "success_rate" else None,
        )
        for name, each in values.items()
    }


def label_lines(
    clients: Clients, labels: np.ndarray, variant: str
) -> dict[str, report.Metric]:
    """The share of labels recovered, beside naming all classes equally often.

    Where B is no multiple of K such a guess depends on the class that it begins with:
    the baseline is the mean over all.
    """
    accuracy = matching.label_accuracy(clients.labels, labels)
    first, position = np.ogrid[: clients.num_classes, : labels.shape[1]]
    balanced = [
        matching.label_accuracy(clients.labels, np.broadcast_to(guess, labels.shape))
        for guess in (first + position) % clients.num_classes
    ]
    line = report.metric(accuracy, baseline=balanced, perfect=1.0)
    return {f"label_accuracy/{variant}": line}


def steps_of_the_fall(trace: np.ndarray, share: float = 0.999) -> np.ndarray:
    """Steps until an attack's own loss has fallen by `share` of all it falls, `[V]`.

    Args:
      trace: the loss of each step, `[V, steps + 1]`; where it is not finite it counts
        as not fallen.
      share: of the fall.
    """
    trace = np.where(np.isfinite(trace), trace, np.inf)
    least = np.minimum.accumulate(trace, 1)
    enough = least[:, :1] - share * (least[:, :1] - least[:, -1:])
    return np.argmax(least <= enough, 1)


def psnr(clients: Clients, x_hat: np.ndarray) -> np.ndarray:
    """PSNR of each image in its best order, `[V * B]`."""
    return compare(clients, x_hat)[0]["psnr"]
