"""Properties of batches in a federated training: which rounds had them?

A `Study` says what is learned, which property is sought, and who takes part. The victim
trains on examples with the property every few rounds, the other clients on ones
without. The adversary watches the shared model.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.ensemble import RandomForestClassifier

from experiments.harness import figures, programs, report
from experiments.harness import run as harness
from experiments.harness.results import Metric, Record, Results, metric
from experiments.harness.run import Run
from experiments.studies import federations
from mijax.attacks import feature_leakage
from mijax.attacks.federated.feature_leakage import Observed, magnitudes, task_alone
from mijax.core import Defense, Target
from mijax.data import Dataset
from mijax.federation import Clients, Federation
from mijax.knowledge import FederationSeat, validate
from mijax.metrics import attributes

_watch = programs.program(feature_leakage.watch)
_judge = programs.program(feature_leakage.judge)
FOREST, PERCEPTRON = "random forest", "perceptron"
TASK, PHASE, SHUFFLED = "task's predictions alone", "in one phase", "shuffled"
_TASK = "task "  # before what is told by the predictions alone


class Sample(NamedTuple):
    """Examples, some of which have the property.

    Attributes:
      images: their labels are the task's.
      has: which have the property, `[N]` bool.
      people: whose each is, `[N]`; nobody is on two sides.
    """

    images: Dataset
    has: np.ndarray
    people: np.ndarray


Sampling = Callable[[Dataset, str | None], Sample]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(federations.Task):
    """A paper's experiment.

    Attributes:
      sample: from the data set, and the folder of data, to who has the property.
      property_name: in words.
      clients: the numbers of clients beside the adversary, the first without others
        than the victim.
      shares: of examples with the property in a victim's batch that has it.
      every: rounds from one such batch to the next.
      attack: the adversary's configuration, passive.
      defenses: of the other clients' updates, tried in the first federation.
      active: the weight of the property in the active attack; None to leave it out.
      active_clients: with how many clients it is tried, at most.
      shuffles: permutations of the adversary's properties, the null case. One
        permutation sets two random halves apart in some direction, and may tell the
        victim's rounds apart, or the wrong way round: only many of them have a mean.
    """

    sample: Sampling
    property_name: str
    clients: Sequence[int]
    shares: Sequence[float]
    every: int
    attack: feature_leakage.Config
    defenses: Mapping[str, Defense] = dataclasses.field(default_factory=dict)
    active: float | None = 0.7
    active_clients: int = 9
    shuffles: int = 10


def main(
    name: str, *, quick: Mapping[str, Study], paper: Mapping[str, Study]
) -> Callable[[], None]:
    """Returns a paper's `main`."""
    return harness.main(
        name,
        quick=quick,
        paper=paper,
        measure=measure,
    )


@dataclasses.dataclass(frozen=True)
class _World:
    """A sample whose examples are the victim's, the adversary's, or the others'."""

    images: Dataset
    has: np.ndarray
    victim: np.ndarray
    adversary: np.ndarray
    others: np.ndarray
    test: np.ndarray
    start: Target
    keys: Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class _Attempt:
    """What differs between the attempts of one federation."""

    config: feature_leakage.Config
    permutation: int | None = None
    phase: bool = False
    defense: Defense = Defense()


def measure(run: Run, study: Study) -> report.Page:
    """Watches each federation, judges its rounds, and tells."""
    world = _world(run, study)
    cases = [(number, study.shares[0]) for number in study.clients]
    cases += [(study.clients[0], share) for share in study.shares[1:]]
    records, lead = [], None
    for number, share in cases:
        place = {"clients": str(number), "share": f"{share:g}"}
        config = dataclasses.replace(study.attack, clients=number, features=_both)
        attempts = {"updates": _Attempt(config)}
        if study.active is not None and number <= study.active_clients:
            active = dataclasses.replace(
                config, active=True, property_weight=study.active
            )
            attempts["active"] = _Attempt(active)
        if (number, share) == cases[0]:
            attempts |= {
                f"{SHUFFLED}_{i}": _Attempt(config, permutation=i)
                for i in range(study.shuffles)
            }
            attempts[PHASE] = _Attempt(config, phase=True)
            attempts |= {
                name: _Attempt(config, defense=own)
                for name, own in study.defenses.items()
            }
        shuffled = []
        for what, own in attempts.items():
            arrays = run.once(
                f"{what}_{number}_{share:g}".replace(" ", "_"),
                lambda own=own, number=number, share=share: _judged(
                    study, world, number, share, own
                ),
            )
            truth = _appears(study, own.phase).astype(int)
            if own.permutation is not None:
                shuffled.append(arrays)
                continue
            told = {what: ""} | ({TASK: _TASK} if what == "updates" else {})
            for features, prefix in told.items():
                for method in (FOREST, PERCEPTRON):
                    labels = {**place, "features": features, "classifier": method}
                    records += _told(labels, arrays[prefix + method], truth)
            if what in ("updates", "active", *study.defenses):
                hits = metric(np.asarray(arrays["hits"], float))
                labels = {**place, "features": what}
                records.append(Record(labels, "target_test_accuracy", hits))
            if what == PHASE:
                lead = arrays[FOREST]
        if shuffled:
            truth = _appears(study).astype(int)
            for method in (FOREST, PERCEPTRON):
                scores = [arrays[method] for arrays in shuffled]
                records += _null({**place, "classifier": method}, scores, truth)
    assert lead is not None
    return _page(run, study, world, Results(records), lead)


def _appears(study: Study, phase: bool = False) -> np.ndarray:
    """In which rounds the victim's batch has the property, `[T]`.

    Every so often, or in a `phase`, the middle third of the training.
    """
    rounds = np.arange(study.attack.rounds)
    if phase:
        return rounds * 3 // study.attack.rounds == 1
    return rounds % study.every == study.every - 1


def _world(run: Run, study: Study) -> _World:
    images, has, people = study.sample(study.load(run), run.data_dir)
    everyone = np.unique(people)
    order = np.random.default_rng(run.seed).permutation(everyone)
    sides = [np.flatnonzero(np.isin(people, side)) for side in np.array_split(order, 5)]
    victim, adversary, test = sides[0], sides[1], sides[2]
    others = np.concatenate(sides[3:])
    keys = run.keys("model", "world", "watch", "judge", "shuffle")
    start = study.start(keys["model"], images)
    return _World(
        images, has, victim, adversary, others[~has[others]], test, start, keys
    )


def _seat(
    study: Study,
    world: _World,
    number: int,
    share: float,
    phase: bool = False,
    defense: Defense = Defense(),
) -> FederationSeat:
    """The adversary's seat beside the victim and `number - 1` others."""
    rng, train = np.random.default_rng(number), world.images
    has = world.has[world.victim]
    with_it = round(share * study.batch_size)

    def batch(appears: bool) -> np.ndarray:
        wanted = with_it if appears else 0
        return np.concatenate(
            [
                rng.choice(np.flatnonzero(has), wanted),
                rng.choice(np.flatnonzero(~has), study.batch_size - wanted),
            ]
        )

    parts = [world.victim, *np.array_split(world.others, max(number - 1, 1))][:number]
    rows = [np.stack([batch(appears) for appears in _appears(study, phase)])]
    rows += [
        rng.choice(len(part), (study.attack.rounds, study.batch_size))
        for part in parts[1:]
    ]
    clients = dataclasses.replace(
        Clients.of([(train.images[part], train.labels[part]) for part in parts]),
        counts=jnp.ones(number, jnp.int32),  # The server's mean weighs all alike.
        rows=jnp.asarray(np.stack(rows, 1)),
    )
    federation = Federation.of(
        study.recipe,
        world.start,
        clients,
        batch_size=study.batch_size,
        defense=defense,
    )
    return FederationSeat.of(
        world.keys["world"],
        federation,
        jnp.asarray(train.images[world.adversary]),
        jnp.asarray(train.labels[world.adversary]),
        has_property=jnp.asarray(world.has[world.adversary]),
    )


def _judged(
    study: Study, world: _World, number: int, share: float, own: _Attempt
) -> dict[str, Any]:
    """The score of each round by either classifier, and the final model's hits."""
    seat = validate(_seat(study, world, number, share, own.phase, own.defense))
    if own.permutation is not None:
        permuted = jax.random.permutation(
            jax.random.fold_in(world.keys["shuffle"], own.permutation),
            jnp.asarray(seat.has_property),
        )
        seat = dataclasses.replace(seat, has_property=permuted)
    (after, observed), seconds = _watch(world.keys["watch"], seat, own.config)
    scores, classes = {}, seat.target.num_classes
    for prefix, columns in (("", slice(-classes)), (_TASK, slice(-classes, None))):
        part = observed._replace(
            known=observed.known[..., columns], seen=observed.seen[..., columns]
        )
        found, spent = _judge(world.keys["judge"], part, own.config)
        scores[prefix + FOREST] = _forest(part)
        scores[prefix + PERCEPTRON] = np.exp(np.asarray(found.log_posterior))[:, 1]
        seconds = {kind: seconds[kind] + spent[kind] for kind in seconds}
    return {
        **scores,
        "hits": federations.hits(
            after.target,
            world.images.images[world.test],
            world.images.labels[world.test],
        ),
        **seconds,
    }


def _both(target: Target, change: Any) -> jax.Array:
    """What an update tells, then what the task's predictions tell of it."""
    return jnp.append(magnitudes(target, change), task_alone(target, change))


def _told(labels: dict[str, str], score: np.ndarray, truth: np.ndarray) -> list[Record]:
    """The area under the curve, and the precision where anything is said to have it."""
    records = [Record(labels, "property_auc", _auc(score, truth))]
    said = truth[score > 0.5]
    if said.size:
        precision = metric(said, baseline=[truth.mean()], perfect=1.0)
        records.append(Record(labels, "property_precision", precision))
    return records


def _null(
    labels: dict[str, str], scores: Sequence[np.ndarray], truth: np.ndarray
) -> list[Record]:
    """The area under the curve over permutations: mean, lowest and highest."""
    areas = np.array([_auc(score, truth).value for score in scores])
    told = {
        SHUFFLED: metric(areas, baseline=[0.5]),
        f"{SHUFFLED}, lowest": metric([areas.min()]),
        f"{SHUFFLED}, highest": metric([areas.max()]),
    }
    return [
        Record({**labels, "features": name}, "property_auc", value)
        for name, value in told.items()
    ]


def _forest(observed: Observed) -> np.ndarray:
    """The paper's classifier: 100 trees, 5 examples or more a leaf."""
    known = np.asarray(observed.known)
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0)
    forest.fit(
        known.reshape(-1, known.shape[-1]), np.asarray(observed.properties).ravel()
    )
    return np.asarray(forest.predict_proba(np.asarray(observed.seen)))[:, 1]


def _auc(score: np.ndarray, truth: np.ndarray) -> Metric:
    """The area under the ROC curve, with a bootstrap interval over rounds."""

    def of(rows: np.ndarray) -> float:
        two = np.stack([1 - score[rows], score[rows]], 1)
        return attributes.macro_auc(two, truth[rows])

    rng, values = np.random.default_rng(0), []
    while len(values) < 300:
        rows = rng.integers(0, len(truth), len(truth))
        if 0 < truth[rows].sum() < len(rows):
            values.append(of(rows))
    low, high = np.quantile(values, (0.025, 0.975))
    whole = of(np.arange(len(truth)))
    return Metric(
        whole, float(low), float(high), len(truth), 0.5, leakage=2 * whole - 1
    )


def _page(
    run: Run, study: Study, world: _World, results: Results, score: np.ndarray
) -> report.Page:
    path = run.figures / "rounds.png"
    width = max(study.attack.rounds // 50, 1)
    mean = np.convolve(score, np.full(width, 1 / width), "same")
    figures.curves(
        {
            f"score, mean of {width} rounds": mean,
            f"the batches have it ({study.property_name})": _appears(
                study, phase=True
            ).astype(float),
        },
        path,
        xlabel="round",
        ylabel="property",
    )
    place = {"clients": str(study.clients[0]), "share": f"{study.shares[0]:g}"}
    forest = {**place, "classifier": FOREST}
    auc, plain, null, phase = (
        results.value("property_auc", features=what, **forest)
        for what in ("updates", TASK, SHUFFLED, PHASE)
    )
    return report.Page(
        title=study.title,
        verdict=(
            f"From how the model changes, a participant tells the rounds in which the "
            f"victim's batch has the property ({study.property_name}) with an AUC of "
            f"{auc.value:.3f}; from the task's predictions alone, {plain.value:.3f}; "
            f"trained on shuffled properties, {null.value:.3f} in the mean of "
            f"{study.shuffles} permutations. Where batches have it in the middle third "
            f"of the training alone, {phase.value:.3f}."
        ),
        lead=report.Picture(
            path,
            "The random forest's score by round, where the victim's batches have the "
            "property in the middle third of the training.",
        ),
        caption="By who takes part, and how much of the batch has the property",
        table=results.filter(
            metric=("property_auc", "property_precision", "target_test_accuracy")
        ).pivot(
            rows=("clients", "share", "features"), columns=("metric", "classifier")
        ),
        attacked=f"A federated training on {world.images.name}, "
        f"{study.attack.rounds} rounds, batches of {study.batch_size}.",
        knowledge="The model of each round, and "
        f"{len(world.adversary):,} own examples of which it is known who has the "
        "property.",
        baseline="guessing; task's predictions alone: the same classifiers on the "
        "change of the classes' biases, which is of predictions less labels.",
        n=study.attack.rounds,
        results=results,
        differences=study.differences,
    )
