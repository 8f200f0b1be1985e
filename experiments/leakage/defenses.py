"""Success against the strength of a defense, and what the defense costs the task.

Three adversaries attack each defended update. The naive one matches it by CPL as if it
were a gradient. The adaptive one matches by CPL only what is shared (numbers that are
not zero) and only their direction: what clipping, pruning and Soteria leave is exact.
The third, where there is a prior, searches its latents by GGL.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import figures, report
from experiments.leakage import clients, cpl, defended_task, verdicts
from experiments.leakage.clients import Clients
from experiments.leakage.part import Part, Run, refuse_unknown
from experiments.leakage.recovery import Attack, Setting
from mijax import data
from mijax.attacks import cpl as attack_of_wei
from mijax.attacks import ggl
from mijax.attacks.leakage import gradient_distance, initial_images
from mijax.defenses import (
    Defense,
    clipping,
    dp_sgd,
    noise,
    pruning,
    quantization,
    soteria,
)

_DELTA = 1e-5
_PUBLIC = 64  # public images behind the rules for labels
_SCALE = 100.0  # of the cosine, so that L-BFGS does not stop at its tolerances


Make = Callable[[float, int], Defense]


def _plain(make: Callable[[float], Defense]) -> Make:
    return lambda strength, batch_size: make(strength)


class Kind(NamedTuple):
    """A defense over its strengths.

    Attributes:
      unit: what the strength is; empty where there is none.
      strengths: from weak to strong.
      make: `(strength, batch size) -> Defense`, compiled once for all strengths.
    """

    unit: str
    strengths: tuple[float, ...]
    make: Make


KINDS: dict[str, Kind] = {
    "none": Kind("", (0.0,), _plain(lambda _: Defense())),
    "gaussian": Kind("deviation", (1e-4, 1e-3, 1e-2, 1e-1), _plain(noise.gaussian)),
    "laplace": Kind("scale", (1e-4, 1e-3, 1e-2, 1e-1), _plain(noise.laplace)),
    "clip_examples": Kind("norm", (1.0, 0.1), _plain(clipping.clip_examples)),
    "prune": Kind("pruned", (0.2, 0.5, 0.9, 0.99), _plain(pruning.prune)),
    "prune_layers": Kind("pruned", (0.5, 0.9), _plain(pruning.prune_layers)),
    "stochastic": Kind("levels", (16, 1), _plain(quantization.stochastic)),
    "sign": Kind("", (0.0,), _plain(lambda _: quantization.sign())),
    "soteria": Kind(
        "hidden",
        (0.2, 0.4, 0.8),
        # Of one image: a mask costs a gradient for each feature of each image.
        _plain(lambda rate: soteria.soteria(rate, examples=1)),
    ),
    "dp_sgd": Kind(
        "noise multiplier",
        (0.01, 0.1, 1.0),
        lambda multiplier, batch_size: dp_sgd.dp_sgd(1.0, multiplier, batch_size),
    ),
}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large this figure is.

    Attributes:
      dataset: whose victims and task.
      kinds: which defenses, of `KINDS`; without one, "none", is always among them.
      victims: how many.
      attack: CPL's hyper-parameters.
      generator: GGL's.
      training: rounds of the task.
      batch_size: examples a round.
      learning_rate: of the server's Adam.
    """

    dataset: str = "att_faces"
    kinds: tuple[str, ...] = tuple(KINDS)
    victims: int = 10
    attack: attack_of_wei.Config = attack_of_wei.Config(steps=30)
    generator: ggl.Config = ggl.Config(steps=60, population=32, elite=6)
    training: int = 300
    batch_size: int = 40
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        """Refuses defenses of other names."""
        refuse_unknown("--defenses.kinds", self.kinds, KINDS)

    @property
    def chosen(self) -> dict[str, Kind]:
        """Each kind by its name."""
        return {n: k for n, k in KINDS.items() if n in ("none", *self.kinds)}


PAPER_SIZES = Sizes(
    victims=100,
    attack=attack_of_wei.Config(),
    generator=ggl.Config(),
    training=1000,
)


def of_what_is_shared(update: Any, observed: Any) -> jax.Array:
    """One minus the cosine over the numbers that are not zero, scaled."""
    shared = jax.tree.map(lambda u, o: jnp.where(o == 0, 0, u), update, observed)
    return _SCALE * gradient_distance.cosine(shared, observed)


class Adversary(NamedTuple):
    """An attack, its hyper-parameters, and what it knows beside the update."""

    attack: Attack
    config: Any
    auxiliary: dict[str, Any]


def adversaries(victims: Clients, sizes: Sizes) -> dict[str, Adversary]:
    """Who attacks, by name: the third where a prior of such images ships."""
    naive = dataclasses.replace(sizes.attack, seed=initial_images.Patterned())
    adaptive = dataclasses.replace(naive, distance=of_what_is_shared)
    every = {
        "naive": Adversary(attack_of_wei.attack, naive, {}),
        "adaptive": Adversary(attack_of_wei.attack, adaptive, {}),
    }
    if (prior := victims.load_prior()) is not None:
        public = jnp.asarray(victims.public[:_PUBLIC])
        knows = {"prior": prior, "public": public}
        every["generator"] = Adversary(ggl.attack, sizes.generator, knows)
    return every


def figure(run: Run, sizes: Sizes) -> Part:
    """Attacks through every defense at every strength, and trains through it."""
    part = Part()
    loaded = clients.load(sizes.dataset, run.data_dir)
    victims = clients.choose(loaded, sizes.victims, 1, run.seed)
    target = cpl.untrained(run.key, victims)
    task = data.train_test(loaded, test_fraction=0.3, seed=run.seed)
    bare = part.add_baselines(run.key, victims, "defenses")
    baseline, _ = verdicts.compare(victims, bare["mean_image"])
    shown = {"true": victims.x, "mean image": bare["mean_image"]}
    kinds = sizes.chosen
    middle = {cell(n, k.strengths[len(k.strengths) // 2]) for n, k in kinds.items()}
    every = adversaries(victims, sizes)
    for name, strength, make in cells(kinds):
        for adversary, own in every.items():
            setting = Setting(
                f"defenses/{name}-{adversary}",
                own.attack,
                own.config,
                target,
                defense=make(strength, 1),
                auxiliary=own.auxiliary,
            )
            found = run.recover(victims, setting)
            part.add(victims, setting, found, baseline)
            if name in middle:
                shown[f"{name}, {adversary}"] = found["x"]
        hits = defended_task.accuracy(
            run.workdir,
            f"defenses/{name}-task",
            run.key,
            target,
            task,
            make(strength, min(sizes.batch_size, len(task.train))),
            rate=sizes.learning_rate,
            batch_size=sizes.batch_size,
            steps=sizes.training,
        )
        accuracy = report.metric(hits)
        part.metrics[f"target_test_accuracy/defenses/{name}"] = accuracy
        print(f"defenses/{name}: task {accuracy.value:.3f}", flush=True)
    part.tables.append(table(part, sizes, task, tuple(every)))
    part.pictures += draw(run, victims, part, kinds, shown, tuple(every))
    part.attacked.append(
        f"Gradients of one image from CPL's LeNet, untrained, of {sizes.victims} "
        f"people of {victims.title}, defended; the task is to learn {victims.title} "
        f"from {len(task.train)} images in {sizes.training} defended rounds of "
        f"{sizes.batch_size}."
    )
    part.differences += DIFFERENCES
    return part


def cells(kinds: Mapping[str, Kind]) -> list[tuple[str, float, Make]]:
    """Every defense at every strength, by the name of its cell."""
    return [
        (cell(name, strength), strength, kind.make)
        for name, kind in kinds.items()
        for strength in kind.strengths
    ]


def cell(name: str, strength: float) -> str:
    """The name of a defense at a strength."""
    return f"{name}_{strength:g}" if KINDS[name].unit else name


def epsilon(multiplier: float, sampled: float, updates: int) -> float | None:
    """DP-SGD's epsilon, or None where no accountant is installed, or it is none."""
    try:
        found = dp_sgd.epsilon(multiplier, sampled, updates, _DELTA)
    except ModuleNotFoundError:
        return None
    return found if math.isfinite(found) else None


def table(
    part: Part, sizes: Sizes, task: data.TrainTest, every: tuple[str, ...]
) -> report.Table:
    """One line a defense and strength."""
    sampled = sizes.batch_size / len(task.train)
    rows = []
    for name, kind in sizes.chosen.items():
        for strength in kind.strengths:
            of = cell(name, strength)
            attacked = (
                part.value(f"{metric}/defenses/{of}-{adversary}")
                for metric in ("success_rate", "psnr")
                for adversary in every
            )
            rows.append(
                [
                    name.replace("_", " "),
                    f"{kind.unit} {strength:g}" if kind.unit else "",
                    *attacked,
                    part.value(f"target_test_accuracy/defenses/{of}"),
                    *(
                        epsilon(strength, *seen) if name == "dp_sgd" else None
                        for seen in ((1.0, 1), (sampled, sizes.training))
                    ),
                ]
            )
    columns = (
        *("defense", "strength"),
        *(f"{metric}, {each}" for metric in ("success", "PSNR") for each in every),
        *("test accuracy", "epsilon, one update", "epsilon, training"),
    )
    mean = part.value("psnr/defenses/mean_image")
    return report.Table(
        "Defenses: what they hide, and what they cost (mean image: PSNR "
        f"{mean:.1f}; epsilon at delta {_DELTA:g})",
        columns,
        rows,
    )


def draw(
    run: Run,
    victims: Clients,
    part: Part,
    kinds: Mapping[str, Kind],
    shown: dict,
    every: tuple[str, ...],
) -> list[report.Picture]:
    """Each defense's trade-off over its strength, and the first victims."""
    pictures = []
    for name, kind in kinds.items():
        if len(kind.strengths) < 3:
            continue
        names = ["none", *(cell(name, s) for s in kind.strengths)]
        series = {
            f"recovered, {adversary}": interval(
                part, [f"success_rate/defenses/{of}-{adversary}" for of in names]
            )
            for adversary in every
        }
        series["test accuracy of the task"] = interval(
            part, [f"target_test_accuracy/defenses/{of}" for of in names]
        )
        path = run.path(f"defenses_{name}")
        figures.lines(
            [0.0, *kind.strengths],
            series,
            path,
            xlabel=f"{name.replace('_', ' ')}: {kind.unit} (0: no defense)",
            ylabel="share",
            log_x=kind.strengths[0] < 0.1,
        )
        pictures.append(
            report.Picture(path, f"{name.replace('_', ' ')}, with 95 % intervals.")
        )
    first = slice(run.shown)
    path = run.path("defenses_faces")
    rows = [(name.replace("_", " "), x[first, 0]) for name, x in shown.items()]
    figures.image_grid(rows, path, tile=64)
    caption = (
        f"The first {len(rows[0][1])} victims of {victims.title}, none chosen, through "
        "each defense at its middle strength."
    )
    return [*pictures, report.Picture(path, caption)]


def interval(part: Part, names: list[str]) -> np.ndarray:
    """Metrics with the ends of their intervals, `[n, 3]`."""
    lines = [part.metrics[name] for name in names]
    return np.array([(line.value, line.low, line.high) for line in lines], np.float64)


DIFFERENCES = (
    "defenses: an update is of one image where it is attacked, and of a batch where "
    "the task is learned; both go through the same defense",
    "defenses: where the task is learned, Soteria hides what its scores of the batch's "
    "first image say",
    "defenses: the epsilon of a training is for Poisson-sampled batches; ours are of "
    "shuffled epochs",
)
