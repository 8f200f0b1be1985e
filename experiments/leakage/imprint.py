"""A malicious server's recovery of large batches, by the bins that it plants."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from experiments.harness import figures, report
from experiments.leakage import clients, verdicts
from experiments.leakage.clients import Clients
from experiments.leakage.part import Part, Run
from experiments.leakage.recovery import Setting
from mijax.attacks import imprint
from mijax.core import Target
from mijax.models import initialization
from mijax.models.lenet import LeNet

EXACT = 1e-8  # squared error of a pixel


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large this figure is.

    Attributes:
      bins: to plant.
      batch: images of each client.
      victims: clients.
    """

    bins: tuple[int, ...] = (16, 64, 256, 1024)
    batch: int = 64
    victims: int = 16


PAPER_SIZES = Sizes(victims=100)


def figure(run: Run, sizes: Sizes) -> Part:
    """Attacks MNIST batches through each number of bins."""
    part, found = Part(), {}
    loaded = clients.load("mnist", run.data_dir)
    victims = clients.choose(loaded, sizes.victims, sizes.batch, run.seed)
    bare = part.add_baselines(run.key, victims, "imprint")
    baseline, _ = verdicts.compare(victims, bare["mean_image"])
    honest = LeNet(victims.num_classes)
    variables = initialization.initialize(run.key, honest, victims.shape)
    target = Target.from_linen(honest, variables, victims.shape)
    for bins in sizes.bins:
        planted = imprint.plant(target, jnp.asarray(victims.public), bins)
        name = f"imprint/bins_{bins}"
        setting = Setting(name, imprint.attack, imprint.Config(), planted)
        found[bins] = run.recover(victims, setting)
        part.add(victims, setting, found[bins], baseline)
        part.metrics[f"success_rate/{name}-exact"] = exact(victims, found[bins]["x"])
    part.pictures += draw(run, victims, sizes, part, found)
    part.tables.append(
        report.Table(
            f"Images of a batch of {sizes.batch} recovered exactly "
            f"(MSE below {EXACT:g})",
            ("bins", "recovered", "expected, equally likely bins"),
            [[b, *rates(part, sizes, b)] for b in sizes.bins],
        )
    )
    part.attacked.append(
        f"MNIST batches of {sizes.batch}, {sizes.victims} clients, through a LeNet-5 "
        "behind a planted layer: the server is malicious."
    )
    part.differences.append(
        "imprint: bins have equal probability among public images; the paper fits a "
        "normal or Laplace distribution"
    )
    return part


def exact(victims: Clients, x_hat: np.ndarray) -> report.Metric:
    """The share of images recovered exactly; those of one batch are a cluster."""
    values, _ = verdicts.compare(victims, x_hat)
    hits = (values["mse"] < EXACT).astype(float)
    clusters = np.repeat(np.arange(len(victims.x)), victims.x.shape[1])
    return report.metric(hits, clusters=clusters, baseline=0.0, perfect=1.0)


def rates(part: Part, sizes: Sizes, bins: int) -> tuple[float | None, float]:
    """The measured and the expected share."""
    measured = part.value(f"success_rate/imprint/bins_{bins}-exact")
    return measured, imprint.expected_rate(bins, sizes.batch)


def draw(
    run: Run, victims: Clients, sizes: Sizes, part: Part, found: dict
) -> list[report.Picture]:
    """Recovery against bins, and the first images of the first client."""
    path = run.path("imprint_by_bins")
    measured = [
        part.metrics[f"success_rate/imprint/bins_{b}-exact"] for b in sizes.bins
    ]
    figures.lines(
        sizes.bins,
        {
            "recovered exactly": np.array(
                [(m.value, m.low, m.high) for m in measured], np.float64
            ),
            "expected": [rates(part, sizes, b)[1] for b in sizes.bins],
        },
        path,
        xlabel="bins",
        ylabel=f"share of a batch of {sizes.batch}",
        log_x=True,
    )
    rows = [("true", victims.x[0, : run.shown])]
    for bins, each in found.items():
        _, matched = verdicts.compare(victims, each["x"])
        rows.append((f"{bins} bins", matched[0, : run.shown]))
    grid = run.path("imprint_digits")
    figures.image_grid(rows, grid, tile=64)
    return [
        report.Picture(path, "95 % intervals over clients."),
        report.Picture(
            grid,
            f"The first {len(rows[0][1])} images of the first client, none chosen.",
        ),
    ]
