"""Surrogates: generators and copies of a target, trained from its answers alone.

A paper is a `Study`. The same attack on a target that learned the same images with
shuffled labels tells what of its measures needs no leak.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import figures, programs, report
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from experiments.studies.classifiers import Classifier, file_name
from mijax import data
from mijax.attacks import gamin
from mijax.core import Target
from mijax.data import Dataset, TrainTest
from mijax.knowledge import Scores
from mijax.metrics import identity

TRUE, NULL = "target", "null: labels shuffled"


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      dataset: of `mijax.data.load`, where `--dataset` is not given.
      target: the classifier that is attacked.
      judge: the evaluator.
      attack: of the pair.
      differences: from the paper's set-up.
    """

    title: str
    dataset: str
    target: Classifier
    judge: Classifier
    attack: gamin.Config = gamin.Config()
    differences: tuple[str, ...] = ()


def measure(run: Run, study: Study) -> report.Page:
    """Trains the targets, attacks each label, judges, and tells."""
    loaded = data.load(run.dataset or study.dataset, data_dir=run.data_dir)
    images = data.train_test(loaded, test_fraction=0.4, seed=run.seed)
    keys = run.keys("target", "judge", "attack")
    judge, judged = study.judge.train(run, keys["judge"], "evaluator", images)
    records = [Record({"attacked": "all"}, "evaluator_test_accuracy", metric(judged))]
    shown = {"the class's mean": _means(images.train)}
    for name, own in {TRUE: images, NULL: _shuffled(images, run.seed)}.items():
        target, hits = study.target.train(run, keys["target"], name, own)
        records.append(Record({"attacked": name}, "target_test_accuracy", metric(hits)))
        for label in range(len(loaded.names)):
            mine = hits[images.test.labels == label]
            own_label = {"attacked": name, "label": loaded.names[label]}
            records.append(Record(own_label, "target_test_accuracy", metric(mine)))
        found = _attacked(run, study, keys["attack"], name, target, images.test)
        records += _judged(name, found, target, judge, images)
        shown[name] = found["x"]
    return _page(run, study, images.train, Results(records), shown)


def _shuffled(images: TrainTest, seed: int) -> TrainTest:
    train = images.train
    labels = np.random.default_rng(seed).permutation(train.labels)
    return images._replace(train=dataclasses.replace(train, labels=labels))


def _means(images: Dataset) -> np.ndarray:
    """The mean image of each class, `[K, H, W, C]`."""
    classes = range(len(images.names))
    return np.stack([images.images[images.labels == k].mean(0) for k in classes])


def _attacked(
    run: Run, study: Study, key: jax.Array, name: str, target: Target, real: Dataset
) -> dict[str, np.ndarray]:
    """What is generated of each label, and what each surrogate says of real images."""
    known = Scores.of(target, jnp.arange(len(real.names)))

    def go(key: jax.Array, known: Scores, real: jax.Array, config: gamin.Config) -> Any:
        train_key, draw_key = jax.random.split(key)
        trained = gamin.train(train_key, known, config)
        found = gamin.generate(draw_key, trained, config)
        everywhere = jnp.broadcast_to(real, (len(found.x), *real.shape))
        of_real, of_own = (
            jnp.argmax(gamin.surrogate(trained, config, each), -1)
            for each in (everywhere, found.candidates)
        )
        return {
            "x": found.x,
            "candidates": found.candidates,
            "queries": found.queries,
            "trace": trained.trace,
            "balances": trained.balances,
            "of_real": of_real,
            "of_own": of_own,
        }

    def compute() -> dict[str, Any]:
        images = jnp.asarray(real.images)
        found, seconds = programs.program(go)(key, known, images, study.attack)
        print(f"{name}: attacked in {seconds['run']:.1f} s", flush=True)
        return found | seconds

    return run.once(f"attack_{file_name(name)}", compute)


def _judged(
    name: str,
    found: Mapping[str, np.ndarray],
    target: Target,
    judge: Target,
    images: TrainTest,
) -> list[Record]:
    x, drawn, train, real = found["x"], found["candidates"], images.train, images.test
    classes, each = drawn.shape[:2]
    labels = np.arange(classes)
    flat = drawn.reshape(-1, *drawn.shape[2:])
    wanted, clusters = np.repeat(labels, each), np.repeat(labels, each)
    said, seen, said_real, seen_x = (
        programs.batched(lambda x, model=model: model.predict(x).logits)(it).argmax(1)
        for model, it in (
            (target, flat),
            (judge, flat),
            (target, real.images),
            (judge, x),
        )
    )
    correlations = _correlations(drawn.mean(1), _means(train))
    nearest = identity.identity_1nn(
        x.reshape(classes, -1),
        train.images.reshape(len(train), -1),
        labels,
        train.labels,
    )
    chance = np.full(classes, 1 / classes)
    copies, copied = found["of_real"], said == found["of_own"].ravel()
    own = {"attacked": name}
    generated = own | {"on": "generated images"}
    held = own | {"on": "real images"}
    records = [
        Record(own, "acceptance", metric(said == wanted, clusters=clusters)),
        Record(generated, "fidelity", metric(copied, clusters=clusters)),
        Record(held, "fidelity", metric((copies == said_real).mean(1))),
        Record(own, "surrogate_accuracy", metric((copies == real.labels).mean(1))),
        Record(own, "top1", metric(seen_x == labels, baseline=chance, perfect=1.0)),
        Record(own, "identity_1nn", metric(nearest, baseline=chance, perfect=1.0)),
        Record(
            own,
            "rank1_correlation",
            metric(correlations.argmax(1) == labels, baseline=chance, perfect=1.0),
        ),
        Record(own, "correlation", metric(np.diag(correlations))),
    ]
    for label in labels:
        mine = own | {"label": train.names[label]}
        here = real.labels == label
        records += [
            Record(mine, "acceptance", metric((said == wanted)[clusters == label])),
            Record(mine, "class_accuracy", metric(copies[label, here] == label)),
            Record(mine, "top1", metric((seen == wanted)[clusters == label])),
            Record(mine, "correlation", metric(correlations[label, [label]])),
        ]
    return records


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's, of each image of `a` `[M, ...]` with each of `b` `[K, ...]`."""
    a, b = (x.reshape(len(x), -1) for x in (a, b))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None]
    return a @ b.T / np.maximum(lengths, 1e-12)


def _page(
    run: Run,
    study: Study,
    private: Dataset,
    results: Results,
    shown: Mapping[str, np.ndarray],
) -> report.Page:
    path = run.figures / "generated.png"
    figures.image_grid([(name, x[:10]) for name, x in shown.items()], path)

    def value(metric: str, **labels: str) -> float:
        return results.value(metric, **({"label": ""} | labels)).value

    labels = list(private.names)
    taken = min(value("acceptance", attacked=TRUE, label=label) for label in labels)
    top1, near, rank, null = (
        value(kind, attacked=who)
        for kind, who in (
            ("top1", TRUE),
            ("identity_1nn", TRUE),
            ("rank1_correlation", TRUE),
            ("rank1_correlation", NULL),
        )
    )
    whole = results.filter(label="")
    return report.Page(
        title=study.title,
        verdict=f"The target takes at least {taken:.2f} of what is generated for a "
        f"label for that label. The evaluator sees the label in {top1:.2f} of the "
        f"images, the nearest real image is of it in {near:.2f}, and the class mean "
        f"that correlates most is its own for {rank:.2f} of the labels; of a target "
        f"that learned shuffled labels, for {null:.2f}; by chance "
        f"{1 / len(labels):.2f}.",
        lead=report.Picture(
            path, "The mean image of each class, and what was generated for it."
        ),
        caption="By target",
        table=whole.filter(
            metric=(
                "target_test_accuracy",
                "acceptance",
                "fidelity",
                "surrogate_accuracy",
                "top1",
                "identity_1nn",
                "rank1_correlation",
                "correlation",
            )
        ).pivot(rows=("attacked",), columns=("metric", "on")),
        attacked=f"A classifier of {private.name}, trained on {len(private):,} images.",
        knowledge="Confidences of "
        f"{2 * study.attack.batch_size * study.attack.steps:,} images a label that the "
        "adversary makes up; no image, no weights.",
        baseline="chance: one label of all; and the same attack on a target that "
        "learned the same images with shuffled labels.",
        n=len(labels),
        results=results,
        tables=(
            report.Table(
                "By label: the target's accuracy, what it takes for the label, the "
                "surrogate's accuracy on real images of it, what the evaluator sees, "
                "and the correlation with the class mean",
                ("label", *_BY_LABEL),
                [
                    (
                        label,
                        *(value(m, attacked=TRUE, label=label) for m in _BY_LABEL),
                    )
                    for label in labels
                ],
            ),
        ),
        differences=study.differences,
    )


_BY_LABEL = (
    "target_test_accuracy",
    "acceptance",
    "class_accuracy",
    "top1",
    "correlation",
)
