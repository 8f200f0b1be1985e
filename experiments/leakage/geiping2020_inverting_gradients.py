"""Inverting Gradients and its predecessors by batch size, network, age and mode.

Geiping, Bauermeister, Dröge, Moeller. Inverting gradients: how easy is it to break
privacy in federated learning? NeurIPS 2020. arXiv:2003.14053. Beside it DLG
(arXiv:1906.08935), iDLG (arXiv:2001.02610) and, where there is batch normalization,
GradInversion (arXiv:2104.07586), also with the batch's statistics shared.

    python -m experiments geiping2020_inverting_gradients    # 2 CPU cores, 40 min
    python -m experiments geiping2020_inverting_gradients --preset=paper    # for a GPU
    python -m experiments geiping2020_inverting_gradients --kind=networks   # 1.5 h

The last one attacks the paper's ConvNet64 and ResNet20-4, each image of a network of
its own, so that intervals are over both.

Expected: two untrained convolutions give 23 dB at batch 1 (mean image 13); a trained
ResNet-20 gives nothing that is better than the mean image.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from experiments.harness import flags
from experiments.harness.curves import Curve
from experiments.studies import clients, leakage
from experiments.studies.leakage import Attack, Case, Study
from experiments.studies.sent_models import MODELS
from mijax.attacks import dlg, grad_inversion, idlg, inverting_gradients

PLAIN = "dlg", "idlg", "inverting_gradients"
NORMALIZING = "convnet64", "resnet20", "resnet20_4", "resnet18"
NORMALIZED = "dlg", "inverting_gradients", "grad_inversion", "shared_statistics"
NEW = {"untrained": 0}
AGES = {**NEW, "trained": 1_000}
OLDER = {**NEW, "trained": 20_000}


def cases(
    network: str,
    batches: tuple[int, ...],
    images: int,
    *,
    attacks: tuple[str, ...] = PLAIN,
    ages: Mapping[str, int] = AGES,
) -> list[Case]:
    """A network by age (steps) and batch size, in each mode that it has."""
    return [
        Case(
            "cifar10_jpeg75",
            dataclasses.replace(MODELS[network], steps=steps),
            victims=max(images // batch, 1),
            batch=batch,
            labels={"network": network, "age": age, "batch": str(batch)},
            attacks=attacks,
            train=train,
        )
        for age, steps in ages.items()
        for batch in batches
        for train in ((True, False) if network in NORMALIZING else (True,))
    ]


def attacks(
    joint: dlg.Config,
    labeled: idlg.Config,
    cosine: inverting_gradients.Config,
    group: grad_inversion.Config,
) -> dict[str, Attack]:
    """All methods; iDLG is told the labels of batches above 1, where its rule fails."""

    def attack(method: Any, config: Any, *knows: str, **labels: str) -> Attack:
        name = method.__name__.rpartition(".")[2]
        return Attack(method, config, {"attack": name, **labels}, frozenset(knows))

    return {
        "dlg": attack(dlg, joint),
        "idlg": attack(idlg, labeled, "labels"),
        "inverting_gradients": attack(inverting_gradients, cosine, "public"),
        "grad_inversion": attack(grad_inversion, group),
        "shared_statistics": attack(
            grad_inversion, group, "statistics", shared="batch_statistics"
        ),
    }


QUICK = Study(
    title="Inverting Gradients: what batch size and training leave of the images",
    cases=(
        *cases("convnet", (1,), 32, attacks=("inverting_gradients",), ages=NEW),
        *cases("lenet", (1, 4, 16, 64), 8),
        *cases("resnet20", (1, 4), 4, attacks=NORMALIZED),
    ),
    attacks=attacks(
        dlg.Config(steps=50),
        idlg.Config(steps=50),
        inverting_gradients.Config(steps=300),
        grad_inversion.Config(steps=300, restarts=2),
    ),
    caption="PSNR in dB (mean image: no update needed) by batch size, the columns",
    table={"metric": ("psnr",)},
    rows=("network", "age", "mode", "attack", "shared"),
    columns=("batch",),
    grid=("network", "batch"),
    contrast={"network": "resnet20", "age": "trained", "mode": "training"},
    curves=(
        Curve(
            over="batch",
            records={"metric": "psnr", "mode": ("", "training")},
            lines=("attack", "shared"),
            axes={"xlabel": "batch size", "ylabel": "PSNR, dB"},
            by=("network", "age"),
        ),
    ),
    differences=(
        "iDLG is told the labels of batches above 1, where its rule fails, and is not "
        "judged by them; Inverting Gradients reads them from the last layer, with "
        "public images",
        "--preset=quick takes 50 steps of L-BFGS (up to 20 iterations each) and 300 of "
        "Adam where the papers take 300 and 24,000 with 8 restarts",
        "GradInversion takes a batch's labels to be distinct, as in the paper; its "
        "guesses are not registered to their consensus, and are 2 in --preset=quick: "
        "its paper's results are not reproduced",
    ),
    caveats=(clients.LOSSY,),
)
_OWN = Attack(
    inverting_gradients,
    inverting_gradients.Config(steps=250, restarts=2, tv_weight=4e-4),
    {"attack": "inverting_gradients"},
    frozenset({"public"}),
)
NETWORKS = dataclasses.replace(
    QUICK,
    title="Inverting Gradients: the paper's networks, several of them drawn",
    cases=tuple(
        dataclasses.replace(case, networks=case.victims)
        for train in (False, True)
        for name in ("convnet64", "resnet20_4")
        for case in cases(name, (1,), 3, attacks=(), ages=NEW)
        if case.train == train
    ),
    attacks={
        "own": _OWN,
        "others": dataclasses.replace(
            _OWN, labels={**_OWN.labels, "updates": "others"}, null="others"
        ),
    },
    caption="PSNR in dB, an image and a network for each client",
    rows=("network", "mode", "attack", "updates"),
    columns=("metric",),
    grid=("network", "mode"),
    contrast={"network": "resnet20_4"},
    curves=(),
    differences=(
        "250 steps and 2 restarts where the paper takes 24,000 and 8",
        "the paper's batch normalization is in inference mode; training mode is beside",
    ),
)
EVERY = (1, 2, 4, 8, 16, 32, 64)
PAPER = dataclasses.replace(
    QUICK,
    cases=(
        *cases("lenet", EVERY, 128, ages=OLDER),
        *itertools.chain.from_iterable(
            cases(name, EVERY, 128, attacks=NORMALIZED, ages=OLDER)
            for name in NORMALIZING
        ),
    ),
    attacks=attacks(
        dlg.Config(),
        idlg.Config(),
        inverting_gradients.Config(steps=24_000, restarts=8),
        grad_inversion.Config(steps=20_000, restarts=8),
    ),
)
main = leakage.main(
    "geiping2020_inverting_gradients",
    quick=QUICK,
    paper=PAPER,
    more={"networks": NETWORKS},
)

if __name__ == "__main__":
    flags.run(main)
