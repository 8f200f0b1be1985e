"""Yeom et al. 2018: advantage over members, by how far a regression overfits.

Paper: Yeom, Giacomelli, Fredrikson, Jha, Privacy risk in machine learning: analyzing
the connection to overfitting, CSF 2018: attribute and membership advantage of trees of
growing depth and of ridge regression, on IWPC, beside what theory expects.

Expected (VKORC1, seeds averaged): advantage .35 or more at depth 20, .04 or less at
depth 4, and growing over 4, 8, 12, 16 and 20.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.tree import DecisionTreeRegressor

from experiments.attribute_inference import padding, verdicts
from experiments.attribute_inference import setting as settings
from experiments.attribute_inference.verdicts import Page
from experiments.harness import figures, report
from mijax.attacks import attribute_advantage, map_inference
from mijax.data import tables
from mijax.knowledge import normal
from mijax.models import linear, trees

TABLES = ("iwpc_scaled",)
DEPTHS = (1, 2, 4, 6, 8, 12, 16, 20)
FIELDS = "vkorc1", "cyp2c9"
RESOLUTION = 0.02  # of the standardized dose, the least deviation of its errors
ATTACKS = "map", "reduction"
_MAP, _REDUCTION = jax.jit(map_inference.attack), jax.jit(attribute_advantage.attack)
_PREDICT = jax.jit(lambda target, x: target.predict(x).logits[:, 0])


def load(name: str, data_dir: str | None) -> tables.Table:
    """Loads the table as the authors scaled it."""
    return tables.load(name, data_dir=data_dir)


def outcome(table: tables.Table) -> np.ndarray:
    """The scaled dose."""
    return table.outcome.astype(np.float32)


def models() -> list[str]:
    """The attacked models, by name."""
    return ["ridge", *(f"depth_{depth}" for depth in DEPTHS)]


def measure(table: tables.Table, seed: int) -> dict[str, np.ndarray]:
    """Attacks both genotypes from ridge regression and from trees."""
    found: dict[str, np.ndarray] = {}
    for field in FIELDS:
        setting = settings.make(table, field, seed, outcome)
        x, y = setting.train.x, setting.train.outcome
        targets = {"ridge": linear.target(linear.ridge(x, y, 1e-3))}
        for depth in DEPTHS:
            tree = DecisionTreeRegressor(max_depth=depth, random_state=seed)
            fitted = tree.fit(np.asarray(x), np.asarray(y))
            targets[f"depth_{depth}"] = padding.target(trees.from_sklearn(fitted))
        each = settings.without_target(setting)
        for name, target in targets.items():
            errors = {
                side: np.asarray(victims.outcome - _PREDICT(target, victims.x))
                for side, victims in setting.sides.items()
            }
            training, population = (
                max(float(np.sqrt(np.mean(errors[side] ** 2))), RESOLUTION)
                for side in settings.SIDES
            )
            config = attribute_advantage.Config(training=training)
            for side in settings.SIDES:
                known = setting.knowledge(target, side, error=normal(training))
                key = jax.random.key(0)  # Both attacks are deterministic.
                inferred = _MAP(key, known)
                each |= settings.inferred(side, f"map-{name}", inferred)
                inferred = _REDUCTION(key, known, config)
                each |= settings.inferred(side, f"reduction-{name}", inferred)
            found[f"{name}.deviations"] = np.array([training, population])
            accepted = [np.abs(errors[side]) <= training for side in settings.SIDES]
            found[f"{name}.membership"] = accepted[0].mean() - accepted[1].mean()
        found |= {f"{field}.{name}": values for name, values in each.items()}
    return found


def page(
    people: dict[str, tables.Table],
    results: dict[str, list[dict[str, np.ndarray]]],
    folder: pathlib.Path,
) -> Page:
    """Judges and draws."""
    (table,), (found,) = people.values(), results.values()
    metrics: dict[str, report.Metric] = {}
    advantages: dict[str, np.ndarray] = {}
    sentences = []
    for field in FIELDS:
        of_field = [verdicts.part(seed, field) for seed in found]
        for side in settings.SIDES:
            for row in verdicts.rows(of_field[0], side):
                metrics |= verdicts.lines(of_field, f"{field}-{row}-{side}", side, row)
        for attack in ATTACKS:
            for model in models():
                row = f"{attack}-{model}"
                gap = verdicts.accuracy(of_field, "train", row)
                gap = gap - verdicts.accuracy(of_field, "test", row)
                advantages[f"{field}-{row}"] = gap
                metrics[f"advantage/{field}-{row}"] = verdicts.over_seeds(
                    gap, baseline=0.0
                )
        sentences.append(
            verdicts.beats(
                of_field,
                f"{field}, a tree of depth 20, members",
                "train",
                "map-depth_20",
            )
        )
    for model in models():
        each = [float(seed[f"{model}.membership"]) for seed in found]
        metrics[f"advantage/membership-{model}"] = verdicts.over_seeds(
            each, baseline=0.0
        )
    return Page(
        title="Advantage over members, by overfitting",
        attacked=f"{table.report()} The scaled dose, by ridge regression and by trees "
        "of depth 1 to 20, of 75 % of the rows.",
        knowledge="A black box, its deviation on the training rows, the person's true "
        "outcome, all other fields, and marginals of the training rows.",
        baseline="imputation from the known fields and the outcome, without the "
        "model; for an advantage, 0.",
        n=sum(len(seed["vkorc1.train.truth"]) for seed in found),
        metrics=metrics,
        tables=[_table(found, advantages)],
        pictures=_draw(found, advantages, folder),
        differences=[
            "the authors average 100 splits, and attack Eyedata and Netflix as well",
            f"a deviation below {RESOLUTION:g} counts as that: a tree that fits every "
            "training row leaves none",
        ],
        caveats=[
            *sentences,
            "Advantage is accuracy on members less that on others. On shallow trees "
            "and ridge regression it is nearly 0: what is inferred there is of the "
            "population.",
            "The theory is of membership, for normal errors; a deep tree's are not.",
        ],
    )


def _ratio(found: list[dict[str, np.ndarray]], model: str) -> float:
    return float(
        np.mean(
            [s[f"{model}.deviations"][1] / s[f"{model}.deviations"][0] for s in found]
        )
    )


def _table(
    found: list[dict[str, np.ndarray]], advantages: dict[str, np.ndarray]
) -> report.Table:
    rows = [
        [
            model.replace("_", " "),
            _ratio(found, model),
            np.mean([float(seed[f"{model}.membership"]) for seed in found]),
            *(
                advantages[f"{field}-{attack}-{model}"].mean()
                for field in FIELDS
                for attack in ATTACKS
            ),
        ]
        for model in models()
    ]
    columns = [f"{field}, {attack}" for field in FIELDS for attack in ATTACKS]
    return report.Table(
        "Advantage by how much larger errors are on new rows",
        ["model", "test to train deviation", "membership", *columns],
        rows,
    )


def _draw(
    found: list[dict[str, np.ndarray]],
    advantages: dict[str, np.ndarray],
    folder: pathlib.Path,
) -> list[report.Picture]:
    ratios = {f"depth_{depth}": _ratio(found, f"depth_{depth}") for depth in DEPTHS}
    order = sorted(ratios, key=lambda model: ratios[model])
    gaps = np.maximum(np.array([ratios[model] for model in order]), 1 + 1e-6)
    gaps = np.maximum.accumulate(gaps + 1e-6 * np.arange(len(gaps)))
    membership = np.stack(
        [[float(seed[f"{model}.membership"]) for seed in found] for model in order]
    )
    figures.lines(
        gaps,
        {
            "VKORC1, by MAP": verdicts.band(
                np.stack([advantages[f"vkorc1-map-{model}"] for model in order])
            ),
            "CYP2C9, by MAP": verdicts.band(
                np.stack([advantages[f"cyp2c9-map-{model}"] for model in order])
            ),
            "membership": verdicts.band(membership),
            "membership, theory": np.asarray(
                attribute_advantage.unknown_deviation(jnp.asarray(gaps))
            ),
        },
        folder / "advantage.png",
        xlabel="deviation of errors on new rows, to that on training rows",
        ylabel="advantage",
        log_x=False,
        baseline=0.0,
        baseline_label="no leak",
    )
    return [
        report.Picture(
            folder / "advantage.png",
            "Trees of depth 1 to 20, from left to right; lines from the least to the "
            f"greatest of {len(found)} seeds.",
        )
    ]
