"""DLG, iDLG, Inverting Gradients and GradInversion by batch size, trained or not.

GradInversion is where there is batch normalization: once it knows no more than the
others, once each client shares its batch's statistics as well.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import figures, report
from experiments.leakage import clients, networks, verdicts
from experiments.leakage.clients import Clients
from experiments.leakage.networks import Sent
from experiments.leakage.part import Part, Run
from experiments.leakage.recovery import Attack, Setting
from mijax import data
from mijax.attacks import dlg, grad_inversion, idlg, inverting_gradients
from mijax.federation import Recipe

_TITLES = {
    "dlg": "DLG",
    "idlg": "iDLG",
    "inverting_gradients": "Inverting Gradients",
    "grad_inversion": "GradInversion",
    "grad_inversion_shared": "GradInversion, shared statistics",
}
_WITHOUT_NORMALIZATION = "dlg", "idlg", "inverting_gradients"
_WITH_NORMALIZATION = (
    *("dlg", "inverting_gradients", "grad_inversion", "grad_inversion_shared"),
)
_TRAINING = "train[:10000]"
_PUBLIC = 64  # public images behind the rules for labels


@dataclasses.dataclass(frozen=True)
class Row:
    """One network, at some batch sizes.

    Attributes:
      network: of `networks.MODULES`.
      batches: the batch sizes.
      images: how many are attacked at each; at least one batch.
      attacks: which ones.
      trained: whether the trained network is attacked as well.
    """

    network: str
    batches: tuple[int, ...]
    images: int
    attacks: tuple[str, ...] = _WITHOUT_NORMALIZATION
    trained: bool = True


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large this figure is.

    Attributes:
      rows: what is attacked.
      training: steps of the networks that we train.
      joint: DLG's hyper-parameters.
      labeled: iDLG's.
      cosine: those of Inverting Gradients.
      group: those of GradInversion.
    """

    rows: tuple[Row, ...] = (
        Row("convnet", (1,), 32, ("inverting_gradients",), trained=False),
        Row("lenet", (1, 4, 16, 64), 8),
        Row("resnet20", (1, 4), 4, _WITH_NORMALIZATION),
    )
    training: int = 1000
    joint: dlg.Config = dlg.Config(steps=50)
    labeled: idlg.Config = idlg.Config(steps=50)
    cosine: inverting_gradients.Config = inverting_gradients.Config(steps=300)
    group: grad_inversion.Config = grad_inversion.Config(steps=300, restarts=2)


_EVERY = (1, 2, 4, 8, 16, 32, 64)
PAPER_SIZES = Sizes(
    rows=(
        *(Row(name, _EVERY, 128) for name in ("convnet", "lenet")),
        *(
            Row(name, _EVERY, 128, _WITH_NORMALIZATION)
            for name in ("resnet20", "resnet18")
        ),
    ),
    training=20_000,
    joint=dlg.Config(),
    labeled=idlg.Config(),
    cosine=inverting_gradients.Config(steps=24_000, restarts=8),
    group=grad_inversion.Config(steps=20_000, restarts=8),
)


def figure(run: Run, sizes: Sizes) -> Part:
    """Attacks every network at every batch size by every method."""
    part = Part()
    loaded = clients.load("cifar10_jpeg75", run.data_dir)
    lines = []
    for row in sizes.rows:
        shown = {}
        for state, sent in models(run, row, sizes, loaded).items():
            for batch in row.batches:
                victims = clients.choose(
                    loaded, max(row.images // batch, 1), batch, run.seed
                )
                group = f"{row.network}_{state}/batch_{batch}"
                bare = part.add_baselines(run.key, victims, group)
                baseline, _ = verdicts.compare(victims, bare["mean_image"])
                for setting in settings(group, row, sizes, sent, victims):
                    found = run.recover(victims, setting)
                    part.add(victims, setting, found, baseline)
                    lines.append(line(part, setting))
                    shown[setting.name] = (victims, found["x"])
            if sent.hits is not None:
                name = f"target_test_accuracy/{row.network}_{state}"
                part.metrics[name] = report.metric(sent.hits)
        part.pictures += draw(run, row, shown)
        if len(row.batches) > 1:
            states = ("untrained", "trained") if row.trained else ("untrained",)
            part.pictures += [curves(run, row, part, state) for state in states]
    part.tables.append(
        report.Table("Recovery by batch size, beside the mean image", COLUMNS, lines)
    )
    part.attacked.append(
        "Gradients of CIFAR-10 batches from "
        + ", ".join(networks.TITLES[row.network] for row in sizes.rows)
        + "; batch normalization by running statistics, or by the batch's where these "
        "are shared."
    )
    part.caveats.append(clients.LOSSY)
    part.differences += DIFFERENCES
    return part


def models(run: Run, row: Row, sizes: Sizes, test: data.Dataset) -> dict[str, Sent]:
    """The network without training and, if the row asks for it, with it."""
    key = jax.random.fold_in(run.key, list(networks.MODULES).index(row.network))
    sent = {"untrained": networks.untrained(key, row.network, test.images.shape[1:])}
    if row.trained:
        train = clients.load("cifar10_jpeg75", run.data_dir, _TRAINING)
        sent["trained"] = networks.trained(
            key,
            row.network,
            train,
            dataclasses.replace(
                test, images=test.images[:1000], labels=test.labels[:1000]
            ),
            steps=sizes.training,
            workdir=run.workdir,
            data_dir=run.data_dir,
        )
    return sent


def settings(
    group: str, row: Row, sizes: Sizes, sent: Sent, victims: Clients
) -> list[Setting]:
    """The attacks of a row; iDLG is told the labels of batches above 1."""
    attacks: dict[str, tuple[Attack, Any]] = {
        "dlg": (dlg.attack, sizes.joint),
        "idlg": (idlg.attack, sizes.labeled),
        "inverting_gradients": (inverting_gradients.attack, sizes.cosine),
        "grad_inversion": (grad_inversion.attack, sizes.group),
        "grad_inversion_shared": (grad_inversion.attack, sizes.group),
    }
    shared = Recipe(train=True, share_statistics=True)
    return [
        Setting(
            f"{group}/{name}",
            attacks[name][0],
            attacks[name][1],
            sent.target,
            shared if name == "grad_inversion_shared" else Recipe(),
            auxiliary={"public": jnp.asarray(victims.public[:_PUBLIC])},
            labels_known=name == "idlg" and victims.labels.shape[1] > 1,
        )
        for name in row.attacks
    ]


COLUMNS = (
    *("network", "batch", "attack", "PSNR", "mean image", "SSIM", "success", "labels"),
)


def line(part: Part, setting: Setting) -> list:
    """A line of the table."""
    network, batch, attack = setting.name.split("/")
    psnr = part.metrics[f"psnr/{setting.name}"]
    return [
        network.replace("_", ", "),
        int(batch.removeprefix("batch_")),
        _TITLES[attack],
        psnr.value,
        psnr.baseline,
        *(
            part.value(f"{m}/{setting.name}")
            for m in ("ssim", "success_rate", "label_accuracy")
        ),
    ]


def draw(run: Run, row: Row, shown: dict) -> list[report.Picture]:
    """The first images of each batch size, beside what was recovered of them."""
    pictures = []
    for batch in row.batches:
        rows = []
        for name, (victims, x_hat) in shown.items():
            network, size, attack = name.split("/")
            if size == f"batch_{batch}":
                _, matched = verdicts.compare(victims, x_hat)
                flat = (a.reshape(-1, *victims.shape) for a in (victims.x, matched))
                true, found = (a[: run.shown] for a in flat)
                state = network.rpartition("_")[2]
                rows = rows or [("true", true)]
                rows.append((f"{_TITLES[attack]}, {state}", found))
        path = run.path(f"{row.network}_batch_{batch}")
        figures.image_grid(rows, path, tile=64)
        pictures.append(
            report.Picture(
                path,
                f"{networks.TITLES[row.network]}, batches of {batch}: the first "
                f"{len(rows[0][1])} images, none chosen; a batch is put in the truth's "
                "order.",
            )
        )
    return pictures


def curves(run: Run, row: Row, part: Part, state: str) -> report.Picture:
    """PSNR by batch size, of the network in one state."""

    def psnr(attack: str) -> np.ndarray:
        names = (f"psnr/{row.network}_{state}/batch_{b}/{attack}" for b in row.batches)
        return np.array([part.value(name) for name in names])

    path = run.path(f"{row.network}_{state}_by_batch_size")
    figures.lines(
        row.batches,
        {_TITLES[attack]: psnr(attack) for attack in row.attacks}
        | {"mean image": psnr("mean_image")},
        path,
        xlabel="batch size",
        ylabel="PSNR, dB",
        log_x=True,
    )
    return report.Picture(
        path,
        f"{networks.TITLES[row.network]}, {state}: mean of {row.images} images, or of "
        "one batch.",
    )


DIFFERENCES = (
    "batch size: iDLG is told the labels of batches above 1, where its rule fails, and "
    "is not judged by them; Inverting Gradients reads them from the last layer, with "
    "public images",
    "batch size: --preset=quick takes 50 steps of L-BFGS (up to 20 iterations each) "
    "and 300 of Adam where the papers take 300 and 24,000 with 8 restarts",
    "batch size: GradInversion takes a batch's labels to be distinct, as in the paper; "
    "its guesses are not registered to their consensus, and are 2 in --preset=quick",
)
