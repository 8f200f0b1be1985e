"""GMI: recovers faces, or digits, of a classifier's training set from a public prior.

Paper: Zhang et al., The secret revealer, CVPR 2020 (arXiv:1911.07135), table 1 and
figure 3: 28, 44 and 46 % top-1 on 1,000 CelebA people for VGG16, ResNet-152 and
face.evoLVe (figures as cited in the literature, not checked against the PDF).

    python -m experiments.gmi                       # faces; what `make demo` runs
    python -m experiments.gmi --kind=digits         # private 5-9, prior 0-4
    python -m experiments.gmi --preset=paper        # the paper's sizes, for a GPU
    python -m experiments.gmi --null=shuffled       # a target that knows no one

Expected figures, and the minutes they take on which device: BUILD_NOTES.md.
"""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from flax import linen as nn

import mijax.priors
from experiments import judging, worlds
from experiments.harness import figures, programs, report, resumable, stages
from experiments.harness import flags as common
from mijax import data, training
from mijax.attacks import gmi, mi_face
from mijax.attacks.inversion import losses
from mijax.core import Glimpse, Prior, Target
from mijax.data import Dataset
from mijax.knowledge import WhiteBox, glimpses, validate
from mijax.metrics import distribution, identity, images
from mijax.models.face_evolve import FaceEvolve
from mijax.models.lenet import mcnn, scnn
from mijax.models.resnet import resnet18, resnet152
from mijax.models.vgg import VGG16

_KIND = flags.DEFINE_enum("kind", "faces", ["faces", "digits"], "What is private.")
_TARGET = flags.DEFINE_enum(
    "target",
    None,
    ["vgg16", "resnet152", "face_evolve"],
    "The attacked network of --kind=faces --preset=paper: vgg16 by default.",
)
_NULL = flags.DEFINE_enum(
    "null",
    "none",
    ["none", "shuffled", "others"],
    "Attack a target that cannot leak: trained on shuffled labels, or on other people.",
)
_VICTIMS = flags.DEFINE_integer(
    "num_victims", None, "Identities to attack; all.", lower_bound=1
)
_TARGET_STEPS = flags.DEFINE_integer(
    "target_steps", None, "Training steps of the target; the preset's.", lower_bound=1
)
_EVALUATOR_STEPS = flags.DEFINE_integer(
    "evaluator_steps", None, "Training steps of the evaluator.", lower_bound=1
)
_SHOWN = flags.DEFINE_integer(
    "num_shown", 10, "Identities in the figure: the first.", lower_bound=1
)
_GLIMPSE = flags.DEFINE_enum(
    "glimpse",
    "none",
    ["none", "blur", "center", "t"],
    "What is seen of each victim's first private image: blurred, or masked.",
)
common.common("gmi", dataset=None)
_CONFIG = common.from_config(gmi.Config(), "gmi")

LOSSES = {
    "cross_entropy": losses.cross_entropy,
    "logit": losses.logit,
    "max_margin": losses.max_margin,
}
_LOSSES = flags.DEFINE_multi_enum(
    "losses", None, sorted(LOSSES), "Identity losses to compare; the preset's."
)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large a run is: all that a preset decides."""

    target: nn.Module
    evaluator: nn.Module
    target_steps: int
    evaluator_steps: int
    attack: gmi.Config
    losses: tuple[str, ...]
    repeats: int = 1  # reconstructions an identity
    batch_size: int = 64
    anchors: int = 512  # images behind the logit loss's mean feature


def sizes(
    kind: str, preset: str, target: str | None, private: int, judged: int
) -> Sizes:
    """Returns the preset: `private` classes for the target, `judged` to the judge."""
    every = ("cross_entropy", "logit", "max_margin")
    if kind == "digits":
        width = 16 if preset == "quick" else 64
        steps = 300 if preset == "quick" else 6000
        config = gmi.Config(steps=300 if preset == "quick" else 1500, restarts=1)
        return Sizes(
            mcnn(private, width),
            scnn(judged, 16 if preset == "quick" else 32),
            steps,
            steps,
            config,
            every,
            repeats=20,
        )
    if preset == "quick":
        return Sizes(
            FaceEvolve(private, 8, (1, 1, 1, 1), 128),
            resnet18(judged, 24, small_images=False),
            320,
            320,
            gmi.Config(steps=100, restarts=1, learning_rate=0.1),
            ("cross_entropy", "logit"),
        )
    network = {
        "vgg16": VGG16(private),
        "resnet152": resnet152(private),
        "face_evolve": FaceEvolve(private),
    }[target or "vgg16"]
    return Sizes(
        network, resnet18(judged), 4000, 6000, gmi.Config(), every, anchors=5000
    )


def main() -> None:
    """Trains target and evaluator, attacks, judges, and writes the report."""
    values = flags.FLAGS
    _CONFIG()  # Refuses a bad flag before anything is done.
    if _TARGET.value is not None and (_KIND.value, values.preset) != (
        "faces",
        "paper",
    ):
        raise ValueError(
            f"--target={_TARGET.value} goes with --kind=faces --preset=paper alone: "
            f"leave it out of --kind={_KIND.value} --preset={values.preset}."
        )
    workdir = report.prepare_workdir(values.workdir)
    stages.claim(workdir, common.given(), values.resume)
    world = getattr(worlds, _KIND.value)(values.dataset, values.data_dir)
    faces = world.prior == "faces64"
    private = data.train_test(world.private, test_fraction=0.2, seed=values.seed)
    everyone = private
    if world.public is not None:
        joint = data.evaluation(
            world.private, world.public, at_least=10 if faces else 1
        )
        everyone = data.train_test(joint, test_fraction=0.2, seed=values.seed)
    classes = len(world.private.names)
    size = sizes(
        _KIND.value, values.preset, _TARGET.value, classes, len(everyone.train.names)
    )
    config, prior = _CONFIG(size.attack), mijax.priors.load(world.prior)
    print(f"private: {world.name}, {len(world.private):,} images", flush=True)

    names = "target", "evaluator", "attack", "random", "null"
    keys = dict(
        zip(names, jax.random.split(jax.random.key(values.seed), 5), strict=True)
    )
    profiled = jax.profiler.trace(str(workdir / "profile"))
    with profiled if values.profile else contextlib.nullcontext():
        train = functools.partial(
            classifier, workdir=workdir, batch_size=size.batch_size, mirror=world.mirror
        )
        target, target_hits = train(
            keys["target"],
            "target",
            size.target,
            trained_on(_NULL.value, keys["null"], private, world.public),
            steps=_TARGET_STEPS.value or size.target_steps,
        )
        expert, expert_hits = train(
            keys["evaluator"],
            "evaluator",
            size.evaluator,
            everyone,
            steps=_EVALUATOR_STEPS.value or size.evaluator_steps,
        )
        labels = np.repeat(
            np.arange(classes, dtype=np.int32)[: _VICTIMS.value], size.repeats
        )
        drawn = draw(keys["random"], prior, max(size.anchors, len(labels)))
        knowledge = WhiteBox(
            target, jnp.asarray(labels), prior, jnp.asarray(drawn[: size.anchors])
        )
        subjects = first_images(private.train, labels)
        if _GLIMPSE.value != "none":
            glimpse = GLIMPSES[_GLIMPSE.value](jnp.asarray(subjects))
            knowledge = dataclasses.replace(knowledge, glimpse=glimpse)
        validate(knowledge)
        found, seconds = attacks(
            keys["attack"],
            knowledge,
            config,
            workdir,
            tuple(_LOSSES.value or size.losses),
        )

    recovered = {name: arrays["x"] for name, arrays in found.items()}
    without = {
        "random_latents": drawn[: len(labels)],
        "mean_face": np.repeat(drawn.mean(0, keepdims=True), len(labels), 0),
    }
    chosen = judging.surest(target, drawn[: size.anchors], labels)
    real, real_labels = per_person(private.test, labels)
    shown = recovered | {"surest_sample": chosen} | without | {"real_test": real}
    experts: list[judging.Judge | None] = [
        judging.evaluator("evaluator", expert, private.train, world.public)
    ]
    experts.append(
        judging.face_features(
            worlds.data_folder(values.data_dir), private.train, world.public
        )
        if faces
        else judging.pixels(private.train, world.public)
    )
    judges = [judge for judge in experts if judge is not None]
    metrics = {
        "target_test_accuracy": report.metric(target_hits),
        "evaluator_test_accuracy": report.metric(expert_hits),
    }
    metrics |= judged(shown, labels, real_labels, expert, target, judges)
    if knowledge.glimpse is not None:
        metrics |= paired(recovered, subjects)
    pictures = draw_figures(
        workdir,
        shown,
        found,
        labels,
        subjects,
        world,
        judges[-1],
        metrics,
        size.repeats,
    )
    page = report.write(
        workdir,
        experiment="gmi",
        title=f"GMI against {world.name}"
        + ("" if _NULL.value == "none" else f" (null: {_NULL.value})"),
        attacked=f"{type(size.target).__name__} of {classes} private identities, "
        f"{world.name}; {len(private.train)} training images. " + NULLS[_NULL.value],
        knowledge=f"White box: parameters and architecture; the shipped prior "
        f"{world.prior} (trained on none of these people) and {size.anchors} samples "
        f"of it. {SEEN[_GLIMPSE.value]} Restarts are chosen by the attack's own loss.",
        flags=common.given(),
        seconds=seconds,
        n=len(labels),
        metrics=metrics,
        baseline="random latents of the same prior, judged alike.",
        pictures=pictures,
        differences=DIFFERENCES[_KIND.value],
        caveats=caveats(judges, world),
        command=common.command("gmi"),
    )
    summary(metrics, judges[-1].name)
    print(f"report: {page}", flush=True)


SEEN = {
    "none": "No private image.",
    "blur": "Each victim's first private image, as means of 4x4 pixels.",
    "center": "Each victim's first private image, but for its middle.",
    "t": "Each victim's first private image, but for eyes, nose and mouth.",
}
NULLS = {
    "none": "",
    "shuffled": "NULL CASE: its training labels were shuffled, so it knows no one.",
    "others": "NULL CASE: it was trained on as many other people, all public.",
}
DIFFERENCES = {
    "faces": [
        "the paper attacks classifiers of 1,000 CelebA people (30,000 images) in "
        "color; ours knows the 62 people of LFW with at least 20 images, or AT&T's "
        "40, in grey",
        "the paper's prior saw about 30,000 CelebA images, ours 10,210 of LFW",
        "chance is 1/1,000 in the paper and one in the number of people here",
        "the paper's 28, 44 and 46 % (top-1, no auxiliary image) are quoted from the "
        "literature that compares with it",
    ],
    "digits": [
        "the paper gives no figure for digits that is comparable; the split (private "
        "5 to 9, public 0 to 4) is its code's",
    ],
}


def caveats(judges: list[judging.Judge], world: worlds.World) -> list[str]:
    """What a reader must know before quoting a figure of this page."""
    lines = [
        "success_rate is the attacked model's own verdict. It is near 1 for any "
        "attack, MI-Face's noise included, and says nothing of likeness: read "
        "identity_1nn.",
        "surest_sample also uses the target: of the samples drawn from the prior, "
        "the one that it is surest of, with no search at all.",
        "identity_1nn is over everyone in the data set "
        f"({judges[-1].labels.max() + 1:,} people), and, with the suffix -private, "
        "over the private people alone.",
    ]
    if world.public is None:
        lines.append(
            "This data set has no public part: the evaluator knows private people "
            "alone, which flatters every attack."
        )
    if world.prior == "faces64" and judges[-1].name == "evaluator":
        lines.append(
            "MobileFaceNet's weights are not at hand (--data_dir), so every judge here "
            "was trained on the private people."
        )
    return lines


def trained_on(
    null: str, key: jax.Array, private: data.TrainTest, public: Dataset | None
) -> data.TrainTest:
    """What the target is trained on: the private images, unless it is a null case.

    Raises:
      ValueError: if there are not enough other people.
    """
    if null == "none":
        return private
    if null == "shuffled":
        order = np.asarray(jax.random.permutation(key, len(private.train)))
        shuffled = dataclasses.replace(
            private.train, labels=private.train.labels[order]
        )
        return data.TrainTest(shuffled, private.test)
    classes = len(private.train.names)
    if public is None or len(public.names) < classes:
        raise ValueError(
            f"--null=others needs {classes} public identities: use --dataset=lfw64."
        )
    most = np.argsort(-public.counts(), kind="stable")[:classes]
    rows = np.flatnonzero(np.isin(public.labels, most))
    rank = np.empty(len(public.names), np.int32)
    rank[most] = np.arange(classes)
    others = Dataset(
        "other people",
        public.images[rows],
        rank[public.labels[rows]],
        tuple(public.names[i] for i in most),
    )
    return data.train_test(others, test_fraction=0.2)


def draw(key: jax.Array, prior: Prior, number: int) -> np.ndarray:
    """Draws images from the prior: what needs no target."""
    return judging.batched(prior.images)(np.asarray(prior.sample(key, number)))


def first_images(private: Dataset, labels: np.ndarray) -> np.ndarray:
    """The first private training image of each victim's class."""
    return np.stack([private.images[np.argmax(private.labels == k)] for k in labels])


def paired(
    recovered: Mapping[str, np.ndarray], subjects: np.ndarray
) -> dict[str, report.Metric]:
    """Distances to the very image that was glimpsed, beside the prior's own guess."""
    lines = {}
    for name, measure in (("psnr", images.psnr), ("ssim", images.ssim)):
        values = {
            row: np.asarray(measure(jnp.asarray(subjects), jnp.asarray(x)))
            for row, x in recovered.items()
        }
        for row, line in values.items():
            without = None if row == "inpainted" else values["inpainted"]
            lines[f"{name}/{row}"] = report.metric(line, baseline=without)
    return lines


GLIMPSES: dict[str, Callable[[Any], Glimpse]] = {
    "blur": glimpses.blurred,
    "center": lambda x: glimpses.masked(x, glimpses.center_mask(*x.shape[1:3])),
    "t": lambda x: glimpses.masked(x, glimpses.t_mask(*x.shape[1:3])),
}


def per_person(test: Dataset, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Real held-out images, one a victim: what a perfect reconstruction would be."""
    seen: dict[int, int] = {}
    rows = []
    for label in labels.tolist():
        own = np.flatnonzero(test.labels == label)
        rows.append(own[seen.get(label, 0) % len(own)])
        seen[label] = seen.get(label, 0) + 1
    return test.images[rows], test.labels[rows]


def judged(
    shown: Mapping[str, np.ndarray],
    labels: np.ndarray,
    real_labels: np.ndarray,
    expert: Target,
    target: Target,
    judges: list[judging.Judge],
) -> dict[str, report.Metric]:
    """Every metric of every row of images, beside random latents and real images."""
    assert np.array_equal(labels, real_labels)
    evaluator_logits = judging.batched(lambda x: expert.predict(x).logits)
    target_logits = judging.batched(lambda x: target.predict(x).logits)
    measures: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "top1/": lambda x: identity.top_k(evaluator_logits(x), labels, 1),
        "top5/": lambda x: identity.top_k(evaluator_logits(x), labels, 5),
    }
    for judge in judges:
        suffix = "" if judge is judges[-1] else f"-{judge.name}"
        measures |= {
            f"identity_1nn/{suffix}": functools.partial(judge.nearest, labels=labels),
            f"identity_1nn/{suffix}-private": functools.partial(
                judge.nearest, labels=labels, everyone=False
            ),
            f"knn_distance/{suffix}": functools.partial(
                judge.knn_distance, labels=labels
            ),
            f"feature_distance/{suffix}": functools.partial(
                judge.feature_distance, labels=labels
            ),
        }
    measures["success_rate/"] = lambda x: identity.top_k(target_logits(x), labels, 1)
    clusters = labels if len(np.unique(labels)) < len(labels) else None
    lines = {}
    for name, measure in measures.items():
        stem, suffix = name.split("/")
        values = {row: measure(x) for row, x in shown.items()}
        for row, line in values.items():
            is_real = row == "real_test"
            lines[f"{stem}/{row}{suffix}"] = report.metric(
                line,
                clusters=clusters,
                failure=0.0 if stem in ("top1", "top5", "identity_1nn") else None,
                baseline=None if is_real else values["random_latents"],
                perfect=None if is_real else float(np.mean(values["real_test"])),
            )
    return lines | distributions(shown, judges[-1])


_DIRECTIONS = 16  # principal directions: fewer than reconstructions, so it is defined


def distributions(
    shown: Mapping[str, np.ndarray], judge: judging.Judge
) -> dict[str, report.Metric]:
    """Frechet distance and precision/recall/density/coverage to the private images.

    In the first principal directions of the private images' features; where there are
    too few reconstructions for that many, the metrics are left out.
    """
    private = judge.private()
    center = private.mean(0)
    _, _, directions = np.linalg.svd(private - center, full_matrices=False)
    directions = directions[:_DIRECTIONS].T
    real = (private - center) @ directions
    lines = {}
    for row, x in shown.items():
        fake = (judge.features(x) - center) @ directions
        if row == "mean_face" or len(fake) <= len(directions.T):
            continue
        lines[f"frechet_distance/{row}"] = report.Metric(
            distribution.frechet_distance(real, fake), n=len(fake)
        )
        four = distribution.precision_recall_density_coverage(real, fake)
        for name, values in four._asdict().items():
            lines[f"{name}/{row}"] = report.metric(values)
    return dict(sorted(lines.items()))


def draw_figures(
    workdir: pathlib.Path,
    shown: Mapping[str, np.ndarray],
    found: Mapping[str, Mapping[str, np.ndarray]],
    labels: np.ndarray,
    subjects: np.ndarray,
    world: worlds.World,
    judge: judging.Judge,
    metrics: Mapping[str, report.Metric],
    repeats: int,
) -> list[report.Picture]:
    """Draws recovered beside private images, the losses, and identification."""
    folder = workdir / "figures"
    first = np.arange(0, len(labels), repeats)[: _SHOWN.value]
    people = labels[first]
    private = subjects[first]
    rows = [("private, first image", private)]
    if _GLIMPSE.value != "none":
        seen = np.asarray(GLIMPSES[_GLIMPSE.value](jnp.asarray(private)).image)
        rows.append(("what is seen", seen))
    rows += [
        (name.replace("_", " "), x[first])
        for name, x in shown.items()
        if name not in ("mean_face", "real_test")
    ]
    if world.public is not None:
        public = judge.reference[judge.labels >= judge.num_private]
        near = identity.nearest_neighbor(
            judge.features(private), public, np.arange(len(public))
        )
        rows.append(("nearest public image", world.public.images[near]))
    figures.image_grid(
        rows, folder / "recovered.png", [world.private.names[k] for k in people]
    )
    figures.curves(
        {
            name: arrays["trace"].reshape(-1, arrays["trace"].shape[-1])
            for name, arrays in found.items()
            if name != "mi_face"
        },
        folder / "losses.png",
        ylabel="the attack's own loss",
    )
    bars = {row: metrics[f"identity_1nn/{row}-private"] for row in shown}
    figures.bars(
        [row.replace("_", " ") for row in bars],
        [line.value for line in bars.values()],
        folder / "identified.png",
        low=[line.low or 0.0 for line in bars.values()],
        high=[line.high or 1.0 for line in bars.values()],
        baseline=1 / len(world.private.names),
        xlabel=f"identified among the private people, 1-NN in {judge.name}",
    )
    return [
        report.Picture(
            folder / "recovered.png",
            f"The first {len(people)} identities, none chosen. The nearest public "
            "image is chosen with the private one in hand: no adversary can.",
        ),
        report.Picture(
            folder / "identified.png", "1-NN identification with 95 % intervals."
        ),
        report.Picture(
            folder / "losses.png", "Median and middle 80 % of all victims and restarts."
        ),
    ]


def summary(metrics: Mapping[str, report.Metric], judge: str) -> None:
    """Prints the few lines that a terminal should show."""
    names = ("top1", "top5", "identity_1nn", "knn_distance", "success_rate")
    rows = [name.split("/")[1] for name in metrics if name.startswith("top1/")]
    print(f"\n{'':22}" + "".join(f"{n:>14}" for n in names) + f"   (1-NN: {judge})")
    for row in rows:
        cells = "".join(f"{metrics[f'{n}/{row}'].value:14.3f}" for n in names)
        print(f"{row:22}{cells}")


def classifier(
    key: jax.Array,
    name: str,
    module: nn.Module,
    images: data.TrainTest,
    *,
    workdir: pathlib.Path,
    steps: int,
    batch_size: int,
    mirror: bool,
) -> tuple[Target, np.ndarray]:
    """Trains a classifier; returns it with its hits on its test images, `[N]`."""
    init_key, fit_key = jax.random.split(key)
    optimizer = optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=1e-3)
    shape = images.train.images.shape[1:]
    step = training.supervised(
        module, optimizer, augment=training.shift_and_mirror(3, mirror)
    )
    learner = resumable.train(
        fit_key,
        training.train_state(init_key, module, shape, optimizer),
        step,
        (images.train.images, images.train.labels),
        name=name,
        folder=workdir / "checkpoints" / name,
        batch_size=batch_size,
        steps=steps,
    )
    target = Target.from_linen(module, learner.variables, shape)
    logits = judging.batched(lambda x: target.predict(x).logits)(images.test.images)
    return target, identity.top_k(logits, images.test.labels, 1)


def attacks(
    key: jax.Array,
    knowledge: WhiteBox,
    config: gmi.Config,
    workdir: pathlib.Path,
    losses: tuple[str, ...],
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, float]]:
    """Runs GMI with each identity loss, and MI-Face; returns arrays and seconds."""

    def run(name: str, attack: programs.Program, config: Any) -> dict[str, Any]:
        print(f"attack: {name}", flush=True)
        result, seconds = attack(key, knowledge, config)
        arrays = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
        return {k: v for k, v in arrays.items() if v is not None} | seconds

    searched = programs.over_victims(gmi.attack, knowledge.victims)
    found = {}
    for name in losses:
        variant = dataclasses.replace(config, identity_loss=LOSSES[name])
        found[f"gmi_{name}"] = stages.once(
            workdir,
            f"gmi_{name}",
            lambda name=name, variant=variant: run(f"gmi, {name}", searched, variant),
        )
    if knowledge.glimpse is not None:
        # What the same adversary gets without the target: the prior's own inpainting.
        blind = dataclasses.replace(config, identity_weight=0.0)
        found["inpainted"] = stages.once(
            workdir, "inpainted", lambda: run("inpainting", searched, blind)
        )
    found["mi_face"] = stages.once(
        workdir,
        "mi_face",
        lambda: run(
            "mi_face", programs.program(mi_face.attack), mi_face.Config(steps=100)
        ),
    )
    seconds = {
        kind: float(sum(arrays[kind] for arrays in found.values()))
        for kind in ("compile", "run")
    }
    return found, seconds


if __name__ == "__main__":
    common.run(main)
