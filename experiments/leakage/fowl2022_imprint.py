"""Imprint: a malicious server plants a layer, and reads large batches exactly.

Fowl, Geiping, Czaja, Goldblum, Goldstein. Robbing the fed: directly obtaining private
data in federated learning with modified models. ICLR 2022. arXiv:2110.13057. Its figure
of recovery by bins, beside the expected rate.

    python -m experiments fowl2022_imprint                   # 2 CPU cores, 1 min
    python -m experiments fowl2022_imprint --preset=paper    # 100 clients

Expected: of batches of 64, .016, .354, .731 and .930 exact at 16, 64, 256, 1,024 bins.
"""

import dataclasses

from experiments.harness import flags
from experiments.harness.curves import Curve
from experiments.harness.results import Metric, Record
from experiments.studies import leakage
from experiments.studies.leakage import Attack, Case, Model, Study
from mijax.attacks import imprint
from mijax.models.lenet import LeNet

BINS = 16, 64, 256, 1024
BATCH = 64
EXACT, EXPECTED = "exactly", "expected_of_equally_likely_bins"


def expected(study: Study, task: None) -> list[Record]:
    """The share of a batch that is expected to be alone in its bin."""
    del task
    return [
        Record(
            {"attack": EXPECTED, "bins": attack.labels["bins"], "criterion": EXACT},
            "success_rate",
            Metric(imprint.expected_rate(int(attack.labels["bins"]), BATCH)),
        )
        for attack in study.attacks.values()
    ]


QUICK = Study(
    title="Imprint: images read from a planted layer",
    cases=(Case("mnist", Model(LeNet), victims=16, batch=BATCH),),
    attacks={
        f"bins_{bins}": Attack(
            imprint,
            imprint.Config(),
            {"attack": "imprint", "bins": str(bins)},
            plant=lambda target, public, bins=bins: imprint.plant(target, public, bins),
        )
        for bins in BINS
    },
    caption=f"Images of a batch of {BATCH} by bins (exactly: squared error below 1e-8; "
    "closely: below 0.01)",
    table={"metric": ("success_rate", "psnr", "ssim")},
    rows=("attack", "bins"),
    columns=("metric", "criterion"),
    grid=("data",),
    contrast={"bins": "16"},
    criteria={EXACT: 1e-8, "closely": leakage.SUCCESS},
    more=expected,
    curves=(
        Curve(
            over="bins",
            records={"metric": "success_rate", "criterion": EXACT},
            lines=("attack",),
            axes={"xlabel": "bins", "ylabel": f"share of a batch of {BATCH}"},
        ),
    ),
    differences=(
        "bins have equal probability among public images; the paper fits a normal or "
        "Laplace distribution",
    ),
)
PAPER = dataclasses.replace(
    QUICK, cases=(dataclasses.replace(QUICK.cases[0], victims=100),)
)
main = leakage.main("fowl2022_imprint", quick=QUICK, paper=PAPER)

if __name__ == "__main__":
    flags.run(main)
