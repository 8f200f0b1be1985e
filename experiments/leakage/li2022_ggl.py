"""Defenses of updates against adversaries who know of them, and what they cost.

Li, Zhang, Liu, Liu. Auditing privacy defenses in federated learning via generative
gradient leakage. CVPR 2022. arXiv:2203.15696. Five adversaries attack each defended
update: a naive one matches it by CPL as if it were a gradient; an adaptive one matches
by CPL only what is shared (numbers that are not zero) and only their direction, as what
clipping, pruning and Soteria leave is exact; the third searches a generator by GGL; the
fourth knows each defense's density (Bayes-optimal, Balunovic et al. ICLR 2022), and the
fifth is trained through the defense (Learning to Invert, Wu et al. UAI 2023). Beside
that last one stands what it makes of another client's update.

    python -m experiments li2022_ggl                         # 2 CPU cores, 70 min
    python -m experiments li2022_ggl --defenses=prune        # one defense
    python -m experiments li2022_ggl --preset=paper          # 100 victims, for a GPU

Expected: noise of .1, pruning of 99 % and signs hide everything from CPL; GGL still
finds faces at 18 dB (mean image 17.2), but for DP-SGD of multiplier .1 and more. Who
knows the density of noise of .01 has 27 to 28 dB, where naive CPL has .7 of the images
through Gaussian noise and none through Laplace noise.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.harness import flags
from experiments.harness.curves import Curve
from experiments.harness.results import Metric, Record
from experiments.studies import leakage
from experiments.studies.leakage import Attack, Case, Defended, Model, Study
from experiments.studies.utility import Task
from mijax.attacks import bayes_optimal, cpl, ggl, learning_to_invert
from mijax.attacks.leakage import gradient_distance, initial_images
from mijax.attacks.leakage.bayes_optimal import Density
from mijax.data import TrainTest
from mijax.defenses import (
    Defense,
    clipping,
    dp_sgd,
    noise,
    pruning,
    quantization,
    soteria,
)
from mijax.models.strided import cpl_lenet

_DELTA = 1e-5
_SCALE = 100.0  # of the cosine, so that L-BFGS does not stop at its tolerances
Make = Callable[[float, int], Defense]
Seen = Callable[[float], Density]

# What the strength is, the strengths from weak to strong, and the defense of a strength
# and a batch size, with its density for who attacks a batch of 1.
KINDS: dict[str, tuple[str, tuple[float, ...], Make, Seen]] = {
    "gaussian": (
        "deviation",
        (1e-4, 1e-3, 1e-2, 1e-1),
        lambda s, _: noise.gaussian(s),
        bayes_optimal.gaussian,
    ),
    "laplace": (
        "scale",
        (1e-4, 1e-3, 1e-2, 1e-1),
        lambda s, _: noise.laplace(s),
        bayes_optimal.laplace,
    ),
    "clip_examples": (
        "norm",
        (1.0, 0.1),
        lambda s, _: clipping.clip_examples(s),
        lambda s: bayes_optimal.clipped(s, bayes_optimal.exact()),
    ),
    "prune": (
        "pruned",
        (0.2, 0.5, 0.9, 0.99),
        lambda s, _: pruning.prune(s),
        lambda _: bayes_optimal.pruned(),
    ),
    "prune_layers": (
        "pruned",
        (0.5, 0.9),
        lambda s, _: pruning.prune_layers(s),
        lambda _: bayes_optimal.pruned(layers=True),
    ),
    "stochastic": (
        "levels",
        (16, 1),
        lambda s, _: quantization.stochastic(s),
        lambda s: bayes_optimal.rounded(float(s)),
    ),
    "sign": (
        "",
        (0.0,),
        lambda *_: quantization.sign(),
        lambda _: bayes_optimal.signs(),
    ),
    # Of one image: a mask costs a gradient for each feature of each image.
    "soteria": (
        "hidden",
        (0.2, 0.4, 0.8),
        lambda s, _: soteria.soteria(s, examples=1),
        lambda _: bayes_optimal.shown(),
    ),
    "dp_sgd": (
        "noise multiplier",
        (0.01, 0.1, 1.0),
        lambda s, batch: dp_sgd.dp_sgd(1.0, s, batch),
        lambda s: bayes_optimal.clipped(1.0, bayes_optimal.gaussian(s)),
    ),
}


def defended() -> tuple[Defended, ...]:
    """No defense, and each at each strength; pictures are of its middle one."""
    return Defended(labels={"defense": "none"}), *(
        Defended(
            lambda batch, make=make, strength=strength: make(strength, batch),
            {"defense": name} | ({"strength": f"{strength:g}"} if unit else {}),
            shown=strength == strengths[len(strengths) // 2],
            density=lambda batch, seen=seen, strength=strength: seen(strength),
        )
        for name, (unit, strengths, make, seen) in KINDS.items()
        for strength in strengths
    )


def of_what_is_shared(update: object, observed: object) -> jax.Array:
    """One minus the cosine over the numbers that are not zero, scaled."""
    shared = jax.tree.map(lambda u, o: jnp.where(o == 0, 0, u), update, observed)
    return _SCALE * gradient_distance.cosine(shared, observed)


def attacks(
    matching: cpl.Config,
    generator: ggl.Config,
    likeliest: bayes_optimal.Config,
    learned: learning_to_invert.Config,
) -> dict[str, Attack]:
    """Who attacks, by name; some only where a prior of such images ships."""
    naive = dataclasses.replace(matching, seed=initial_images.Patterned())
    adaptive = dataclasses.replace(naive, distance=of_what_is_shared)
    knows = frozenset({"prior", "public"})
    trained = Attack(
        learning_to_invert,
        learned,
        {"attack": "learning_to_invert", "adversary": "trained"},
        frozenset({"prior", "defense"}),
        against=("none", *(kind for kind in KINDS if kind != "soteria")),
    )
    return {
        "naive": Attack(cpl, naive, {"attack": "cpl", "adversary": "naive"}),
        "adaptive": Attack(cpl, adaptive, {"attack": "cpl", "adversary": "adaptive"}),
        "generator": Attack(
            ggl, generator, {"attack": "ggl", "adversary": "generator"}, knows
        ),
        "bayes": Attack(
            bayes_optimal,
            likeliest,
            {"attack": "bayes_optimal", "adversary": "bayes"},
            frozenset({"public", "density"}),
        ),
        "trained": trained,
        "trained_null": dataclasses.replace(
            trained,
            labels={**trained.labels, "adversary": "trained_null", "updates": "others"},
            null="others",
            against=("none", "gaussian", "prune"),
        ),
    }


def epsilons(study: Study, images: TrainTest) -> list[Record]:
    """DP-SGD's epsilon of one update and of the task, where an accountant says."""
    task = study.task or Task()
    sampled = task.batch_size / len(images.train)
    records = []
    for each in study.defenses:
        if each.labels["defense"] != "dp_sgd":
            continue
        for of, seen in ("one_update", (1.0, 1)), ("training", (sampled, task.steps)):
            try:
                strength = float(each.labels["strength"])
                epsilon = dp_sgd.epsilon(strength, *seen, _DELTA)
            except ModuleNotFoundError:
                return []
            if math.isfinite(epsilon):
                own = {**each.labels, "of": of}
                records.append(Record(own, "epsilon", Metric(epsilon)))
    return records


QUICK = Study(
    title="Defenses of updates: what they hide, and what they cost",
    cases=(Case("att_faces", Model(cpl_lenet, reach=0.5), victims=10),),
    attacks=attacks(
        cpl.Config(steps=30),
        ggl.Config(steps=60, population=32, elite=6),
        bayes_optimal.Config(steps=2_000),
        learning_to_invert.Config(steps=600),
    ),
    caption="By defense and strength, the share of images recovered by each adversary",
    table={
        "metric": ("success_rate", "psnr", "target_test_accuracy"),
        "attack": ("cpl", "ggl", "bayes_optimal", "learning_to_invert", ""),
    },
    rows=("defense", "strength"),
    columns=("metric", "adversary"),
    grid=("data",),
    contrast={"defense": "dp_sgd", "strength": "1"},
    defenses=defended(),
    task=Task(),
    more=epsilons,
    curves=(
        Curve(
            over="strength",
            records={"metric": ("success_rate", "target_test_accuracy")},
            lines=("metric", "adversary"),
            axes={"xlabel": "strength (0: no defense)", "ylabel": "share"},
            by=("defense",),
            at_zero={"defense": "none"},
        ),
    ),
    differences=(
        "an update is of one image where it is attacked, and of a batch where the task "
        "is learned; both go through the same defense",
        "Learning to Invert is not trained through Soteria, which costs a gradient for "
        "each feature of each update",
        "where the task is learned, Soteria hides what its scores of the batch's first "
        "image say",
        "the epsilon of a training is for Poisson-sampled batches; ours are of "
        "shuffled epochs",
    ),
)
PAPER = dataclasses.replace(
    QUICK,
    cases=(dataclasses.replace(QUICK.cases[0], victims=100),),
    attacks=attacks(
        cpl.Config(),
        ggl.Config(),
        bayes_optimal.Config(),
        learning_to_invert.Config(steps=50_000, batch_size=256, width=3_000),
    ),
    task=Task(steps=1000),
)
main = leakage.main("li2022_ggl", quick=QUICK, paper=PAPER)

if __name__ == "__main__":
    flags.run(main)
