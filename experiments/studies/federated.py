"""Federated adversaries: a participant's GAN learns a class that only others have.

A `Study` says who has which classes and how all train, and in which `Setting`s the
adversary takes its seat: without a defense, with some, and where there is nothing to
learn. The baseline is the same generator, trained as long against the model that honest
participants end with, so that no one reacts to it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.harness import figures, programs, report
from experiments.harness import run as harness
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from experiments.studies import federations
from mijax.attacks import participant_gan
from mijax.core import Defense, Target
from mijax.data import TrainTest
from mijax.data import clients as split
from mijax.federation import Clients, Federation, Selective, simulate
from mijax.knowledge import FederationSeat, validate
from mijax.metrics import identity

CONTROL = "no feedback"
_take_part = programs.program(participant_gan.take_part)


@dataclasses.dataclass(frozen=True)
class Setting:
    """In what federation the adversary takes its seat.

    Attributes:
      defense: of the other clients' updates.
      exchange: of the other clients' changes; None for all of them.
      injected: samples in each of the adversary's local batches; None for the study's.
      present: whether anyone has the class that the adversary wants.
      level: differential privacy of the other clients, in the defense's place.
    """

    defense: Defense = Defense()
    exchange: Selective | None = None
    injected: int | None = None
    present: bool = True
    level: federations.ClientLevel | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(federations.Task):
    """A paper's experiment; one of the network's classes is artificial.

    Attributes:
      shares: the classes of each of the other clients.
      own: those of the adversary.
      wanted: the class to recover.
      attack: the adversary's configuration.
      settings: by name; the first is without a defense.
    """

    shares: Sequence[Sequence[int]]
    own: Sequence[int]
    wanted: int
    attack: participant_gan.Config
    settings: Mapping[str, Setting]


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


def measure(run: Run, study: Study) -> report.Page:
    """Runs each setting and the baseline, and tells."""
    images = study.images(run)
    keys = run.keys("model", "world", "attack", "judge")
    start = study.start(keys["model"], images.train, extra=1)
    judge, judged = run.train(
        keys["judge"],
        "judge",
        study.network(len(images.train.names)),
        images,
        optimizer=optax.adam(1e-3),
        steps=600,
        batch_size=64,
    )
    found = {
        setting: run.once(
            setting.replace(" ", "_"),
            lambda own=own: _played(study, images, start, keys, own),
        )
        for setting, own in study.settings.items()
    }
    honest = run.once("honest", lambda: _honest(study, images, start, keys))
    final = _loaded(start, honest)
    found[CONTROL] = run.once(
        "control", lambda: _played(study, images, final, keys, Setting(), still=True)
    )
    records, by_round = [], {}
    control = _scores(study, images, judge, found[CONTROL])
    for setting, arrays in found.items():
        scores = _scores(study, images, judge, arrays)
        by_round[setting] = scores["mse"].mean(1)
        records += _records(setting, arrays, scores, control)
    levels = {name: setting.level for name, setting in study.settings.items()}
    records += federations.epsilons(levels, study.attack.rounds)
    accuracy = metric(_hits(final, images))
    records.append(Record({"setting": "honest"}, "target_test_accuracy", accuracy))
    records.append(
        Record({"setting": "judge"}, "evaluator_test_accuracy", metric(judged))
    )
    return _page(run, study, images, found, Results(records), by_round)


def _world(
    study: Study, images: TrainTest, target: Target, setting: Setting, with_own: bool
) -> tuple[Federation, np.ndarray]:
    """The federation of the others, and the rows that the adversary has."""
    train = images.train
    wanted = study.wanted
    shares = [
        tuple(c for c in own if setting.present or c != wanted) for own in study.shares
    ]
    shares = [own for own in shares if own]  # Who has nothing else does not take part.
    parts = split.by_class(train.labels, [*shares, study.own])
    if not with_own:
        parts, own = parts[:-1], parts[-1]
    else:
        own = parts[-1]
    clients = Clients.of([(train.images[rows], train.labels[rows]) for rows in parts])
    world = Federation.of(
        study.recipe,
        target,
        clients,
        batch_size=study.batch_size,
        defense=setting.level.defense if setting.level else setting.defense,
        exchange=setting.exchange,
    )
    return world, own


def _played(
    study: Study,
    images: TrainTest,
    target: Target,
    keys: Mapping[str, jax.Array],
    setting: Setting,
    still: bool = False,
) -> dict[str, Any]:
    """What the adversary generates in a federation; `still` if the model stays."""
    world, own = _world(study, images, target, setting, with_own=False)
    world = dataclasses.replace(world, server_rate=0.0 if still else 1.0)
    seat = FederationSeat.of(
        keys["world"],
        world,
        jnp.asarray(images.train.images[own]),
        jnp.asarray(images.train.labels[own]),
        wanted=jnp.int32(study.wanted),
    )
    config = study.attack
    if setting.injected is not None:
        config = dataclasses.replace(config, injected=setting.injected)
    (seat, found), seconds = _take_part(keys["attack"], validate(seat), config)
    return {
        "images": np.asarray(found.candidates[0]),
        "losses": np.asarray(found.losses[0]),
        "hits": _hits(seat.target, images),
        **seconds,
    }


def _honest(
    study: Study, images: TrainTest, target: Target, keys: Mapping[str, jax.Array]
) -> dict[str, Any]:
    """The model after as many rounds with an honest participant in the seat."""
    world, _ = _world(study, images, target, Setting(), with_own=True)

    def train(key: jax.Array, world: Federation) -> Any:
        after, _ = simulate(key, world, rounds=study.attack.rounds)
        return after.target.params

    params, seconds = programs.program(train)(keys["world"], world)
    leaves = {f"leaf_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(params))}
    return {**leaves, **seconds}


def _loaded(like: Target, arrays: Mapping[str, Any]) -> Target:
    leaves, structure = jax.tree.flatten(like.params)
    loaded = [jnp.asarray(arrays[f"leaf_{i}"]) for i in range(len(leaves))]
    return dataclasses.replace(like, params=jax.tree.unflatten(structure, loaded))


def _hits(target: Target, images: TrainTest) -> np.ndarray:
    return federations.hits(target, images.test.images, images.test.labels)


def _scores(
    study: Study, images: TrainTest, judge: Target, arrays: Mapping[str, Any]
) -> dict[str, Any]:
    """Of each round's samples: nearest private image, likeness of the class, judge."""
    train, generated = images.train, np.asarray(arrays["images"])
    private = train.images[train.labels == study.wanted]
    private = private.reshape(len(private), -1)
    flat = generated.reshape(*generated.shape[:2], -1)
    nearest = np.stack(
        [
            np.square(of_round[:, None] - private[None]).mean(-1).min(-1)
            for of_round in flat
        ]
    )
    mean = private.mean(0)
    likeness = np.array([np.corrcoef(each.mean(0), mean)[0, 1] for each in flat])
    chosen = generated[int(np.argmin(arrays["losses"]))]
    judged = federations.hits(judge, chosen, np.full(len(chosen), study.wanted))
    best = generated[int(np.argmin(nearest.mean(1)))]
    everyone, labels = _directions(train.images), train.labels
    recognized = [
        identity.identity_1nn(
            _directions(samples), everyone, np.full(len(samples), study.wanted), labels
        )
        for samples in (chosen, best)
    ]
    return {
        "mse": nearest,
        "correlation": likeness,
        "judged": judged,
        "recognized": recognized,
    }


def _directions(images: np.ndarray) -> np.ndarray:
    """Pixels of mean 0 and length 1: the nearest is the one that correlates most."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def _records(
    setting: str,
    arrays: Mapping[str, Any],
    scores: Mapping[str, Any],
    control: Mapping[str, Any],
) -> list[Record]:
    own = {"setting": setting}
    chosen = int(np.argmin(arrays["losses"]))
    best = int(np.argmin(scores["mse"].mean(1)))
    records = [Record(own, "target_test_accuracy", metric(arrays["hits"]))]
    if setting == CONTROL:
        records = []
    rounds = ("chosen by its loss", chosen), ("best, by the truth", best)
    for which, (name, at) in enumerate(rounds):
        labels = {**own, "round": name}
        mse = metric(scores["mse"][at], baseline=control["mse"][-1], perfect=0.0)
        likeness = metric(
            scores["correlation"][at : at + 1],
            baseline=control["correlation"][-1:],
            perfect=1.0,
        )
        records += [
            Record(labels, "mse", mse),
            Record(labels, "correlation", likeness),
            Record(
                labels,
                "identity_1nn",
                metric(
                    scores["recognized"][which],
                    baseline=control["recognized"][0],
                    perfect=1.0,
                ),
            ),
        ]
    judged = metric(scores["judged"], baseline=control["judged"], perfect=1.0)
    return [*records, Record(own, "top1", judged)]


def _page(
    run: Run,
    study: Study,
    images: TrainTest,
    found: Mapping[str, Mapping[str, Any]],
    results: Results,
    by_round: Mapping[str, np.ndarray],
) -> report.Page:
    first, class_name = next(iter(study.settings)), images.train.names[study.wanted]
    private = images.train.images[images.train.labels == study.wanted]
    shown = min(10, study.attack.samples, len(private))
    rows = [("private images of the class", private[:shown])]
    for setting, arrays in found.items():
        samples = arrays["images"][int(np.argmin(arrays["losses"]))][:shown]
        rows.append((setting, samples))
    path, curve = run.figures / "samples.png", run.figures / "rounds.png"
    figures.image_grid(rows, path, tile=64)
    told = [*list(study.settings)[:5], CONTROL]  # A figure holds six lines.
    by_round = {setting: by_round[setting] for setting in told}
    figures.curves(by_round, curve, xlabel="round", ylabel="nearest private image, MSE")
    where = {"setting": first, "round": "chosen by its loss"}
    mse = results.value("mse", **where)
    likeness = results.value("correlation", **where)
    accuracy = results.value("target_test_accuracy", setting=first)
    verdict = (
        f"A participant without examples of class {class_name} generates images whose "
        f"nearest private image is at a squared error of {mse.value:.3f} a pixel, and "
        f"whose mean correlates with the class's by {likeness.value:.2f}; the same "
        f"generator without feedback has {mse.baseline:.3f} and "
        f"{likeness.baseline:.2f}. The shared model's test accuracy is "
        f"{accuracy.value:.3f}."
    )
    return report.Page(
        title=study.title,
        verdict=verdict,
        lead=report.Picture(
            path,
            f"Images of class {class_name}, and samples of the round that the "
            "adversary chooses by its own loss.",
        ),
        caption="By setting",
        table=results.filter(
            metric=(
                "mse",
                "correlation",
                "identity_1nn",
                "target_test_accuracy",
                "top1",
                "epsilon",
            )
        ).pivot(rows=("setting", "round"), columns=("metric",)),
        attacked=f"A classifier that {len(study.shares)} clients and the adversary "
        f"train on {images.train.name}, {study.attack.rounds} rounds.",
        knowledge="The model of each round, and examples of "
        f"{len(study.own)} other classes. No image of the class.",
        baseline="the same generator, trained as long against the final model of "
        "honest participants, at its last round.",
        n=study.attack.samples,
        results=results,
        pictures=[
            report.Picture(
                curve, "The distance of a round's samples to the nearest private image."
            )
        ],
        differences=study.differences,
        caveats=(
            "identity_1nn: of all training images, the one that correlates most with "
            "a sample is of the class.",
            f"epsilon is of a client, at a delta of {federations.DELTA:g}, against one "
            "who sees each client's update.",
            "top1 is a classifier's word on generated images, which vary little: it "
            "swings between rounds.",
            "Dark samples are near to any dark image: where no one has the class the "
            "distance can be small, and the correlation is the better measure.",
            "The round that is best by the truth is not one that an adversary can "
            "choose.",
        ),
    )
