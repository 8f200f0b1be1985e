"""Hidano et al. 2017: a field read off a poisoned model's output, nothing else known.

Paper: Hidano, Murakami, Katsumata, Kiyomoto, Hanaoka, Model inversion attacks for
prediction systems: without knowledge of non-sensitive attributes, PST 2017: success by
the share of poisoned training rows.

Expected on IWPC: .78 or less clean, .86 with 10 % of corner poison, .93 with 20 %, for
at most a quarter more error of the model.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.attribute_inference import setting as settings
from experiments.attribute_inference import verdicts
from experiments.attribute_inference.setting import Setting
from experiments.attribute_inference.verdicts import Page
from experiments.harness import figures, report
from mijax.attacks import map_inference, poisoned_regression
from mijax.core import Target
from mijax.data import tables
from mijax.knowledge import Oracle, PartialRecord, PoisonedTraining, normal
from mijax.models import linear

TABLES = ("iwpc", "movielens")
OUTCOME_ALONE = "imputation_from_outcome_alone"
SHARES = (0.0, 0.05, 0.1, 0.2, 0.5)
PENALTY = 1e-4  # of the ridge regression, a row
POISONS = {
    "corner": poisoned_regression.Config(),
    "gradient": poisoned_regression.Config(poison=poisoned_regression.gradient),
}


def load(name: str, data_dir: str | None) -> tables.Table:
    """Loads IWPC, or the users of MovieLens with their gender."""
    return tables.load(name, data_dir=data_dir)


def outcome(table: tables.Table) -> np.ndarray:
    """The dose's square root, or the mean rating, scaled to about one."""
    y = np.sqrt(table.outcome) / 10 if table.target == "dose" else table.outcome / 5
    return y.astype(np.float32)


def measure(table: tables.Table, seed: int) -> dict[str, np.ndarray]:
    """Poisons the training to each share, and attacks the test rows."""
    setting = settings.make(table, table.sensitive[0], seed, outcome)
    found = settings.without_target(setting) | _from_outcome(setting, seed)
    x, y = setting.train.x, setting.train.outcome
    victims = setting.test
    clean = linear.target(linear.ridge(x, y, PENALTY))
    found |= _informed(setting, clean, "all_known", clean.predict(victims.x).logits)
    found |= _informed(setting, clean, "all_known_true_outcome", None)
    found |= _read_off(setting, clean, "share_0")
    errors = [_error(clean, setting)]
    for share in SHARES[1:]:
        rows = round(share * len(x))
        for name, config in POISONS.items():
            learnt: list[Target] = []

            def learn(
                poison: jax.Array, labels: jax.Array, learnt: list[Target] = learnt
            ) -> tuple[Target, jax.Array]:
                together = jnp.concatenate([x, poison]), jnp.concatenate([y, labels])
                learnt.append(linear.target(linear.ridge(*together, PENALTY)))
                return learnt[-1], learnt[-1].predict(victims.x).logits[:, 0]

            known = PoisonedTraining(
                x, y, setting.candidates(), PENALTY, learn, rows=rows
            )
            key = settings.key(seed, f"{name}-{share}")
            inferred = poisoned_regression.attack(key, known, config)
            found |= settings.inferred("test", f"{name}-share_{share:g}", inferred)
            errors.append(_error(learnt[0], setting))
            if name == "corner":
                found |= _true_outcome(setting, learnt[0], share)
    return found | {"error": np.array(errors)}


def _from_outcome(setting: Setting, seed: int) -> dict[str, np.ndarray]:
    """The imputation of one who knows the true outcome and no field."""
    y, y_test = (np.asarray(v.outcome)[:, None] for v in (setting.train, setting.test))
    size = len(setting.prior)
    _, beliefs = settings.imputations(y, setting.train.truth, y_test, size, seed)
    return settings.said("test", OUTCOME_ALONE, beliefs.argmax(1), beliefs)


def _baseline(row: str) -> str:
    """Who knows what that adversary does, without the model or its prediction."""
    if row.startswith("true_outcome"):
        return OUTCOME_ALONE
    return {"all_known": "imputation", "all_known_true_outcome": verdicts.INFORMED}.get(
        row, "mode"
    )


def _mean_record(
    setting: Setting, target: Target, observed: jax.Array
) -> PartialRecord:
    """All that is known of each victim is that it is of the population."""
    columns = setting.encoder.columns[setting.field]
    x = setting.train.x
    mean = jnp.mean(x, 0, keepdims=True)
    others = x.at[:, columns].set(mean[:, columns])
    deviation = jnp.std(target.predict(others).logits[:, 0])
    return PartialRecord(
        Oracle.of(target),
        jnp.tile(mean, (len(observed), 1)),
        setting.candidates(),
        observed,
        normal(deviation),
    )


def _read_off(setting: Setting, target: Target, row: str) -> dict[str, np.ndarray]:
    """The same inference without any poison."""
    observed = target.predict(setting.test.x).logits[:, 0]
    known = _mean_record(setting, target, observed)
    inferred = map_inference.attack(jax.random.key(0), known)
    return settings.inferred("test", row, inferred)


def _true_outcome(
    setting: Setting, target: Target, share: float
) -> dict[str, np.ndarray]:
    """Poisoned alike, but what is seen is the true outcome, not the prediction."""
    known = _mean_record(setting, target, setting.test.outcome)
    predicted = target.predict(setting.train.x).logits[:, 0]
    error = jnp.sqrt(jnp.mean((predicted - setting.train.outcome) ** 2))
    known = PartialRecord(
        known.oracle, known.record, known.candidates, known.outcome, normal(error)
    )
    inferred = map_inference.attack(jax.random.key(0), known)
    return settings.inferred("test", f"true_outcome-share_{share:g}", inferred)


def _informed(
    setting: Setting, target: Target, row: str, outputs: jax.Array | None
) -> dict[str, np.ndarray]:
    """MAP inference by one who knows all other fields."""
    if outputs is None:
        predicted = target.predict(setting.train.x).logits[:, 0]
        error = jnp.sqrt(jnp.mean((predicted - setting.train.outcome) ** 2))
        known = setting.knowledge(target, "test", error=normal(error))
    else:
        known = setting.knowledge(
            target, "test", outcome=outputs[:, 0], error=normal(1e-4)
        )
    return settings.inferred(
        "test", row, map_inference.attack(jax.random.key(0), known)
    )


def _error(target: Target, setting: Setting) -> float:
    """Root mean squared error of the test rows."""
    predicted = target.predict(setting.test.x).logits[:, 0]
    return float(jnp.sqrt(jnp.mean((predicted - setting.test.outcome) ** 2)))


def page(
    people: dict[str, tables.Table],
    results: dict[str, list[dict[str, np.ndarray]]],
    folder: pathlib.Path,
) -> Page:
    """Judges and draws."""
    metrics: dict[str, report.Metric] = {}
    pictures, shown, sentences = [], [], []
    for name, found in results.items():
        for row in verdicts.rows(found[0], "test"):
            metrics |= verdicts.lines(
                found, f"{name}-{row}", "test", row, baseline=_baseline(row)
            )
        errors = np.stack([seed["error"] for seed in found])
        ratio = (errors / errors[:, :1]).mean(0)
        by_model = dict(zip(_models(), ratio, strict=True))
        shown.append(_table(name, found, by_model))
        pictures.append(_draw(name, people[name].name, found, folder))
        for share in (0.1, 0.2):
            row = f"corner-share_{share:g}"
            label = f"{name}, {share:.0%} of corners"
            sentences += [
                verdicts.beats(found, label, "test", row, _baseline(row))
                + f" The model's error is {by_model[row]:.2f} times the clean one's.",
                verdicts.beats(found, label, "test", row, "imputation")
                + " That one knows the other fields, which this adversary does not.",
            ]
    return Page(
        title="A field read off what a poisoned model predicts",
        attacked=" ".join(table.report() for table in people.values())
        + f" Ridge regression of 75 % of the rows, penalty {PENALTY:g} a row.",
        knowledge="The poisoned model, and what it predicts of each victim; none of "
        "the victim's other fields. Poison is drawn with the training rows at hand. "
        "All known: all the other fields, and no poison.",
        baseline="the mode: without the prediction nothing is known of a victim. Of a "
        "true outcome, imputation from it alone; of all fields, imputation from them "
        "(and from the true outcome, where that is known).",
        n=sum(len(seed["test.truth"]) for found in results.values() for seed in found),
        metrics=metrics,
        tables=shown,
        pictures=pictures,
        differences=[
            "the paper attacks FiveThirtyEight and MovieLens-1M; ours are IWPC and the "
            "users of MovieLens-100k",
            "the paper publishes success close to the full-knowledge attack; its "
            "numbers are not at hand, and none is quoted",
        ],
        caveats=[
            *sentences,
            "What is seen is the model's own prediction, without noise. Where it is "
            "the true outcome, poison helps little: see true outcome.",
        ],
    )


def _models() -> list[str]:
    poisoned = [f"{name}-share_{share:g}" for share in SHARES[1:] for name in POISONS]
    return ["share_0", *poisoned]


def _table(
    name: str, found: list[dict[str, np.ndarray]], ratio: dict[str, float]
) -> report.Table:
    rows = []
    for share in SHARES:
        cells: list[str | float | None] = [f"{share:.0%}"]
        for poison in POISONS:
            row = f"{poison}-share_{share:g}" if share else "share_0"
            cells += [verdicts.accuracy(found, "test", row).mean(), ratio[row]]
        true = f"true_outcome-share_{share:g}"
        cells.append(verdicts.accuracy(found, "test", true).mean() if share else None)
        rows.append(cells)
    columns = ["poison", "corner", "error, times", "gradient", "error, times"]
    return report.Table(
        f"{name}: accuracy by the share of poison, and the model's error to the clean "
        "model's",
        [*columns, "true outcome"],
        rows,
    )


def _draw(
    name: str, title: str, found: list[dict[str, np.ndarray]], folder: pathlib.Path
) -> report.Picture:
    def over_shares(poison: str) -> np.ndarray:
        rows = [f"{poison}-share_{share:g}" if share else "share_0" for share in SHARES]
        return verdicts.band(
            np.stack([verdicts.accuracy(found, "test", row) for row in rows])
        )

    def flat(row: str) -> np.ndarray:
        return np.full(len(SHARES), verdicts.accuracy(found, "test", row).mean())

    series = {f"{poison} poison": over_shares(poison) for poison in POISONS}
    series["all fields known, no poison"] = flat("all_known")
    series["imputation from all other fields"] = flat("imputation")
    figures.lines(
        SHARES,
        series,
        folder / f"{name}_poison.png",
        xlabel="poisoned rows, as a share of the honest ones",
        ylabel="accuracy of the sensitive field",
        baseline=float(flat("mode")[0]),
        baseline_label="mode",
    )
    return report.Picture(
        folder / f"{name}_poison.png",
        f"{title}: from the prediction alone; lines from the least to the greatest of "
        f"{len(found)} seeds.",
    )
