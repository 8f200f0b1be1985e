"""Zhao et al. 2021: who can tell members need not be able to tell attributes.

Paper: Zhao, Agrawal, Coburn, Asghar, Bhaskar, Kaafar, Webb, Dickinson, On the
(in)feasibility of attribute inference attacks on machine learning models, EuroS&P 2021:
membership against non-members at a distance, exact and approximate inference.

Expected (purchases): AUC of strong membership .60 or less at distance 1, .90 or more at
20, growing between; three bits of members and of others are found within .1 as often.
"""

import itertools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.metrics import roc_auc_score

from experiments.attribute_inference import networks, verdicts
from experiments.attribute_inference import setting as settings
from experiments.attribute_inference.verdicts import Page
from experiments.harness import figures, report
from mijax.attacks import approximate_inference
from mijax.core import Target
from mijax.data import tables
from mijax.knowledge import Candidates, Oracle, PartialRecord

TABLES = ("purchases", "location")
MEMBERS = {"purchases": 600, "location": 1500}
STEPS = {"purchases": 1500, "location": 2500}
DISTANCES = (1, 2, 3, 5, 10, 20, 40)
BITS = {1: 8, 3: 4, 6: 2}  # unknown bits, and how many sets of them are tried
APPROXIMATE = 8  # unknown bits of AAI
RADIUS = 2.0
VICTIMS = 400
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)  # of the imputation
SIDES = "members", "others"
# Who needs no target: the first knows what the adversary knows, the second less.
WITHOUT = {
    "imputed": "an imputation from the class and all other bits",
    "majority": "the majority of their class",
}


def load(name: str, data_dir: str | None) -> tables.Table:
    """Loads Location, or makes what looks like Purchase-100."""
    return purchases() if name == "purchases" else tables.load(name, data_dir=data_dir)


def purchases(rows: int = 1200, bits: int = 100, classes: int = 20) -> tables.Table:
    """People who buy as one of 20 prototypes do, a quarter of it otherwise."""
    rng = np.random.default_rng(2021)
    prototypes = rng.integers(0, 2, (classes, bits))
    group = rng.integers(0, classes, rows)
    flipped = rng.random((rows, bits)) < 0.25
    bought = (prototypes[group] ^ flipped).astype(np.int32)
    names = [f"item_{i:03d}" for i in range(bits)]
    columns = dict(zip(names, bought.T.copy(), strict=True))
    columns["group"] = group.astype(np.int32)
    fields = [tables.Categorical(name, ("no", "yes")) for name in names]
    fields.append(tables.Categorical("group", tuple(map(str, range(classes)))))
    return tables.Table("purchases", tuple(fields), columns, (names[0],), "group")


def measure(table: tables.Table, seed: int) -> dict[str, np.ndarray]:
    """Trains to fit every member, then asks who is one, and what they bought."""
    name = table.name.lower()
    rows = np.random.default_rng(seed).permutation(len(table))
    number = MEMBERS[name]
    x = np.stack([table[field.name] for field in table.features], 1).astype(np.float32)
    parts = {"members": rows[:number], "others": rows[number : 2 * number]}
    data = {side: (jnp.asarray(x[r]), table.outcome[r]) for side, r in parts.items()}
    classes = len(table.categories(table.target))
    members, labels = data["members"]
    target = networks.classifier(
        settings.key(seed, "target"),
        members,
        jnp.asarray(labels),
        classes,
        width=128,
        steps=STEPS[name],
    )
    found = _membership(target, data, seed)
    for bits, sets in BITS.items():
        for side in SIDES:
            found |= _exact(target, data, side, bits, sets, seed)
    for side in SIDES:
        found |= _approximate(target, data, side, seed)
        right = np.asarray(target.predict(data[side][0]).logits).argmax(1)
        found[f"{side}.right"] = right == data[side][1]
    return found


def _score(target: Target, x: jax.Array, labels: np.ndarray) -> np.ndarray:
    """The confidence in the true class, which is higher for members."""
    scores = jax.nn.softmax(target.predict(x).logits)
    return np.asarray(jnp.log(scores[jnp.arange(len(x)), labels]))


def _membership(target: Target, data: dict, seed: int) -> dict[str, np.ndarray]:
    (members, labels), (others, other_labels) = data["members"], data["others"]

    def auc(inside: np.ndarray, outside: np.ndarray) -> float:
        truth = np.repeat([1, 0], [len(inside), len(outside)])
        return float(roc_auc_score(truth, np.concatenate([inside, outside])))

    inside = _score(target, members, labels)
    found = {"membership": np.array(auc(inside, _score(target, others, other_labels)))}
    for distance in DISTANCES:
        key = settings.key(seed, f"neighbors-{distance}")
        near = approximate_inference.neighbors(key, members, distance)
        found[f"strong_{distance}"] = np.array(
            auc(inside, _score(target, near, labels))
        )
    return found


def _all(bits: int) -> np.ndarray:
    return np.array(list(itertools.product((0.0, 1.0), repeat=bits)))


def _means(data: dict, side: str) -> np.ndarray:
    """Each class's share of each bit, from the people of the other side, `[K, D]`."""
    (other,) = set(SIDES) - {side}
    x, labels = data[other]
    x = np.asarray(x)
    classes = max(labels.max(), data[side][1].max()) + 1
    own = [x[labels == k] for k in range(classes)]
    return np.stack([(rows if len(rows) else x).mean(0) for rows in own])


def _imputed(data: dict, side: str, columns: np.ndarray) -> np.ndarray:
    """Bits from the class and all other bits, by people of the other side.

    Where the other bits add but noise to the class, it is imputed from the class alone.
    """
    (other,) = set(SIDES) - {side}
    classes = 1 + max(labels.max() for _, labels in data.values())

    def known(side: str) -> list[np.ndarray]:
        x, labels = map(np.asarray, data[side])
        of_class = np.eye(classes)[labels]
        return [of_class, np.c_[of_class, np.delete(x, columns, 1)]]

    truth = np.asarray(data[other][0])[:, columns]
    models = [RidgeCV(PENALTIES).fit(x, truth) for x in known(other)]
    scores: list[Any] = [model.best_score_ for model in models]  # leaving one out
    best = int(np.argmax(scores))
    said = models[best].predict(known(side)[best][:VICTIMS])
    return said.reshape(len(said), -1) > 0.5


def _exact(
    target: Target, data: dict, side: str, bits: int, sets: int, seed: int
) -> dict[str, np.ndarray]:
    """AI: all of the unknown bits, right at once."""
    x, labels = data[side][0][:VICTIMS], data[side][1][:VICTIMS]
    means = _means(data, side)
    majority, imputed = [], []
    attack = jax.jit(approximate_inference.attack)
    hits = []
    for index in range(sets):
        key = settings.key(seed, f"bits-{bits}-{index}")
        columns = np.asarray(jax.random.permutation(key, x.shape[1])[:bits])
        values = _all(bits)
        known = PartialRecord(
            Oracle.of(target), x, Candidates.of(columns, values), jnp.asarray(labels)
        )
        guess = values[np.asarray(attack(key, known).guess)]
        truth = np.asarray(x)[:, columns]
        hits.append((guess == truth).all(1))
        majority.append(((means[labels][:, columns] > 0.5) == truth).all(1))
        imputed.append((_imputed(data, side, columns) == truth).all(1))
    return {
        f"exact_{bits}.{side}": np.concatenate(hits),
        f"exact_{bits}.{side}.majority": np.concatenate(majority),
        f"exact_{bits}.{side}.imputed": np.concatenate(imputed),
    }


def _approximate(
    target: Target, data: dict, side: str, seed: int
) -> dict[str, np.ndarray]:
    """AAI: the share of the unknown bits that are wrong."""
    x, labels = data[side][0][:VICTIMS], data[side][1][:VICTIMS]
    key = settings.key(seed, "approximate")
    columns = np.asarray(jax.random.permutation(key, x.shape[1])[:APPROXIMATE])
    values = _all(APPROXIMATE)
    known = PartialRecord(
        Oracle.of(target), x, Candidates.of(columns, values), jnp.asarray(labels)
    )
    config = approximate_inference.Config(radius=RADIUS)
    inferred = jax.jit(approximate_inference.attack)(key, known, config)
    truth = np.asarray(x)[:, columns]
    wrong = np.abs(values[np.asarray(inferred.guess)] - truth).mean(1)
    imputed = _imputed(data, side, columns)
    return {
        f"distance.{side}": wrong,
        f"distance.{side}.imputed": np.abs(imputed - truth).mean(1),
    }


def page(
    people: dict[str, tables.Table],
    results: dict[str, list[dict[str, np.ndarray]]],
    folder: pathlib.Path,
) -> Page:
    """Judges and draws."""
    metrics: dict[str, report.Metric] = {}
    pictures, sentences = [], []
    for name, found in results.items():
        metrics |= _lines(name, found)
        pictures += _draw(name, people[name].name, found, folder)
        for bits in BITS:
            for row, label in WITHOUT.items():
                line = verdicts.over_seeds(_gain(found, bits, row))
                verb = "beats" if (line.low or 0.0) > 0 else "does not beat"
                low, high = line.low or 0.0, line.high or 0.0
                ends = "" if line.low is None else f" [{low:+.3f}, {high:+.3f}]"
                sentences.append(
                    f"{name}, {bits} unknown bits of members: the attack {verb} "
                    f"{label}: {line.value:+.3f}{ends}."
                )
    return Page(
        title="Attributes of members, from membership scores",
        attacked=" ".join(table.report() for table in people.values())
        + " An MLP of 128 units, trained until it fits its members.",
        knowledge="A black box of confidences, the person's true class, all other "
        "bits. A completion scores by the confidence in the true class.",
        baseline="imputation of each bit from the class and all other bits, by ridge "
        "regression on people of the other side; for an AUC, one half.",
        n=sum(
            len(seed[f"exact_{bits}.members"])
            for found in results.values()
            for seed in found
            for bits in BITS
        ),
        metrics=metrics,
        tables=[],
        pictures=pictures,
        differences=[
            "purchases are drawn (100 bits, 20 prototypes, a quarter flipped) in place "
            "of Purchase-100; the paper has CIFAR as well",
            "the paper lets five membership attacks score; ours is the confidence in "
            "the true class",
        ],
        caveats=[
            *sentences,
            "Exact inference above chance comes from the class, not from membership: "
            "compare members with others.",
        ],
    )


def _gain(found: list[dict[str, np.ndarray]], bits: int, row: str) -> np.ndarray:
    """By how much the attack on members is right more often, `[seeds]`."""
    stem = f"exact_{bits}.members"
    return np.array(
        [seed[stem].mean() - seed[f"{stem}.{row}"].mean() for seed in found]
    )


def _lines(name: str, found: list[dict[str, np.ndarray]]) -> dict[str, report.Metric]:
    lines = {
        f"membership_auc/{name}-members": verdicts.over_seeds(
            [float(seed["membership"]) for seed in found], baseline=0.5, perfect=1.0
        )
    }
    for distance in DISTANCES:
        lines[f"membership_auc/{name}-distance_{distance}"] = verdicts.over_seeds(
            [float(seed[f"strong_{distance}"]) for seed in found],
            baseline=0.5,
            perfect=1.0,
        )
    for side in SIDES:
        right = np.concatenate([seed[f"{side}.right"] for seed in found])
        if side == "others":
            lines[f"target_test_accuracy/{name}"] = report.metric(right)
        for bits in BITS:
            lines[f"attribute_accuracy/{name}-bits_{bits}-{side}"] = report.metric(
                np.concatenate([seed[f"exact_{bits}.{side}"] for seed in found]),
                baseline=np.concatenate(
                    [seed[f"exact_{bits}.{side}.imputed"] for seed in found]
                ),
                perfect=1.0,
            )
        lines[f"attribute_distance/{name}-{side}"] = report.metric(
            np.concatenate([seed[f"distance.{side}"] for seed in found]),
            baseline=np.concatenate([s[f"distance.{side}.imputed"] for s in found]),
            perfect=0.0,
        )
    return lines


def _draw(
    name: str, title: str, found: list[dict[str, np.ndarray]], folder: pathlib.Path
) -> list[report.Picture]:
    auc = [[float(seed[f"strong_{d}"]) for seed in found] for d in DISTANCES]
    plain = np.mean([float(seed["membership"]) for seed in found])
    figures.lines(
        DISTANCES,
        {
            "strong membership": verdicts.band(auc),
            "membership": np.full(len(DISTANCES), plain),
        },
        folder / f"{name}_membership.png",
        xlabel="bits that differ between a member and a non-member",
        ylabel="AUC",
        log_x=True,
        baseline=0.5,
    )

    def over_bits(what: str) -> np.ndarray:
        return verdicts.band([[s[what.format(b)].mean() for s in found] for b in BITS])

    figures.lines(
        tuple(BITS),
        {
            "members": over_bits("exact_{}.members"),
            "others": over_bits("exact_{}.others"),
            "imputation, members": over_bits("exact_{}.members.imputed"),
            "majority of the class": over_bits("exact_{}.members.majority"),
            "chance": np.array([0.5**b for b in BITS]),
        },
        folder / f"{name}_exact.png",
        xlabel="unknown bits",
        ylabel="all of them inferred",
    )
    return [
        report.Picture(
            folder / f"{name}_membership.png",
            f"{title}: members are told from strangers, and not from their neighbors.",
        ),
        report.Picture(
            folder / f"{name}_exact.png",
            f"{title}: what is inferred of members is inferred of others too.",
        ),
    ]
