"""Properties of batches in a federated training: which rounds had them?

A `Study` says what is learned, which property is sought, and who takes part. The victim
trains on examples with the property every few rounds, the other clients on ones
without. The adversary watches the shared model.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from sklearn.ensemble import RandomForestClassifier

from experiments.harness import figures, programs, report
from experiments.harness import run as harness
from experiments.harness.results import Metric, Record, Results, metric
from experiments.harness.run import Run
from mijax import data
from mijax.attacks import feature_leakage
from mijax.attacks.federated.feature_leakage import Observed, labels_alone
from mijax.core import Target
from mijax.data import TrainTest
from mijax.federation import Clients, Federation, Recipe
from mijax.knowledge import FederationSeat, validate
from mijax.metrics import attributes

_observe = programs.program(feature_leakage.observe)
_judge = programs.program(feature_leakage.judge)
FOREST, PERCEPTRON = "random forest", "perceptron"


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      dataset: of `mijax.data.load`, where `--dataset` is not given.
      network: from the number of classes.
      has_property: from images and labels to whether each example has the property.
      property_name: in words.
      clients: the numbers of clients beside the adversary, the first without others
        than the victim.
      shares: of examples with the property in a victim's batch that has it.
      every: rounds from one such batch to the next.
      recipe: how all train.
      batch_size: examples that a client takes in a round.
      attack: the adversary's configuration.
      differences: from the paper's set-up.
    """

    title: str
    dataset: str
    network: Callable[[int], nn.Module]
    has_property: Callable[[np.ndarray, np.ndarray], np.ndarray]
    property_name: str
    clients: Sequence[int]
    shares: Sequence[float]
    every: int
    recipe: Recipe
    batch_size: int
    attack: feature_leakage.Config
    differences: tuple[str, ...] = ()


def main(name: str, *, quick: Study, paper: Study) -> Callable[[], None]:
    """Returns a paper's `main`."""
    return harness.main(
        name,
        quick={"images": quick},
        paper={"images": paper},
        changed=lambda study: study,
        measure=measure,
    )


@dataclasses.dataclass(frozen=True)
class _World:
    """A data set whose examples are the victim's, the adversary's, and the others'."""

    images: TrainTest
    has: np.ndarray
    victim: np.ndarray
    adversary: np.ndarray
    others: np.ndarray
    start: Target
    keys: Mapping[str, jax.Array]


def measure(run: Run, study: Study) -> report.Page:
    """Watches each federation, judges its rounds, and tells."""
    world = _world(run, study)
    truth = _appears(study).astype(int)
    cases = [(number, study.shares[0]) for number in study.clients]
    cases += [(study.clients[0], share) for share in study.shares[1:]]
    records, lead = [], None
    for number, share in cases:
        place = {"clients": str(number), "share": f"{share:g}"}
        config = dataclasses.replace(study.attack, clients=number)
        attempts = {"updates": (config, False)}
        if (number, share) == cases[0]:
            plain = dataclasses.replace(config, features=labels_alone)
            attempts |= {"labels alone": (plain, False), "shuffled": (config, True)}
        for what, (own, shuffled) in attempts.items():
            arrays = run.once(
                f"{what}_{number}_{share:g}".replace(" ", "_"),
                lambda own=own, shuffled=shuffled, number=number, share=share: _judged(
                    study, world, number, share, own, shuffled
                ),
            )
            for method in (FOREST, PERCEPTRON):
                score = arrays[method]
                labels = {**place, "features": what, "classifier": method}
                records.append(Record(labels, "property_auc", _auc(score, truth)))
                said = truth[score > 0.5]
                if said.size:
                    precision = metric(said, baseline=[truth.mean()], perfect=1.0)
                    records.append(Record(labels, "property_precision", precision))
            if lead is None:
                lead = arrays[FOREST]
                hits = metric(np.asarray(arrays["hits"], float))
                records.insert(0, Record(place, "target_test_accuracy", hits))
    assert lead is not None
    return _page(run, study, world, Results(records), lead, truth)


def _appears(study: Study) -> np.ndarray:
    """In which rounds the victim's batch has the property, `[T]`."""
    return np.arange(study.attack.rounds) % study.every == study.every - 1


def _world(run: Run, study: Study) -> _World:
    loaded = data.load(run.dataset or study.dataset, data_dir=run.data_dir)
    images = data.train_test(loaded, test_fraction=0.2, seed=run.seed)
    train = images.train
    has = study.has_property(train.images, train.labels)
    order = np.random.default_rng(run.seed).permutation(len(train))
    victim, adversary, others = np.array_split(order, 3)
    keys = run.keys("model", "world", "watch", "judge", "shuffle")
    module = study.network(len(train.names))
    shape = train.images.shape[1:]
    variables = module.init(keys["model"], jnp.zeros((1, *shape)))
    start = Target.from_linen(module, variables, shape)
    return _World(images, has, victim, adversary, others[~has[others]], start, keys)


def _seat(study: Study, world: _World, number: int, share: float) -> FederationSeat:
    """The adversary's seat beside the victim and `number - 1` others."""
    rng, train = np.random.default_rng(number), world.images.train
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
    rows = [np.stack([batch(appears) for appears in _appears(study)])]
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
        study.recipe, world.start, clients, batch_size=study.batch_size
    )
    return FederationSeat.of(
        world.keys["world"],
        federation,
        jnp.asarray(train.images[world.adversary]),
        jnp.asarray(train.labels[world.adversary]),
        has_property=jnp.asarray(world.has[world.adversary]),
    )


def _judged(
    study: Study,
    world: _World,
    number: int,
    share: float,
    config: feature_leakage.Config,
    shuffled: bool,
) -> dict[str, Any]:
    """The score of each round by either classifier, and the final model's hits."""
    seat = validate(_seat(study, world, number, share))
    if shuffled:
        permuted = jax.random.permutation(
            world.keys["shuffle"], jnp.asarray(seat.has_property)
        )
        seat = dataclasses.replace(seat, has_property=permuted)
    observed, seconds = _observe(world.keys["watch"], seat, config)
    found, spent = _judge(world.keys["judge"], observed, config)
    arrays = {
        FOREST: _forest(observed),
        PERCEPTRON: np.exp(np.asarray(found.log_posterior))[:, 1],
        **{kind: seconds[kind] + spent[kind] for kind in seconds},
    }
    if config.features is not labels_alone and not shuffled:
        arrays["hits"] = _hits(study, world, seat)
    return arrays


def _forest(observed: Observed) -> np.ndarray:
    """The paper's classifier: 100 trees, 5 examples or more a leaf."""
    known = np.asarray(observed.known)
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0)
    forest.fit(
        known.reshape(-1, known.shape[-1]), np.asarray(observed.properties).ravel()
    )
    return np.asarray(forest.predict_proba(np.asarray(observed.seen)))[:, 1]


def _hits(study: Study, world: _World, seat: FederationSeat) -> np.ndarray:
    """Whether the model after the last round is right about each test image."""

    def play(seat: FederationSeat) -> Any:
        rounds = jnp.arange(study.attack.rounds)
        after, _ = jax.lax.scan(lambda now, _: (now.act(), None), seat, rounds)
        return after.target

    target, test = jax.jit(play)(seat), world.images.test
    logits = programs.batched(lambda x: target.predict(x).logits)(test.images)
    return np.argmax(logits, 1) == test.labels


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
    run: Run,
    study: Study,
    world: _World,
    results: Results,
    score: np.ndarray,
    truth: np.ndarray,
) -> report.Page:
    path, shown = run.figures / "rounds.png", slice(-60, None)
    figures.curves(
        {
            "score of the round": score[shown],
            f"the batch has it ({study.property_name})": truth[shown].astype(float),
        },
        path,
        xlabel="round, of the last 60",
        ylabel="property",
    )
    place = {"clients": str(study.clients[0]), "share": f"{study.shares[0]:g}"}
    forest = {**place, "classifier": FOREST}
    auc = results.value("property_auc", features="updates", **forest)
    plain = results.value("property_auc", features="labels alone", **forest)
    null = results.value("property_auc", features="shuffled", **forest)
    return report.Page(
        title=study.title,
        verdict=(
            f"From how the model changes, a participant tells the rounds in which the "
            f"victim's batch has the property ({study.property_name}) with an AUC of "
            f"{auc.value:.3f}; from the counts of labels alone, {plain.value:.3f}; "
            f"trained on shuffled properties, {null.value:.3f}."
        ),
        lead=report.Picture(
            path, "The random forest's score by round, and whether the property was in."
        ),
        caption="By who takes part, and how much of the batch has the property",
        table=results.filter(metric="property_auc").pivot(
            rows=("clients", "share", "features"), columns=("classifier",)
        ),
        attacked=f"A federated training on {world.images.train.name}, "
        f"{study.attack.rounds} rounds, batches of {study.batch_size}.",
        knowledge="The model of each round, and "
        f"{len(world.adversary):,} own examples of which it is known who has the "
        "property.",
        baseline="guessing; labels alone: the same classifiers on what the classes' "
        "biases tell of the batch's labels.",
        n=study.attack.rounds,
        results=results,
        differences=study.differences,
    )
