"""Mehnaz et al. 2022: confidences or labels alone, of a tree and of a network.

Paper: Mehnaz, Dibbo, Kabir, Li, Bertino, Are your sensitive attributes private? Novel
model inversion attribute inference attacks on classification models, USENIX Security
2022: CSMIA and LOMIA beside Fredrikson's attack, on the GSS and FiveThirtyEight.

Expected: on a tree of full depth every attack finds more of members than of others, and
Fredrikson's beats an imputation that knows the outcome; on a network of the GSS or of
`fair`, which overfits less, none does.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.tree import DecisionTreeClassifier

from experiments.attribute_inference import networks, verdicts
from experiments.attribute_inference import setting as settings
from experiments.attribute_inference.setting import Setting
from experiments.attribute_inference.verdicts import Page
from experiments.harness import report
from mijax.attacks import csmia, lomia, map_inference
from mijax.core import Target
from mijax.data import tables
from mijax.data.tables import gss
from mijax.knowledge import confusion
from mijax.models import trees

TABLES = ("gss", "steak", "fair")
FIELDS = {"gss": "xmovie", "steak": "drinks", "fair": "affairs"}
ATTACKS = ("fredrikson", "csmia", "lomia")
TARGETS = ("tree", "network")
_MAP, _CSMIA, _LOMIA = map(jax.jit, (map_inference.attack, csmia.attack, lomia.attack))


def load(name: str, data_dir: str | None) -> tables.Table:
    """Loads one of the paper's tables, or `fair`; of the GSS, every answer."""
    if name == "gss":
        return gss.load_all(data_dir)
    return tables.load(name, data_dir=data_dir)


def measure(table: tables.Table, seed: int) -> dict[str, np.ndarray]:
    """Attacks a tree of full depth and a network."""
    rows, field = None, table.sensitive[0]
    if table.name == "GSS":
        order = np.arange(len(table))
        rows = tables.Rows(order[: gss.TRAINING], order[gss.TRAINING :])
    if "drinks" in table.names:
        field = "drinks"
    setting = settings.make(table, field, seed, rows=rows)
    found = settings.without_target(setting)
    x, y = setting.train.x, setting.train.outcome
    classes = len(table.categories(table.target))
    tree = DecisionTreeClassifier(random_state=seed).fit(np.asarray(x), np.asarray(y))
    targets = {
        "tree": trees.from_sklearn(tree),
        "network": networks.classifier(
            settings.key(seed, "network"), x, y, classes, width=64, steps=1500
        ),
    }
    for name, target in targets.items():
        found |= _attacks(setting, target, name, classes, seed)
    for side, victims in setting.sides.items():
        guess = np.random.default_rng(seed).integers(
            0, len(setting.prior), len(victims.truth)
        )
        found |= settings.said(side, "random_guess", guess)
    return found


def _attacks(
    setting: Setting, target: Target, name: str, classes: int, seed: int
) -> dict[str, np.ndarray]:
    predict = jax.jit(lambda x: jnp.argmax(target.predict(x).logits, 1))
    labels = {side: np.asarray(predict(v.x)) for side, v in setting.sides.items()}
    truth = np.asarray(setting.train.outcome)
    counts = confusion_matrix(truth, labels["train"], labels=np.arange(classes))
    found = {}
    for side, victims in setting.sides.items():
        known = setting.knowledge(target, side, error=confusion(counts))
        for row, attack in zip(ATTACKS, (_MAP, _CSMIA, _LOMIA), strict=True):
            key = settings.key(seed, f"{row}-{name}-{side}")
            found |= settings.inferred(side, f"{row}-{name}", attack(key, known))
        found[f"{side}.{name}.right"] = labels[side] == np.asarray(victims.outcome)
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
        for side in settings.SIDES:
            for row in verdicts.rows(found[0], side):
                metrics |= verdicts.lines(
                    found, f"{name}-{row}-{side}", side, row, value=1
                )
        for target in TARGETS:
            right = np.concatenate([seed[f"test.{target}.right"] for seed in found])
            metrics[f"target_test_accuracy/{name}-{target}"] = report.metric(right)
            for attack in ATTACKS:
                sentences.append(
                    verdicts.beats(
                        found,
                        f"{name}, {attack} on the {target}, members",
                        "train",
                        f"{attack}-{target}",
                    )
                )
        shown.append(_table(name, found, metrics))
        rows = verdicts.rows(found[0], "train")
        verdicts.draw_bars(
            {row: metrics[f"attribute_gmean/{name}-{row}-train"] for row in rows},
            folder / f"{name}_gmean.png",
            f"{people[name].name}: G-mean on members",
        )
        pictures.append(
            report.Picture(
                folder / f"{name}_gmean.png",
                f"{people[name].name}, {len(found)} seeds. The mode has a G-mean "
                "of 0, a random guess of a half.",
            )
        )
    return Page(
        title="A sensitive answer, from confidences or labels",
        attacked=" ".join(table.report() for table in people.values())
        + " A scikit-learn tree of full depth, and an MLP of 64 units.",
        knowledge="A black box of confidences (LOMIA: labels), the person's true "
        "class, all other fields. Fredrikson's attack has the confusion matrix and "
        "marginals; the other two need none.",
        baseline="imputation from the known fields and the true class, without the "
        "target.",
        n=sum(len(seed["train.truth"]) for found in results.values() for seed in found),
        metrics=metrics,
        tables=shown,
        pictures=pictures,
        differences=[
            "the paper's tree and network are a hosted service's; ours are "
            "scikit-learn's and a small MLP",
            "on the GSS the authors' split is kept and seeds differ in training and "
            "ties alone; the other tables are split anew by each seed",
            "the paper's numbers are not at hand, and none is quoted",
            "`fair` is no table of the paper's",
        ],
        caveats=sentences,
    )


def _table(
    name: str, found: list[dict[str, np.ndarray]], metrics: dict[str, report.Metric]
) -> report.Table:
    columns = {
        "accuracy": "attribute_accuracy",
        "precision": "attribute_precision",
        "recall": "attribute_recall",
        "G-mean": "attribute_gmean",
        "MCC": "attribute_mcc",
    }
    rows = []
    for row in verdicts.rows(found[0], "train"):
        cells: list[str | float | None] = [row.replace("_", " ")]
        for stem in columns.values():
            for side in settings.SIDES:
                line = metrics.get(f"{stem}/{name}-{row}-{side}")
                cells.append(None if line is None else line.value)
        rows.append(cells)
    heads = [f"{label}, {s}" for label in columns for s in ("members", "others")]
    return report.Table(f"{name}: {FIELDS[name]}", ["adversary", *heads], rows)
