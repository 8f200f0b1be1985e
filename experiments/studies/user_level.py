"""What a malicious server generates of one client's data, and not of the others'.

A `Study` says how the victim's images differ from the others', and in which `Setting`s
it is attacked. Whether samples look like the victim's is told by a judge that was
trained on real images of both, and on what is neither. The baseline is the same GAN
without the identity. One GAN may find the style and the next, from another key, not: as
many are trained as the study says, as one program.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.harness import figures, programs, report
from experiments.harness import run as harness
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from experiments.studies import federations
from mijax.attacks import mgan_ai
from mijax.core import Defense, Target
from mijax.data import Dataset, TrainTest
from mijax.federation import Clients, Federation, simulate
from mijax.knowledge import ServerSeat, validate
from mijax.metrics import distribution, matching

PLAIN = "no identity"
_represent = programs.program(mgan_ai.represent)
_generate = programs.program(
    lambda keys, target, known, config: jax.vmap(
        lambda key: mgan_ai.generate(key, target, known, config)
    )(keys)
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """How the victim is attacked.

    Attributes:
      isolated: whether the server sends it a model of its own.
      defense: of the clients' updates.
      level: differential privacy of the clients, in the defense's place.
      summed: whether secure aggregation hides all but the sum of updates.
      noise: whether the victim takes part with noise in place of images, a null case.
    """

    isolated: bool = False
    defense: Defense = Defense()
    level: federations.ClientLevel | None = None
    summed: bool = False
    noise: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(federations.Task):
    """A paper's experiment.

    Attributes:
      clients: V, of whom the first is the victim.
      style: what makes the victim's images of everyone's, `[N, H, W, C]`.
      style_name: in words.
      judge: the network of both judges, of style and of the task's classes, from the
        number of classes.
      training: rounds of the whole training, after which the model is tested.
      attack: the adversary's configuration.
      settings: by name; the first is without a defense.
      gans: that are trained in each setting.
    """

    clients: int
    style: Callable[[np.ndarray], np.ndarray]
    style_name: str
    judge: Callable[[int], nn.Module]
    training: int
    attack: mgan_ai.Config
    settings: Mapping[str, Setting]
    gans: int = 8


def main(
    name: str, *, quick: Mapping[str, Study], paper: Mapping[str, Study]
) -> Callable[[], None]:
    """Returns a paper's `main`."""
    return harness.main(
        name,
        quick=quick,
        paper=paper,
        measure=measure,
    )


@dataclasses.dataclass(frozen=True)
class _World:
    """The clients' images, the batches of each round, and who judges."""

    images: TrainTest
    parts: list[np.ndarray]
    rows: np.ndarray
    start: Target
    keys: Mapping[str, jax.Array]
    style_judge: Target
    class_judge: Target

    def held(self, study: Study, client: int, noise: bool = False) -> np.ndarray:
        """A client's images."""
        x = self.images.train.images[self.parts[client]]
        if client:
            return x
        if noise:
            drawn = np.random.default_rng(0).uniform(size=x.shape)
            return drawn.astype(np.float32)
        return study.style(x)


def measure(run: Run, study: Study) -> report.Page:
    """Attacks in each setting, judges, and tells."""
    world, records = _world(run, study)
    first = next(iter(study.settings))
    attempts = {first: (first, True), PLAIN: (first, False)}
    attempts |= {name: (name, True) for name in study.settings}
    found = {
        name: run.once(
            name.replace(" ", "_"),
            lambda setting=setting, identity=identity: _attacked(
                study, world, study.settings[setting], identity
            ),
        )
        for name, (setting, identity) in attempts.items()
    }
    for name, arrays in found.items():
        setting = study.settings.get(name, study.settings[first])
        records += _records(study, world, name, setting, arrays, found[PLAIN])
    levels = {name: setting.level for name, setting in study.settings.items()}
    records += federations.epsilons(levels, study.training)
    return _page(run, study, world, found, Results(records))


def _world(run: Run, study: Study) -> tuple[_World, list[Record]]:
    images = study.images(run)
    rng = np.random.default_rng(run.seed)
    parts = np.array_split(rng.permutation(len(images.train)), study.clients)
    keys = run.keys("model", "world", "watch", "gan", "style", "classes")
    rows = np.stack(
        [
            [rng.choice(len(part), study.batch_size, False) for part in parts]
            for _ in range(max(study.attack.rounds, study.training))
        ]
    )
    both = TrainTest(*(_both_styles(side, study.style) for side in images))
    styles = TrainTest(*(_styles(side, study.style) for side in images))
    judges, records = {}, []
    for judged, sides in (("style", styles), ("classes", both)):
        judges[judged], right = run.train(
            keys[judged],
            judged,
            study.judge(len(sides.train.names)),
            sides,
            optimizer=optax.adam(2e-3),
            steps=1_000,
            batch_size=64,
        )
        labels = {"setting": f"judge of {judged}"}
        records.append(Record(labels, "evaluator_test_accuracy", metric(right)))
    start = study.start(keys["model"], images.train)
    return (
        _World(images, parts, rows, start, keys, judges["style"], judges["classes"]),
        records,
    )


def _both_styles(images: Dataset, style: Callable[..., np.ndarray]) -> Dataset:
    """The victim's style, then the others'."""
    return dataclasses.replace(
        images,
        images=np.concatenate([style(images.images), images.images]),
        labels=np.tile(images.labels, 2),
    )


def _styles(images: Dataset, style: Callable[..., np.ndarray]) -> Dataset:
    """The others' style, the victim's, and what is neither.

    A judge that knows but two styles finds one of them in noise.
    """
    x, rng = images.images, np.random.default_rng(0)
    height, width = x.shape[1:3]
    coins = rng.uniform(size=x.shape) < x.mean((1, 2), keepdims=True)
    neither = [
        rng.permuted(x.reshape(len(x), -1), axis=1).reshape(x.shape),
        np.roll(x, (height // 2, width // 2), (1, 2)),
        rng.uniform(size=x.shape),
        coins.astype(float),
    ]
    kind = np.arange(len(x)) % len(neither)
    chosen = np.stack(neither)[kind, np.arange(len(x))].astype(np.float32)
    return dataclasses.replace(
        images,
        images=np.concatenate([x, style(x), chosen]),
        labels=np.repeat(np.arange(3, dtype=np.int32), len(x)),
        names=("others", "victim", "neither"),
    )


def _federation(study: Study, world: _World, setting: Setting) -> Federation:
    labels = world.images.train.labels
    parts = [
        (world.held(study, client, setting.noise), labels[part])
        for client, part in enumerate(world.parts)
    ]
    clients = dataclasses.replace(Clients.of(parts), rows=jnp.asarray(world.rows))
    return Federation.of(
        study.recipe,
        world.start,
        clients,
        batch_size=study.batch_size,
        defense=setting.level.defense if setting.level else setting.defense,
    )


def _attacked(
    study: Study, world: _World, setting: Setting, identity: bool
) -> dict[str, Any]:
    """What the server reconstructs and generates, and the whole training's hits."""
    federation, test = _federation(study, world, setting), world.images.test
    seat = ServerSeat.of(
        world.keys["world"],
        federation,
        0,
        isolated=setting.isolated,
        summed=setting.summed,
    )
    config = dataclasses.replace(study.attack, identity=identity)
    (target, known), seconds = _represent(world.keys["watch"], validate(seat), config)
    keys = jax.random.split(world.keys["gan"], study.gans)
    (found, judges), spent = _generate(keys, target, known, config)
    after, _ = simulate(world.keys["world"], federation, rounds=study.training)
    told = jax.vmap(lambda judge, x: judge.judge(target, x)[2] > 0, (0, None))
    victim = [
        np.asarray(told(judges, jnp.asarray(x)))
        for x in (study.style(test.images), test.images)
    ]
    return {
        "x": known.x,
        "labels": known.labels,
        "samples": found.x[:, 0],  # [gans, S, ...]
        "asked": np.asarray(found.labels)[:, 0],
        "identity": np.concatenate([victim[0], ~victim[1]], 1).astype(float),
        "hits": federations.hits(after.target, test.images, test.labels),
        **{kind: seconds[kind] + spent[kind] for kind in seconds},
    }


def _truth(
    study: Study, world: _World, setting: Setting
) -> tuple[np.ndarray, np.ndarray]:
    """The batches of the observed rounds `[T, V, B, ...]`, and their labels."""
    rows = world.rows[: study.attack.rounds]
    held = [
        (world.held(study, client, setting.noise), world.images.train.labels[part])
        for client, part in enumerate(world.parts)
    ]
    x, labels = (
        np.stack([own[kind][rows[:, v]] for v, own in enumerate(held)], 1)
        for kind in (0, 1)
    )
    return x, labels


def _records(
    study: Study,
    world: _World,
    name: str,
    setting: Setting,
    arrays: Mapping[str, Any],
    plain: Mapping[str, Any],
) -> list[Record]:
    own = {"setting": name}
    x, labels = _truth(study, world, setting)
    found = np.asarray(arrays["x"])  # Of a sum, [T, 1, V * B, ...].
    flat = (-1, *found.shape[2:])
    matched = matching.match(x.reshape(flat), found.reshape(flat))
    mean = np.square(x - x.mean((0, 2), keepdims=True)).mean((-3, -2, -1))
    right = matching.label_accuracy(
        labels.reshape(-1, found.shape[2]),
        np.asarray(arrays["labels"]).reshape(-1, found.shape[2]),
    )
    style, baseline = (_turned(world, each) for each in (arrays, plain))
    gans, number = style.shape
    samples = arrays["samples"].reshape(gans * number, *x.shape[3:])
    logits = federations.logits(world.class_judge, samples)
    chance = [1 / logits.shape[1]]
    scores = [distribution.inception_score(own) for own in np.split(logits, gans)]
    whose = np.repeat(np.arange(gans), number)
    said = np.argmax(logits, 1) == arrays["asked"].ravel()
    return [
        Record(own, "target_test_accuracy", metric(arrays["hits"])),
        Record(own, "label_accuracy", metric(right)),
        Record(
            own,
            "mse",
            metric(matched.mse.ravel(), baseline=mean.ravel(), perfect=0.0),
        ),
        Record(
            own, "identity_accuracy", metric(arrays["identity"].mean(1), baseline=[0.5])
        ),
        Record(
            own,
            "style_rate",
            metric(style.ravel(), clusters=whose, baseline=baseline, perfect=1.0),
        ),
        Record(
            own,
            "top1",
            metric(said, clusters=whose, baseline=chance, perfect=1.0),
        ),
        Record(own, "inception_score", metric(scores)),
    ]


def _turned(world: _World, arrays: Mapping[str, Any]) -> np.ndarray:
    """Whether each sample has the victim's style, `[gans, S]`."""
    return np.stack(
        [
            federations.hits(world.style_judge, own, np.ones(len(own)))
            for own in np.asarray(arrays["samples"])
        ]
    )


def _page(
    run: Run,
    study: Study,
    world: _World,
    found: Mapping[str, Mapping[str, Any]],
    results: Results,
) -> report.Page:
    first = next(iter(study.settings))
    shown = min(10, study.attack.rounds * study.batch_size)
    rows = [("images of the victim", world.held(study, 0)[:shown])]
    reps = np.asarray(found[first]["x"])[:, 0]
    reps = reps.reshape(-1, *reps.shape[2:])[:shown]
    rows.append(("reconstructed from its updates", reps))
    for name, arrays in found.items():
        order = np.argsort(arrays["asked"][0], kind="stable")
        chosen = order[np.linspace(0, len(order) - 1, shown).astype(int)]
        rows.append((f"generated: {name}", np.asarray(arrays["samples"])[0, chosen]))
    path = run.figures / "samples.png"
    figures.image_grid(rows, path, tile=56)
    style = results.value("style_rate", setting=first)
    error = results.value("mse", setting=first)
    accuracy = results.value("target_test_accuracy", setting=first)
    assert error.baseline is not None
    return report.Page(
        title=study.title,
        verdict=(
            f"The server reconstructs the clients' batches at a squared error of "
            f"{error.value:.4f} a pixel, where the client's mean image has "
            f"{error.baseline:.4f}. Of the images that it generates for one client, "
            f"whose are {study.style_name}, {style.value:.2f} are so, and "
            f"{style.baseline:.2f} of those of the same GAN without the identity. The "
            f"shared model's test accuracy is {accuracy.value:.3f}."
        ),
        lead=report.Picture(
            path,
            f"Images of the victim, {study.style_name}; what its updates give away; "
            "and samples of the first GAN, evenly spaced in the order of the classes "
            "asked for.",
        ),
        caption="By setting",
        table=results.filter(
            metric=(
                "mse",
                "style_rate",
                "identity_accuracy",
                "top1",
                "inception_score",
                "target_test_accuracy",
                "epsilon",
            )
        ).pivot(rows=("setting",), columns=("metric",)),
        attacked=f"A federated training of {study.clients} clients on "
        f"{world.images.train.name}, batches of {study.batch_size}; "
        f"{study.attack.rounds} rounds are observed.",
        knowledge="Each client's update of each round. No image and no label.",
        baseline="of mse, each client's mean image; of style_rate, the same GAN "
        "without the identity's reward.",
        n=study.gans,
        results=results,
        differences=study.differences,
        caveats=(
            "inception_score is by our own classifier of the task's classes in both "
            f"styles, at most {len(world.images.train.names)}; it compares with no "
            "published score.",
            f"style_rate is of {study.gans} GANs from keys of their own, which have "
            + "; ".join(
                f"{rates.min():.2f} to {rates.max():.2f} ({name})"
                for name, arrays in found.items()
                for rates in [_turned(world, arrays).mean(1)]
            )
            + ". Its judge also knows what is neither style.",
            f"epsilon is of a client, at a delta of {federations.DELTA:g}, of the "
            "whole training.",
            f"target_test_accuracy is after {study.training:,} rounds of honest "
            "training under the same defense, of images in the others' style.",
        ),
    )
