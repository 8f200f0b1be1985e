"""Warfarin doses from private models: what is inferred of VKORC1, and what doses cost.

Three differentially private regressions at each epsilon, and MID (Wang, Zhang, Jia),
each attacked by MAP inference with the marginals.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness.observations import Observation, single
from experiments.harness.views import Lines
from experiments.studies import attributes
from experiments.studies.attributes import INFORMED, MODE, OTHERS, Split
from mijax.attacks import map_inference
from mijax.defenses.output_noise import output_noise
from mijax.defenses.trainers.functional_mechanism import functional_mechanism
from mijax.defenses.trainers.mid_linear import mid_linear
from mijax.defenses.trainers.objective_perturbation import objective_perturbation
from mijax.defenses.trainers.private_histogram import private_histogram, sample
from mijax.defenses.trainers.public_range import PublicRange
from mijax.knowledge import normal
from mijax.models import linear
from mijax.models.linear import Affine

MARGINALS, RELEASED = "MAP, marginals", "MAP, released prediction"
EPSILONS = (1.0, 5.0, 20.0, 100.0, 1000.0)
DRAWS = 10  # of each mechanism's noise, for each seed
MID_NOISE = 0.5  # of the square root of mg a week
MID_WEIGHTS = (0.0, 0.3, 1.0, 3.0)
# What anybody knows of adults and doses: age in decades, cm, kg, root of mg a week.
RANGES = {"age": (1.0, 9.0), "height": (120.0, 205.0), "weight": (30.0, 180.0)}
DOSES = (1.0, 11.0)
BINS = 4  # of each number, in the histogram
MECHANISMS = {
    "functional": "functional mechanism",
    "objective": "objective perturbation",
    "histogram": "private histogram",
}
VKORC1 = {"field": "vkorc1", "records": OTHERS}
Train = Callable[[jax.Array, jax.Array], Affine]


def private(split: Split, free: float) -> list[Observation]:
    """Accuracy and dose error of every mechanism and epsilon, means over draws."""
    encoder, width = split.encoder, split.encoder.width
    low, high = np.zeros(width), np.ones(width)
    for name, ends in RANGES.items():
        place = encoder.columns[name]
        low[place], high[place] = encoder.scaled(name, np.array(ends))
    public = PublicRange(jnp.asarray(low), jnp.asarray(high), *DOSES)
    x, y, victims = split.members.x, split.members.outcome, split.others
    truth, dose = jnp.asarray(victims.truth), victims.outcome**2
    trainers: dict[str, Train] = {
        "functional": lambda k, e: functional_mechanism(k, x, y, e, public),
        "objective": lambda k, e: objective_perturbation(k, x, y, e, public),
        "histogram": refitted(split, public),
    }
    found = []
    for mechanism, train in trainers.items():

        def one(key: jax.Array, epsilon: jax.Array, train: Train = train) -> jax.Array:
            model = train(key, epsilon)
            error = linear.predict(model, x)[:, 0] - y
            known = split.known(
                linear.target(model),
                victims,
                error=normal(jnp.sqrt(jnp.mean(error**2))),
            )
            guess = map_inference.attack(key, known).guess
            wrong = jnp.abs(linear.predict(model, victims.x)[:, 0] ** 2 - dose)
            return jnp.stack([jnp.mean(guess == truth), jnp.mean(wrong)])

        keys = jax.random.split(attributes.key(split.seed, mechanism), DRAWS)
        each = jax.jit(
            lambda keys, epsilons, one=one: jax.lax.map(
                lambda e: jax.lax.map(lambda k: one(k, e), keys), epsilons
            )
        )(keys, jnp.asarray(EPSILONS))  # [epsilons, draws, 2]
        for epsilon, (accuracy, error) in zip(EPSILONS, each.mean(1), strict=True):
            found += costs(
                split,
                {"target": MECHANISMS[mechanism], "epsilon": f"{epsilon:g}"},
                MARGINALS,
                accuracy,
                error,
                free,
            )
    return found


def costs(
    split: Split,
    labels: Mapping[str, str],
    adversary: str,
    accuracy: Any,
    error: Any,
    free: Any,
) -> list[Observation]:
    """What is inferred of non-members of a defended model, and what the dose costs."""
    of_model = {"data": split.data, **labels}
    attacked = {**split.labels, **labels, "adversary": adversary, "records": OTHERS}
    return [
        single("attribute_accuracy", accuracy, attacked, (INFORMED,)),
        single("target_test_error", error, of_model),
        single("error_ratio", error / free, of_model),
    ]


def refitted(split: Split, public: PublicRange) -> Train:
    """Trains on people drawn from a private histogram of binned fields."""
    low, high = np.asarray(public.low), np.asarray(public.high)
    fields = split.encoder.binned(np.asarray(split.members.x), low, high, BINS)
    doses = np.linspace(*DOSES, 2 * BINS + 1)
    codes = [code for code, _ in fields]
    codes.append(np.digitize(split.members.outcome, doses[1:-1]))
    people = jnp.asarray(np.stack(codes, 1), jnp.int32)
    sizes = (*(len(encoding) for _, encoding in fields), 2 * BINS)
    middles = jnp.asarray((doses[1:] + doses[:-1]) / 2, jnp.float32)

    def train(key: jax.Array, epsilon: jax.Array) -> Affine:
        noise_key, draw_key = jax.random.split(key)
        counts = private_histogram(noise_key, people, sizes, epsilon)
        drawn = sample(draw_key, counts, len(people))
        rows = [jnp.asarray(e)[drawn[:, i]] for i, (_, e) in enumerate(fields)]
        return linear.ridge(jnp.concatenate(rows, 1), middles[drawn[:, -1]], 1e-4)

    return train


def mid(split: Split) -> list[Observation]:
    """MID: the attack on what is released of the victim, all other fields known."""
    x, y, victims = split.members.x, split.members.outcome, split.others
    fit = jax.jit(functools.partial(mid_linear, steps=30))
    release = output_noise(attributes.key(split.seed, "mid"), MID_NOISE).output
    assert release is not None
    found, free = [], 1.0
    for weight in (None, *MID_WEIGHTS):
        fitted = fit(x, y, weight or 0.0, MID_NOISE)
        target = linear.target(fitted.model)
        clean = target.predict(victims.x).logits
        out = (clean if weight is None else release(clean))[:, 0]
        error = normal(1e-3 if weight is None else MID_NOISE)
        known = split.known(target, victims, outcome=out, error=error)
        guess = jax.jit(map_inference.attack)(jax.random.key(0), known).guess
        right = np.mean(guess == victims.truth)
        wrong = np.mean(np.abs(np.maximum(out, 0) ** 2 - victims.outcome**2))
        free = wrong if weight is None else free
        name = "no MID" if weight is None else f"MID, weight {weight:g}"
        found += costs(split, {"target": name}, RELEASED, right, wrong, free)
        if weight is not None:
            labels = {"data": split.data, "target": name}
            found.append(single("information", fitted.information, labels))
    return found


def drawn(metric: str, ylabel: str) -> Lines:
    """Draws a metric of the private models by epsilon."""
    about, flat = {}, {}
    if metric == "attribute_accuracy":
        about = VKORC1 | {"adversary": MARGINALS}
        flat = {name: VKORC1 | {"adversary": name} for name in (MODE, INFORMED)}
    return Lines(
        f"privacy_{metric}",
        f"private models, each a mean of {DRAWS} draws of noise.",
        metric,
        "epsilon",
        {f"{epsilon:g}": epsilon for epsilon in EPSILONS},
        {name: about | {"target": name} for name in MECHANISMS.values()} | flat,
        "epsilon",
        ylabel,
        about | {"target": "ridge"},
        "no privacy",
        log_x=True,
    )
