"""MI-Face through rounded confidences: does the rounding protect, or hide a gradient?

A naive adversary's queries differ by less than one that knows of the rounding. Both see
a target of labels 0 to K - 1 through each of `STEPS`; S is 2 for each step.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments import judging
from experiments.harness import figures, programs, report
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from experiments.studies import panel
from mijax.attacks import mi_face
from mijax.core import Reconstruction, Target
from mijax.data import TrainTest
from mijax.defenses.rounding import rounding
from mijax.knowledge import Scores
from mijax.metrics import identity

STEPS = ("0", "0.001", "0.005", "0.01", "0.05", "0.1")
ADVERSARIES = ("naive", "adaptive")
CAVEATS = (
    "An adaptive difference asks about pixels outside [0, 1], which a service that "
    "checks its input would refuse.",
    "Where a label's confidence in the black start image lies on an edge between two "
    "multiples, even the smallest difference is seen: that is what a naive adversary "
    "still recovers. (For 0.01 and 0.05 one edge is 1/40.)",
)
_SETTINGS = tuple(itertools.product(ADVERSARIES, STEPS))


def attack(
    run: Run, key: jax.Array, target: Target, config: mi_face.Config, adaptive: float
) -> dict[str, np.ndarray]:
    """Attacks every label through every rounding, in one compiled program.

    Args:
      run: keeps what is recovered, as `sweep`.
      key: is consumed.
      target: whose confidences are rounded.
      config: with the naive adversary's difference between queries.
      adaptive: the other's.

    Returns:
      The fields of `Reconstruction` with a leading axis `[S]`, and seconds.
    """
    labels = jnp.arange(target.num_classes, dtype=jnp.int32)
    steps = jnp.asarray([float(step) for _, step in _SETTINGS])
    differences = {"naive": float(config.difference), "adaptive": adaptive}
    each = jnp.asarray([differences[adversary] for adversary, _ in _SETTINGS])
    config = dataclasses.replace(config, difference=each)
    program = programs.program(_through_each)
    return run.attack("sweep", program, key, target, labels, steps, config)


def _through_each(
    key: jax.Array,
    target: Target,
    labels: jax.Array,
    steps: jax.Array,
    config: mi_face.Config,
) -> Reconstruction:
    def one(setting: tuple[jax.Array, jax.Array]) -> Reconstruction:
        step, difference = setting
        knowledge = Scores.of(target, labels, release=rounding(step).output)
        changed = dataclasses.replace(config, difference=difference)
        return mi_face.attack(key, knowledge, changed)

    return jax.lax.map(one, (steps, config.difference))


def judged(x: np.ndarray, target: Target, faces: TrainTest) -> list[Record]:
    """Identification of `[S, K, H, W, C]`, and what each rounding costs in accuracy."""
    means, records = faces.train.means(), []
    for (adversary, step), recovered in zip(_SETTINGS, x, strict=True):
        labels = {"rounding": step, "adversary": adversary, "judge": "class_mean"}
        records.append(panel.by_means(recovered, means, labels))
    score = judging.batched(lambda x: jax.nn.softmax(target.predict(x).logits))
    scores = jnp.asarray(score(faces.test.images))
    for step in STEPS:
        release = rounding(float(step)).output
        assert release is not None
        # Two labels that round to one score are no answer: a tie is an error.
        hits = identity.top_k(release(scores), faces.test.labels, 1)
        records.append(Record({"rounding": step}, "target_test_accuracy", metric(hits)))
    return records


def table(results: Results, queries: int) -> report.Table:
    """Rounding against each adversary, with its cost."""
    rows = []
    for step in STEPS:
        lines = [
            results.value("success_rate", rounding=step, adversary=adversary)
            for adversary in ADVERSARIES
        ]
        lines.append(results.value("target_test_accuracy", rounding=step))
        rows.append([step if step != "0" else "not", *(line.value for line in lines)])
    return report.Table(
        f"Rounded confidences: identified, with {queries:,} queries per person",
        ["rounded to", *ADVERSARIES, "test accuracy"],
        rows,
    )


def draw(
    run: Run,
    results: Results,
    x: np.ndarray,
    names: Sequence[str],
    differences: tuple[float, float],
) -> list[report.Picture]:
    """Draws identification through each rounding, and the faces of `names`.

    `differences` are those between each adversary's queries.
    """
    series = {}
    for adversary in ADVERSARIES:
        found = results.filter(metric="success_rate", adversary=adversary)
        series[f"identified, {adversary}"] = _ends(found)
    cost = results.filter(metric="target_test_accuracy", rounding=STEPS)
    series["test accuracy"] = _ends(cost)
    share, faces = run.figures / "rounding.png", run.figures / "rounded_faces.png"
    figures.lines(
        [float(step) for step in STEPS],
        series,
        share,
        xlabel="confidences rounded to multiples of (0: not rounded)",
        ylabel="share",
        log_x=True,
        baseline=1 / x.shape[1],
    )
    by_adversary = x.reshape(len(ADVERSARIES), len(STEPS), *x.shape[1:])
    figures.image_grid(
        [
            (f"{name}, {adversary}", rows[:, person])
            for person, name in enumerate(names)
            for adversary, rows in zip(ADVERSARIES, by_adversary, strict=True)
        ],
        faces,
        ["not rounded", *(f"to {step}" for step in STEPS[1:])],
    )
    naive, adaptive = differences
    return [
        report.Picture(
            share,
            f"A naive adversary moves a pixel by {naive:g}, an adaptive one by "
            f"{adaptive:g}: only to the former does rounding hide the gradient. 95 % "
            "intervals.",
        ),
        report.Picture(
            faces,
            f"What both recover of the first {len(names)} people. Black: no query "
            "moved a confidence to another multiple.",
        ),
    ]


def _ends(records: Results) -> np.ndarray:
    lines = [record.value for record in records]
    return np.array([(line.value, line.low, line.high) for line in lines], np.float64)
