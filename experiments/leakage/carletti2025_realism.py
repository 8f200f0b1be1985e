"""How gradient leakage falls with the model's training and with local steps.

Carletti, Foggia, Mazzocca, Parrella, Vento. SoK: gradient inversion attacks in
federated learning. USENIX Security 2025: most results are of untrained models and of
single gradients, and real clients share neither. Inverting Gradients (arXiv:2003.14053)
attacks clients that were sent a model of a given age, and that share what some local
steps made of it; beside each row stands what it makes of another client's update.

    python -m experiments carletti2025_realism                   # 2 CPU cores, 6 min
    python -m experiments carletti2025_realism --preset=paper    # ConvNet64, for a GPU

Expected: an untrained model gives 19.5 dB (null 12.6, mean image 14.9); after the first
30 steps of training nothing is above the mean image, though all is above the null.
"""

import dataclasses
from collections.abc import Sequence

from experiments.harness import flags
from experiments.harness.curves import Curve
from experiments.studies import clients, leakage
from experiments.studies.leakage import Attack, Case, Study
from experiments.studies.sent_models import MODELS
from mijax.attacks import inverting_gradients
from mijax.federation import Recipe


def cases(
    network: str, victims: int, batch: int, ages: Sequence[int], steps: Sequence[int]
) -> tuple[Case, ...]:
    """Each age of a model, as each number of local steps leaves it; 0 is a gradient."""
    return tuple(
        Case(
            "cifar10_jpeg75",
            dataclasses.replace(MODELS[network], steps=age, published=None),
            victims,
            batch,
            {"network": network, "age": str(age), "local_steps": str(local)},
            recipe=Recipe(local_steps=local, learning_rate=0.01),
        )
        for age in ages
        for local in steps
    )


def attacks(config: inverting_gradients.Config) -> dict[str, Attack]:
    """Inverting Gradients of the client's own update, and of another's."""
    labels = {"attack": "inverting_gradients"}
    own = Attack(inverting_gradients, config, labels, frozenset({"public"}))
    others = dataclasses.replace(
        own, labels={**labels, "updates": "others"}, null="others"
    )
    return {"own": own, "others": others}


QUICK = Study(
    title="Gradient leakage by the age of the model and by local steps",
    cases=cases("convnet", 4, 2, (0, 30, 100, 1_000), (0, 2, 4)),
    attacks=attacks(inverting_gradients.Config(steps=200, tv_weight=(1e-3, 1e-2))),
    caption="PSNR in dB by the model's age (steps of training) and by local steps",
    table={"metric": ("psnr",)},
    rows=("local_steps", "attack", "updates"),
    columns=("age",),
    grid=("local_steps",),
    contrast={"age": "1000"},
    curves=(
        Curve(
            over="age",
            # A figure holds six lines; the table has the rest.
            records={"metric": "psnr", "local_steps": ("0", "4")},
            lines=("local_steps", "updates"),
            axes={
                "xlabel": "steps of training before the update",
                "ylabel": "PSNR, dB",
            },
            by=("network",),
        ),
    ),
    differences=(
        "a figure of our own, as the survey has none of this kind",
        "local steps are of the whole batch, so that their order does not count",
    ),
    caveats=(clients.LOSSY,),
)
PAPER = dataclasses.replace(
    QUICK,
    cases=cases("convnet64", 32, 4, (0, 100, 1_000, 10_000), (0, 2, 4, 8)),
    attacks=attacks(inverting_gradients.Config(restarts=4)),
)
main = leakage.main("carletti2025_realism", quick=QUICK, paper=PAPER)

if __name__ == "__main__":
    flags.run(main)
