"""Fredrikson et al. 2015: an affair, of a decision tree and the confusion it causes.

Paper: Fredrikson, Jha, Ristenpart, Model inversion attacks that exploit confidence
information and basic countermeasures, CCS 2015: accuracy, precision and recall on
FiveThirtyEight's steak survey and on the GSS, of a black box and of a white box with
counts; and CART with a priority for the sensitive feature.

Expected on `fair`, three seeds or more: a tree of full depth gives members away (black
box .12 above the mode, precision .80) and others not; one of depth 4 gives nobody away.
Priority at the bottom halves the gap of depth 12 for at most 2 points of accuracy.
"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.tree import DecisionTreeClassifier

from experiments.attribute_inference import padding, verdicts
from experiments.attribute_inference import setting as settings
from experiments.attribute_inference.setting import Setting
from experiments.attribute_inference.verdicts import Page, Published
from experiments.harness import figures, report
from mijax.attacks import tree_inversion
from mijax.core import Paths, Target
from mijax.data import tables
from mijax.defenses.trainers.feature_priority import feature_priority
from mijax.defenses.trainers.mid_tree import information, mid_tree
from mijax.knowledge import confusion
from mijax.models import trees

TABLES = ("fair", "steak", "gss")
FULL = 100  # deeper than any of these trees grows
DEPTHS = (4, 8, 12, FULL)
PRIORITIES = (1, 6, 12)
DEFENDED = 12  # depth of the defended trees
MID_WEIGHTS = (0.02, 0.05, 0.1)
ROWS = "black_box", "white_box", "white_box_without_outcome"
_ATTACK = jax.jit(tree_inversion.attack)
_PREDICT = jax.jit(lambda target, x: jnp.argmax(target.predict(x).logits, 1))
# As the literature quotes the paper's table: full trees, members.
PAPER = {
    "steak": {
        "white_box_without_outcome": Published(0.864, 1.0, 0.211),
        "black_box": Published(0.858, 0.857, 0.211),
        "mode": Published(0.829, None, 0.0),
        "ideal": Published(0.998, 1.0, 0.986),
    },
    "gss": {
        "white_box_without_outcome": Published(0.803, 1.0, 0.007),
        "black_box": Published(0.800, 0.388, 0.01),
    },
}


class Grown(NamedTuple):
    """A tree that is attacked."""

    target: Target
    paths: Paths


def load(name: str, data_dir: str | None) -> tables.Table:
    """Loads one of the paper's tables, or the one that stands in for them."""
    return tables.load(name, data_dir=data_dir)


def measure(table: tables.Table, seed: int) -> dict[str, np.ndarray]:
    """Attacks a tree of each depth; on `fair`, defended trees as well."""
    field = table.sensitive[0]
    setting = settings.make(table, field, seed)
    found = settings.without_target(setting)
    for side, victims in setting.sides.items():
        best = settings.ideal(victims, setting.encoder, field)
        found |= settings.said(side, "ideal", best)
    x, y = np.asarray(setting.train.x), np.asarray(setting.train.outcome)
    for depth in DEPTHS:
        model = DecisionTreeClassifier(max_depth=depth, random_state=seed).fit(x, y)
        grown = Grown(
            padding.target(trees.from_sklearn(model)),
            padding.paths(trees.paths(model)),
        )
        found |= attacks(table, setting, grown, f"depth_{depth}")
    if table.name != "Fair's affairs":
        return found
    classes, columns = len(table.categories(table.target)), setting.encoder.columns
    place = np.r_[columns[field]]
    defended = {
        f"priority_{priority}": feature_priority(
            x, y, classes, place, priority, DEFENDED
        )
        for priority in (*PRIORITIES, None)
    }
    defended |= {
        f"mid_{weight:g}": mid_tree(x, y, classes, weight, DEFENDED)
        for weight in MID_WEIGHTS
    }
    for name, cart in defended.items():
        grown = Grown(padding.target(cart.target), padding.paths(cart.paths))
        found |= attacks(table, setting, grown, name, ROWS[:1])
        found[f"{name}.information"] = np.asarray(information(cart.paths))
    return found


def attacks(
    table: tables.Table,
    setting: Setting,
    grown: Grown,
    name: str,
    rows: tuple[str, ...] = ROWS,
) -> dict[str, np.ndarray]:
    """What each adversary infers from one tree, and how often the tree is right."""
    classes = len(table.categories(table.target))
    labels = {
        side: np.asarray(_PREDICT(grown.target, victims.x))
        for side, victims in setting.sides.items()
    }
    truth = np.asarray(setting.train.outcome)
    counts = confusion_matrix(truth, labels["train"], labels=np.arange(classes))
    found = {}
    for side, victims in setting.sides.items():
        for row in rows:
            more = {
                "black_box": {"error": confusion(counts)},
                "white_box": {"paths": grown.paths},
                "white_box_without_outcome": {"paths": grown.paths, "outcome": None},
            }[row]
            known = setting.knowledge(grown.target, side, **more)
            inferred = _ATTACK(jax.random.key(0), known)
            found |= settings.inferred(side, f"{row}-{name}", inferred)
        right = labels[side] == np.asarray(victims.outcome)
        found[f"{side}.{name}.right"] = right
    return found


def page(
    people: dict[str, tables.Table],
    results: dict[str, list[dict[str, np.ndarray]]],
    folder: pathlib.Path,
) -> Page:
    """Judges and draws."""
    metrics: dict[str, report.Metric] = {}
    pictures, shown, sentences = [], [], []
    for name, found in results.items():
        published = PAPER.get(name, {})
        value = len(people[name].categories(people[name].sensitive[0])) - 1
        for side in settings.SIDES:
            for row in verdicts.rows(found[0], side):
                stem = row.removesuffix(f"-depth_{FULL}")
                paper = published.get(stem, Published()) if side == "train" else None
                blind = row.startswith("white_box_without_outcome")
                metrics |= verdicts.lines(
                    found,
                    f"{name}-{row}-{side}",
                    side,
                    row,
                    value=value,
                    baseline="imputation" if blind else verdicts.INFORMED,
                    published=paper or Published(),
                )
        for label in _models(found[0]):
            right = np.concatenate([seed[f"test.{label}.right"] for seed in found])
            metrics[f"target_test_accuracy/{name}-{label}"] = report.metric(right)
        sentences += [
            verdicts.beats(
                found,
                f"{name}, {row.replace('_', ' ')}, full depth, {side}",
                side,
                f"{row}-depth_{FULL}",
                without,
            )
            for row in ROWS
            for side in settings.SIDES
            for without in (
                "imputation" if row == ROWS[-1] else verdicts.INFORMED,
                "mode",
            )
        ]
        pictures += _draw(name, people[name].name, found, folder)
        if "priority_None.information" in found[0]:
            shown.append(_defenses(name, found))
    return Page(
        title="An answer of a survey, from a decision tree",
        attacked=" ".join(table.report() for table in people.values())
        + " scikit-learn's CART of 75 % of the rows, of several depths.",
        knowledge="Black box: the predicted class, the confusion matrix of the "
        "training rows, the person's true class, all other fields, marginals. White "
        "box: the tree with the number of training rows of each class at each leaf.",
        baseline="imputation from all that the adversary knows, without the tree: the "
        "other fields and, but for the white box without outcome, the true class.",
        n=sum(len(seed["train.truth"]) for found in results.values() for seed in found),
        metrics=metrics,
        tables=shown,
        pictures=pictures,
        differences=[
            "the paper's trees were BigML's, of full depth; ours are scikit-learn's",
            "`fair` is no table of the paper's: it stands in for the GSS",
            "the GSS here is the extract of Mehnaz et al., 20,253 complete answers of "
            "11 fields; the paper had 51,020 answers (quoted, unverified)",
            "the paper's numbers are quoted from secondary sources and not checked "
            "against its table; they are of members",
            "the paper's white box has no outcome; with it, counts by class are used",
        ],
        caveats=sentences,
    )


def _models(seed: dict[str, np.ndarray]) -> list[str]:
    return [
        name.split(".", 1)[1].removesuffix(".right")
        for name in seed
        if name.startswith("test.") and name.endswith(".right")
    ]


def _draw(
    name: str, title: str, found: list[dict[str, np.ndarray]], folder: pathlib.Path
) -> list[report.Picture]:
    places = [*DEPTHS[:-1], DEPTHS[-2] + 4]  # full depth, drawn four to the right

    def over_depths(row: str, side: str) -> np.ndarray:
        each = [verdicts.accuracy(found, side, f"{row}-depth_{d}") for d in DEPTHS]
        return verdicts.band(np.stack(each))

    series = {
        f"{row.replace('_', ' ')}, {side}": over_depths(row, side)
        for row in ROWS[:2]
        for side in settings.SIDES
    }
    informed = verdicts.accuracy(found, "train", verdicts.INFORMED).mean()
    series["imputation with outcome, train"] = np.full(len(DEPTHS), informed)
    mode = float(verdicts.accuracy(found, "train", "mode").mean())
    figures.lines(
        places,
        series,
        folder / f"{name}_depth.png",
        xlabel=f"depth of the tree (last: full depth, drawn at {places[-1]})",
        ylabel="accuracy of the sensitive field",
        baseline=mode,
        baseline_label="mode",
    )
    return [
        report.Picture(
            folder / f"{name}_depth.png",
            f"{title}: members (train) and others (test); lines from the least to the "
            f"greatest of {len(found)} seeds.",
        )
    ]


def _defenses(name: str, found: list[dict[str, np.ndarray]]) -> report.Table:
    mode = verdicts.accuracy(found, "train", "mode").mean()
    labels = {f"depth_{DEFENDED}": "CART"}
    labels |= {f"priority_{p}": f"priority {p}" for p in PRIORITIES}
    labels["priority_None"] = "without the field"
    labels |= {f"mid_{weight:g}": f"MID, weight {weight:g}" for weight in MID_WEIGHTS}
    rows = []
    for model, label in labels.items():
        accuracy = verdicts.accuracy(found, "train", f"black_box-{model}").mean()
        right = np.mean([seed[f"test.{model}.right"].mean() for seed in found])
        told = [seed[f"{model}.information"] for seed in found if model in _told(seed)]
        rows.append(
            [label, accuracy, accuracy - mode, right, np.mean(told) if told else None]
        )
    return report.Table(
        f"{name}: trees of depth {DEFENDED} that keep the field back; black box, "
        "members",
        ["tree", "accuracy", "above the mode", "test accuracy", "information, nats"],
        rows,
    )


def _told(seed: dict[str, np.ndarray]) -> set[str]:
    return {k.removesuffix(".information") for k in seed if k.endswith(".information")}
