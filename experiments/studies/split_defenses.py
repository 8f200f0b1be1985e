"""Defenses of split networks: noise and NoPeek, and what they cost the task.

A paper is a `Study`: settings, each a defense in training and another of what is sent
afterwards. The adversary asks the defended first half about images of its own, so that
its decoder is trained on features as defended as the victims'.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.harness import figures, programs, report, resumable
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from experiments.studies.classifiers import Classifier, errors, file_name, named
from mijax import attacks, data, training
from mijax.core import Defense, Target
from mijax.data import Dataset, TrainTest
from mijax.defenses.nopeek import distance_correlation
from mijax.knowledge import Half, SplitQueries
from mijax.models import cut

inverse_network = attacks.split_inverse_network
_CORRELATED = 256  # images whose distance correlation is measured


@dataclasses.dataclass(frozen=True)
class Setting:
    """A defense in training, and one of what is sent; both made of a key."""

    trained: Callable[[jax.Array], Defense] | None = None
    sent: Callable[[jax.Array], Defense] | None = None


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      dataset: of `mijax.data.load`, where `--dataset` is not given.
      target: the classifier that is split, whose network is a `CutNetwork`.
      layer: after which it is cut.
      judge: the evaluator, which reads classes of recovered images.
      settings: by name; the first has no defense.
      attack: of the decoder.
      victims: test images that are attacked.
      differences: from the paper's set-up.
    """

    title: str
    dataset: str
    target: Classifier
    layer: str
    judge: Classifier
    settings: Mapping[str, Setting]
    attack: inverse_network.Config = inverse_network.Config()
    victims: int = 500
    differences: tuple[str, ...] = ()


def measure(run: Run, study: Study) -> report.Page:
    """Trains under each setting, decodes what is sent, judges, and tells."""
    loaded = data.load(run.dataset or study.dataset, data_dir=run.data_dir)
    split = data.train_test(loaded, test_fraction=0.5, seed=run.seed)
    held = data.train_test(split.test, test_fraction=0.4, seed=run.seed)
    public, test = held.train.images, data.shuffled(held.test, seed=run.seed)
    keys = run.keys("train", "defense", "judge", "attack")
    judge, judged = study.judge.train(
        run, keys["judge"], "evaluator", TrainTest(split.train, test)
    )
    truth, labels = test.images[: study.victims], test.labels[: study.victims]
    blind = np.broadcast_to(public.mean(0, keepdims=True), truth.shape)
    records = [Record({"setting": "all"}, "evaluator_test_accuracy", metric(judged))]
    shown = {"true image": truth}
    for name, setting in study.settings.items():
        made = [
            Defense() if make is None else make(keys["defense"])
            for make in (setting.trained, setting.sent)
        ]
        first, rest = _trained(run, study, keys["train"], name, split.train, made[0])
        send = made[1].feature or _unchanged
        sent = programs.batched(lambda x, first=first, send=send: send(first(x)))
        crossed = sent(test.images)
        logits = programs.batched(lambda v, rest=rest: rest(v))(crossed)
        hits = (logits.argmax(1) == test.labels).astype(float)
        crossed = jnp.asarray(crossed[: study.victims])
        known = SplitQueries.of(
            crossed,
            truth.shape[1:],
            first,
            jnp.asarray(public),
            release=made[1].feature,
        )
        found = _attacked(run, name, keys["attack"], known, study.attack)
        own = {"setting": name}
        records.append(Record(own, "target_test_accuracy", metric(hits)))
        records += _judged(own, judge, truth, labels, found, blind, crossed)
        shown[name] = found
    return _page(run, study, split.train, Results(records), shown)


def _unchanged(x: Any) -> Any:
    return x


def _trained(
    run: Run,
    study: Study,
    key: jax.Array,
    name: str,
    images: Dataset,
    defense: Defense,
) -> tuple[Half, Half]:
    module = study.target.network(len(images.names))
    first, rest = cut.cut(module, study.layer)
    optimizer = optax.adam(study.target.learning_rate)
    init_key, fit_key = jax.random.split(key)
    learner = training.train_state(init_key, module, images.images.shape[1:], optimizer)
    learner = resumable.train(
        fit_key,
        learner,
        training.split(first, rest, optimizer, defense),
        (images.images, images.labels),
        name=name,
        folder=run.workdir / "checkpoints" / file_name(name),
        batch_size=study.target.batch_size,
        steps=study.target.steps,
        chunk=500,
    )
    variables = learner.variables
    return Half(first.of(variables), first), Half(rest.of(variables), rest)


def _attacked(
    run: Run, name: str, key: jax.Array, known: SplitQueries, config: Any
) -> np.ndarray:
    def compute() -> dict[str, Any]:
        found, seconds = programs.program(inverse_network.attack)(key, known, config)
        print(f"{name}: attacked in {seconds['run']:.1f} s", flush=True)
        return {"x": found.x, "queries": found.queries} | seconds

    return run.once(file_name(name), compute)["x"]


def _judged(
    own: dict[str, str],
    judge: Target,
    truth: np.ndarray,
    labels: np.ndarray,
    found: np.ndarray,
    blind: np.ndarray,
    crossed: jax.Array,
) -> list[Record]:
    seen, seen_blind = (named(judge, x, labels) for x in (found, blind))
    records = [
        Record(own, "top1", metric(seen, baseline=seen_blind, perfect=1.0)),
        *errors(own, truth, found, blind),
    ]
    correlation = jax.jit(distance_correlation)
    for pair, other in (("features", crossed), ("recovered", jnp.asarray(found))):
        value = correlation(truth[:_CORRELATED], other[:_CORRELATED])
        line = metric([float(value)])
        records.append(Record(own | {"with": pair}, "distance_correlation", line))
    return records


def _page(
    run: Run,
    study: Study,
    private: Dataset,
    results: Results,
    shown: Mapping[str, np.ndarray],
) -> report.Page:
    path, cost = run.figures / "recovered.png", run.figures / "tradeoff.png"
    figures.image_grid([(name, x[:8]) for name, x in shown.items()], path)
    points = []
    for name in study.settings:
        task = results.value("target_test_accuracy", setting=name)
        error = results.value("mse", setting=name)
        points.append(
            figures.Point(
                name,
                (task.value, task.low, task.high),
                (error.value, error.low, error.high),
            )
        )
    figures.tradeoff(
        {"inverse network": points},
        cost,
        xlabel="accuracy of the task",
        ylabel="squared error of a recovered pixel",
    )
    names = list(study.settings)
    plain, best = (
        results.value("mse", setting=name)
        for name in (
            names[0],
            max(names, key=lambda name: results.value("mse", setting=name).value),
        )
    )
    table = results.filter(
        metric=("target_test_accuracy", "mse", "ssim", "top1", "distance_correlation"),
    )
    return report.Page(
        title=study.title,
        verdict=f"Without a defense a decoder recovers images from the features with a "
        f"squared error of {plain.value:.4f} a pixel, under the strongest of these "
        f"defenses with {best.value:.4f}. The mean of the adversary's own images has "
        f"{plain.baseline:.4f}.",
        lead=report.Picture(
            path, "The first attacked images, and what was recovered by each setting."
        ),
        caption="By setting",
        table=table.pivot(rows=("setting",), columns=("metric", "with")),
        attacked=f"A split classifier of {private.name}, trained on "
        f"{len(private):,} images under each setting.",
        knowledge="The features that cross the split, as they are sent, and answers of "
        "the first half, sent the same way, to images of its own.",
        baseline="the mean of the adversary's own images.",
        n=study.victims,
        results=results,
        pictures=[
            report.Picture(cost, "Up is safer, right is more useful; 95 % intervals.")
        ],
        differences=study.differences,
        caveats=(
            "The mean image bounds the error: near it nothing is recovered.",
            "The distance correlation of a sample of 256 images is biased upward.",
        ),
    )
