"""Rows of images before a panel of judges, where there is no prior to compare with.

Row i of an image stack is meant to show label i. A row is compared with the better of
those that need no target.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments import judging
from experiments.harness import figures, report
from experiments.harness.results import Pivot, Record, Results, metric
from experiments.harness.run import Run
from experiments.studies import inversion
from mijax import data
from mijax.core import Target
from mijax.data import Dataset, TrainTest
from mijax.evaluation.judges import Provenance
from mijax.metrics import identity, images

FINISHED = "_finished"
NULL = ("mean_of_others", "random_image")
REAL = "real_test"
CAVEATS = (
    "The victim's own verdict is near 1 for anything that MI-Face returns, the target "
    "of shuffled labels included: it says nothing of likeness.",
    "The class-mean criterion is lenient: it asks which of the means is most alike, "
    "not whether a person would recognize the face; mse is the distance from the mean.",
    "Every evaluator that is trained here knows the same people and no others, which "
    "flatters every attack: the data set has no public part.",
    "The mean of others lacks the person by construction, so that it is never its own "
    "label's nearest mean; uniform noise shows chance.",
)
Measure = Callable[[np.ndarray], np.ndarray]


def identified(x: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Whether image i correlates most with mean i, `[B]` of 0 and 1.

    A constant image correlates with none, and identifies no one.
    """

    def standardized(x: np.ndarray) -> np.ndarray:
        x = x.reshape(len(x), -1).astype(np.float64)
        x = x - x.mean(1, keepdims=True)
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)

    return identity.top_k(standardized(x) @ standardized(means).T, np.arange(len(x)), 1)


def guessed(target: Target, k: int = 1) -> Measure:
    """Returns `images -> [B]`: is i among the target's first `k` guesses at image i?"""
    logits = judging.batched(lambda x: target.predict(x).logits)
    return lambda x: identity.top_k(logits(x), np.arange(len(x)), k)


def people(run: Run, *, at_least: int) -> Dataset:
    """AT&T's faces, whole; of another data set, center squares of 112 pixels.

    Raises:
      ValueError: if there are fewer people than `at_least`.
    """
    dataset = run.dataset or "att_faces"
    size = None if dataset == "att_faces" else 112
    loaded = data.load(dataset, data_dir=run.data_dir, size=size)
    if len(loaded.names) < at_least:
        raise ValueError(
            f"{loaded.name} has {len(loaded.names)} people: {at_least} are needed."
        )
    return loaded


def split(people: Dataset, factor: int, seed: int) -> TrainTest:
    """Shrinks images, and keeps three of ten of each person for tests.

    Raises:
      ValueError: if too few pixels would be left to compare images.
    """
    most = min(people.images.shape[1:3]) // len(images.GAUSSIAN_11)
    if not 1 <= factor <= most:
        raise ValueError(
            f"Images are shrunk by {factor} (shrink or sweep_shrink): give 1 to {most}."
        )
    return data.train_test(people.shrunk(factor), test_fraction=0.3, seed=seed)


def without_target(key: jax.Array, faces: TrainTest) -> dict[str, np.ndarray]:
    """Images for each label that need no target, and real ones: `[K, H, W, C]` each."""
    means = faces.train.means()
    noise = jax.random.uniform(key, means.shape)
    first = np.unique(faces.test.labels, return_index=True)[1]
    return {
        "mean_of_others": (means.sum(0, keepdims=True) - means) / (len(means) - 1),
        "random_image": np.asarray(noise),
        REAL: faces.test.images[first],
    }


def by_means(x: np.ndarray, means: np.ndarray, labels: Mapping[str, str]) -> Record:
    """Identification of the first images, one for each mean, compared with chance."""
    hits = identified(x[: len(means)], means)
    value = metric(hits, failure=0.0, baseline=1 / len(means), perfect=1.0)
    return Record(labels, "success_rate", value)


def judges(
    run: Run, expert: Target, faces: TrainTest
) -> tuple[list[judging.Judge], list[str]]:
    """The evaluator, public face networks and pixels; why some are not at hand."""
    known = Provenance("convolutional network", frozenset({faces.train.name}))
    own = judging.evaluator("evaluator", known, expert, faces.train, None)
    found, absent = inversion.by_faces(run, own, faces, None)
    return [*found, judging.pixels(faces.train, None)], absent


def judged(
    rows: Mapping[str, np.ndarray],
    means: np.ndarray,
    evaluators: Mapping[str, Target],
    judges: Sequence[judging.Judge],
    targets: Mapping[str, Target],
) -> list[Record]:
    """Every metric of every row, those of `without_target` and `REAL` among them.

    Args:
      rows: images by the row's name, `[K, H, W, C]` each.
      means: the mean private image of each label, `[K, H, W, C]`.
      evaluators: classifiers of the same labels; of the first, top5 too.
      judges: feature spaces for 1-NN identification.
      targets: who is attacked, by the row that is recovered from it.
    """
    first = next(iter(evaluators))
    labels = {}
    for row in rows:
        name = row.removesuffix(FINISHED)
        labels[row] = {"images": row} | ({"target": name} if name in targets else {})
    measures: list[tuple[str, str | None, Measure]] = [
        ("success_rate", "class_mean", lambda x: identified(x, means)),
        *(("top1", name, guessed(target)) for name, target in evaluators.items()),
        ("top5", first, guessed(evaluators[first], 5)),
        *(("identity_1nn", judge.name, _nearest(judge)) for judge in judges),
        (
            "mse",
            None,
            lambda x: np.asarray(images.mse(jnp.asarray(means), jnp.asarray(x))),
        ),
        ("ssim", None, lambda x: np.asarray(images.ssim(means, x))),
    ]
    records = []
    for name, judge, measure in measures:
        values = {row: measure(x) for row, x in rows.items()}
        best = min if name == "mse" else max
        baseline = best(float(np.mean(values[row])) for row in NULL)
        for row, line in values.items():
            alone = row in (*NULL, REAL)
            value = metric(
                line,
                failure=None if judge is None else 0.0,
                baseline=None if alone else baseline,
                perfect=None if alone else float(name != "mse"),
            )
            about = labels[row] | ({"judge": judge} if judge else {})
            records.append(Record(about, name, value))
    for row, x in rows.items():
        if "target" in labels[row]:
            victim = guessed(targets[labels[row]["target"]])
            noise = victim(rows["random_image"])
            value = metric(victim(x), failure=0.0, baseline=noise, perfect=1.0)
            records.append(
                Record(labels[row] | {"judge": "victim"}, "success_rate", value)
            )
    return records


def of_targets(
    hits: Mapping[str, np.ndarray], published: Mapping[str, float]
) -> list[Record]:
    """Accuracy on real images of those targets whose published one is given."""
    return [
        Record(
            {"target": name}, "target_test_accuracy", metric(hits[name], paper=paper)
        )
        for name, paper in published.items()
    ]


def of_judges(
    hits: Mapping[str, np.ndarray], judges: Sequence[judging.Judge], test: Dataset
) -> list[Record]:
    """Accuracy on real images: of evaluators, whose hits are given, and of judges."""
    nearest = {
        f"{j.name}, 1-NN": j.nearest(j.features(test.images), test.labels, "private")
        for j in judges
    }
    return [
        Record({"judge": name}, "evaluator_test_accuracy", metric(line))
        for name, line in {**hits, **nearest}.items()
    ]


def _nearest(judge: judging.Judge) -> Measure:
    return lambda x: judge.nearest(judge.features(x), np.arange(len(x)), "private")


# The page -------------------------------------------------------------------------

CAPTION = (
    "Who judges decides: the share of labels that each recognizes (victim and "
    "evaluators by their first guess, feature spaces by 1-NN)"
)


def lowest(results: Results, rows: Sequence[str]) -> str:
    """The judge, none of those who were trained on these people, who names fewest."""
    found = results.filter(metric="identity_1nn", images=rows)
    names = {record.labels["judge"] for record in found} - {"evaluator"}
    return min(
        sorted(names),
        key=lambda name: sum(r.value.value for r in found.filter(judge=name)),
    )


def table(results: Results) -> Pivot:
    """A row of images a line, a judge a column: are all as easily pleased?"""
    nearest = results.filter(metric="identity_1nn")
    return Results(
        [
            *results.filter(metric="success_rate", judge="victim"),
            *results.filter(metric="top1"),
            *(record for record in nearest if record.labels["judge"] != "evaluator"),
            *results.filter(metric="success_rate", judge="class_mean", rounding=""),
        ]
    ).pivot(rows=("images",), columns=("judge",))


def draw(
    run: Run, rows: Mapping[str, np.ndarray], means: np.ndarray, names: Sequence[str]
) -> report.Picture:
    """Draws the first rows of each, below the mean training image."""
    drawn = {"mean of training images": means} | {
        row.replace("_", " "): x
        for row, x in rows.items()
        if row not in ("random_image", REAL)
    }
    path = run.figures / "recovered.png"
    figures.image_grid([(k, x[: len(names)]) for k, x in drawn.items()], path, names)
    return report.Picture(
        path,
        f"The first {len(names)} people, none chosen. Null shuffled comes from a "
        "target trained on shuffled labels; the mean of others needs none.",
    )


def seconds(
    found: Mapping[str, Mapping[str, np.ndarray]], published: Mapping[str, float]
) -> report.Table:
    """Seconds for each face, and the paper's."""
    rows = []
    for name, paper in published.items():
        arrays = found[name]
        own = [float(arrays[kind]) / len(arrays["x"]) for kind in ("run", "compile")]
        rows.append([name, arrays["trace"].shape[-1] - 1, *own, paper])
    return report.Table(
        "Seconds per face, all labels at once; the paper's one at a time",
        ["model", "steps", "run", "compile", "paper"],
        rows,
    )
