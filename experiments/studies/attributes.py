"""Attribute inference: train models on members of a table, attack, judge, report.

A paper is a `Study`. Each seed splits the table anew and trains every target; each
adversary takes what it knows from a `Case`, and is compared with those who know as much
but have no target.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from jax import Array
from sklearn.metrics import confusion_matrix
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from experiments.harness import flags as common
from experiments.harness import observations, report
from experiments.harness import run as harness
from experiments.harness.observations import Labels, Observation, single
from experiments.harness.results import Record, Results
from experiments.harness.run import Run
from experiments.harness.views import Draw, View
from mijax import training
from mijax.core import Inference, Paths, Target
from mijax.data import tables
from mijax.data.roles import People
from mijax.evaluation import imputation
from mijax.knowledge import Candidates, Oracle, PartialRecord, validate
from mijax.metrics import attributes
from mijax.models import linear, trees
from mijax.models.mlp import MLP

flags.disclaim_key_flags()

MEMBERS, OTHERS = "members", "non-members"
MODE, IMPUTED = "mode", "imputation"
INFORMED = "imputation with outcome"  # knows all that an adversary does but the model
_KEYS = {MEMBERS: "train", OTHERS: "test"}  # what the sides are called in keys
_IMPUTERS = ("logistic regression", "random forest")


class Victims(NamedTuple):
    """Members, or non-members, and what is inferred of them without a target.

    Attributes:
      side: `MEMBERS` or `OTHERS`.
      row: row numbers in the table, `[V]`.
      x: encoded records, `[V, D]`.
      outcome: `[V]`.
      truth: codes of the private field, `[V]`.
      imputed: probabilities of its values from the known fields, `[V, S]`.
      informed: the same from the known fields and the outcome.
    """

    side: str
    row: np.ndarray
    x: Array
    outcome: Array
    truth: np.ndarray
    imputed: np.ndarray
    informed: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One seed's members and non-members of a table, with one private field.

    Attributes:
      data: the table's name in records.
      table: of people.
      field: the private one.
      seed: of the split, and of all that follows.
      encoder: fitted to the members.
      members: who train the target.
      others: who do not; those with a category that no member has are left out.
      prior: shares of the field's values among members, `[S]`.
    """

    data: str
    table: tables.Table
    field: str
    seed: int
    encoder: tables.Encoder
    members: Victims
    others: Victims
    prior: np.ndarray

    @property
    def labels(self) -> Labels:
        """What every observation of this split is of."""
        return {"data": self.data, "field": self.field}

    @property
    def sides(self) -> tuple[Victims, Victims]:
        """Members and non-members."""
        return self.members, self.others

    @property
    def classes(self) -> int:
        """How many classes the outcome has."""
        return len(self.table.categories(self.table.target))

    def candidates(self, prior: np.ndarray | None = None) -> Candidates:
        """The field's values; their prior is the marginals unless one is given."""
        prior = self.prior if prior is None else prior
        return candidates(self.encoder, self.field, prior)

    def known(
        self, target: Target, victims: Victims, prior: Any = None, **more: Any
    ) -> PartialRecord:
        """The victims without the field; what more is known replaces the outcome."""
        more = {"outcome": victims.outcome} | more
        values = self.candidates(prior)
        return validate(PartialRecord(Oracle.of(target), victims.x, values, **more))


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One target of one split, and what its maker publishes of it.

    Attributes:
      split: whose members trained it.
      name: of the target.
      target: the model.
      logits: what it answers, by side, `[V, O]`.
      paths: of a tree, with the members of each class on each; else None.
    """

    split: Split
    name: str
    target: Target
    logits: Mapping[str, np.ndarray]
    paths: Paths | None = None

    def errors(self, victims: Victims) -> np.ndarray:
        """A regression's errors, true less predicted, `[V]`."""
        return np.asarray(victims.outcome) - self.logits[victims.side][:, 0]

    def deviation(self, victims: Victims | None = None) -> float:
        """The root mean squared error of a regression; on members, unless told."""
        errors = self.errors(self.split.members if victims is None else victims)
        return float(np.sqrt(np.mean(errors**2)))

    def confusion(self) -> np.ndarray:
        """How many members of each class are predicted as each."""
        truth = np.asarray(self.split.members.outcome)
        labels = np.arange(self.split.classes)
        return confusion_matrix(truth, self.logits[MEMBERS].argmax(1), labels=labels)

    def known(self, victims: Victims, **more: Any) -> PartialRecord:
        """As `Split.known`, of this target."""
        return self.split.known(self.target, victims, **more)


@dataclasses.dataclass(frozen=True)
class Attack:
    """A method, with what its adversary knows.

    Attributes:
      method: a module of `mijax.attacks`.
      known: of a case and its victims; None where the study's own `measure` says.
      config: hyper-parameters, or a function of the case; None for the method's own.
      without: whom it is compared with; the first knows as much, but has no target.
    """

    method: ModuleType
    known: Callable[[Case, Victims], PartialRecord] | None = None
    config: Any = None
    without: tuple[str, ...] = (INFORMED,)

    @property
    def name(self) -> str:
        """The method's name, which its flags carry."""
        return self.method.__name__.rpartition(".")[2]


Trained = tuple[Target, Paths | None]


@dataclasses.dataclass(frozen=True)
class Study:
    """One experiment.

    Attributes:
      title: of the page.
      data: who is private in which table, by its name, from the data folder.
      attacks: by the adversary's name.
      attacked: a sentence: which models.
      knowledge: what the adversaries have.
      baseline: who needs no target.
      headline: labels of the attack that the verdict quotes.
      pictures: what is drawn of each table; the first one leads.
      table: of the page.
      targets: by name; each is trained on a split.
      outcome: what the targets predict, of a table, `[N]`.
      extra: what else is measured on a split and its targets.
      measure: what a seed observes, `attack_people` by default.
      seeds: splits and trainings.
      published: the paper's numbers, as records of `value` alone.
      differences: of set-up from the paper's, one a line.
      caveats: one a line.
    """

    title: str
    data: Mapping[str, Callable[[str | None], People]]
    attacks: Mapping[str, Attack]
    attacked: str
    knowledge: str
    baseline: str
    headline: Mapping[str, str]
    pictures: tuple[Draw, ...]
    table: View = View()
    targets: Mapping[str, Callable[[Split], Trained]] = dataclasses.field(
        default_factory=dict
    )
    outcome: Callable[[tables.Table], np.ndarray] = lambda table: table.outcome
    extra: Callable[[Split, Mapping[str, Case]], list[Observation]] = lambda *_: []
    measure: Callable[["Study", str, People, int], list[Observation]] | None = None
    seeds: int = 5
    published: tuple[Record, ...] = ()
    differences: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()


# Splits, and what is inferred without a target ----------------------------------------


def split_people(
    study: Study, data: str, people: People, field: str, seed: int
) -> Split:
    """Draws members and non-members, encodes them, and imputes the private field.

    Raises:
      ValueError: if all members have the same value of the field.
    """
    table, rows = people.table, people.rows(seed)
    encoder = tables.Encoder.fit(table.select(rows.train))
    rows = rows._replace(test=rows.test[~encoder.unseen(table.select(rows.test))])
    sides = [table.select(side) for side in rows]
    x = [encoder.encode(side) for side in sides]
    y = [study.outcome(side) for side in sides]
    truth = [side[field] for side in sides]
    size = len(table.categories(field))
    known = [np.delete(each, np.r_[encoder.columns[field]], 1) for each in x]
    classes = 1 + max(y[0].max(), y[1].max()) if y[0].dtype.kind == "i" else 0
    told = [
        np.concatenate([a, np.eye(classes)[b] if classes else b[:, None]], 1)
        for a, b in zip(known, y, strict=True)
    ]
    imputed = impute(known, truth[0], size, seed)
    informed = impute(told, truth[0], size, seed)
    members, others = (
        Victims(side, rows[i], jnp.asarray(x[i]), jnp.asarray(y[i]), *said)
        for i, (side, *said) in enumerate(
            zip((MEMBERS, OTHERS), truth, imputed, informed, strict=True)
        )
    )
    prior = np.bincount(truth[0], minlength=size) / len(truth[0])
    return Split(data, table, field, seed, encoder, members, others, prior)


def impute(
    known: list[np.ndarray], truth: np.ndarray, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the field by side, `[V, S]`, of what is known, `[V, d]`.

    Of members, whose values are `truth`, they are out of fold.
    """
    found = imputation.impute(
        known[0], truth, known[1], size, seed, _IMPUTERS, len(truth)
    )
    return found.members, found.others


def candidates(encoder: tables.Encoder, field: str, prior: np.ndarray) -> Candidates:
    """The values of a field as the encoder spells them."""
    place = encoder.columns[field]
    columns = np.arange(place.start, place.stop)
    return Candidates.of(columns, encoder.candidates(field), prior)


def without_target(split: Split) -> list[Observation]:
    """How right the mode and the imputations are."""
    return [
        observation
        for v in split.sides
        for adversary, beliefs in (
            (MODE, np.tile(split.prior, (len(v.truth), 1))),
            (IMPUTED, v.imputed),
            (INFORMED, v.informed),
        )
        for observation in answers(split, v, beliefs.argmax(1), beliefs, adversary)
    ]


def key(seed: int, name: str) -> Array:
    """A key for each thing of a seed that is random."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


# Targets ------------------------------------------------------------------------------


def tree(depth: int | None = None) -> Callable[[Split], Trained]:
    """scikit-learn's tree, of classes or of numbers, as the outcome is."""

    def grow(split: Split) -> Trained:
        x, y = np.asarray(split.members.x), np.asarray(split.members.outcome)
        numeric = y.dtype.kind != "i"
        kind: Any = DecisionTreeRegressor if numeric else DecisionTreeClassifier
        model = kind(max_depth=depth, random_state=split.seed).fit(x, y)
        paths = None if numeric else trees.paths(model)
        return trees.padded(trees.from_sklearn(model), paths)

    return grow


def ridge(penalty: float = 0.0) -> Callable[[Split], Trained]:
    """Ridge regression."""

    def fit(split: Split) -> Trained:
        x, y = split.members.x, split.members.outcome
        return linear.target(linear.ridge(x, y, penalty)), None

    return fit


@dataclasses.dataclass(frozen=True)
class Network:
    """A perceptron with one hidden layer, trained by Adam.

    Attributes:
      width: hidden units.
      steps: of training.
      batch_size: records a step.
      learning_rate: Adam's.
    """

    width: int = 64
    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 1e-3

    def __call__(self, split: Split) -> Trained:
        """Trains it on the members."""
        x, y = split.members.x, split.members.outcome
        return self.fit(key(split.seed, "network"), x, y, split.classes), None

    def fit(self, key: Array, x: Array, labels: Array, classes: int) -> Target:
        """Trains it on records `[N, D]` and labels `[N]`; the key is consumed."""
        module = MLP(classes, (self.width,), jax.nn.relu)
        optimizer = optax.adam(self.learning_rate)
        start_key, fit_key = jax.random.split(key)
        state = training.train_state(start_key, module, x.shape[1:], optimizer)
        data, size = (x, labels.astype(jnp.int32)), min(self.batch_size, len(x))
        step = training.supervised(module, optimizer)

        @jax.jit
        def train(key: Array, state: training.TrainState) -> Any:
            return training.fit(
                key, state, step, data, batch_size=size, steps=self.steps
            )

        fitted, _ = train(fit_key, state)
        return Target.from_linen(module, fitted.variables, x.shape[1:])


# Attacks ------------------------------------------------------------------------------


_PREDICT = jax.jit(lambda target, x: target.predict(x).logits)


@functools.cache
def compiled(method: ModuleType) -> Callable[..., Inference]:
    """The attack under `jit`, the same function at each call."""
    return jax.jit(method.attack)


def case(split: Split, name: str, trained: Trained) -> Case:
    """Asks a target about everyone."""
    target, paths = trained
    logits = {v.side: np.asarray(_PREDICT(target, v.x)) for v in split.sides}
    return Case(split, name, target, logits, paths)


def attack(case: Case, attacks: Mapping[str, Attack]) -> list[Observation]:
    """What each adversary infers from one target, and how often that one is right."""
    split, found = case.split, []
    for adversary, chosen in attacks.items():
        hits = []
        for victims in split.sides:
            assert chosen.known is not None
            own = chosen.config(case) if callable(chosen.config) else chosen.config
            inferred = compiled(chosen.method)(
                key(split.seed, f"{chosen.name}-{case.name}-{_KEYS[victims.side]}"),
                chosen.known(case, victims),
                chosen.method.Config() if own is None else own,
            )
            found += infer(
                split, victims, inferred, adversary, chosen.without, target=case.name
            )
            hits.append(np.mean(np.asarray(inferred.guess) == victims.truth))
        labels = split.labels | {"target": case.name, "adversary": adversary}
        found.append(single("advantage", hits[0] - hits[1], labels, 0.0))
    if split.others.outcome.dtype.kind == "i":
        right = case.logits[OTHERS].argmax(1) == np.asarray(split.others.outcome)
        labels = split.labels | {"target": case.name}
        row = split.others.row
        found.append(Observation(labels, "target_test_accuracy", right, row))
    return found


def attack_people(
    study: Study, data: str, people: People, seed: int
) -> list[Observation]:
    """Attacks every private field from every target, and what the study adds."""
    found = []
    for field in people.private:
        split = split_people(study, data, people, field, seed)
        found += without_target(split)
        cases = {
            name: case(split, name, train(split))
            for name, train in study.targets.items()
        }
        for each in cases.values():
            found += attack(each, study.attacks)
        found += study.extra(split, cases)
    return found


def infer(
    split: Split,
    victims: Victims,
    inferred: Inference,
    adversary: str,
    without: tuple[str, ...],
    **labels: str,
) -> list[Observation]:
    """How right an attack is."""
    beliefs = np.exp(np.asarray(inferred.log_posterior))
    guess = np.asarray(inferred.guess)
    return answers(split, victims, guess, beliefs, adversary, without, **labels)


def answers(
    split: Split,
    victims: Victims,
    guess: np.ndarray,
    beliefs: np.ndarray | None,
    adversary: str,
    without: tuple[str, ...] = (),
    **labels: str,
) -> list[Observation]:
    """How right an adversary is; precision and recall are of the second of two values.

    Args:
      split: what the victims are of.
      victims: whom it infers the field of.
      guess: `[V]`.
      beliefs: `[V, S]`, or None.
      adversary: its name.
      without: of `Observation`.
      **labels: further ones, such as the target's.
    """
    every = split.labels | labels | {"adversary": adversary, "records": victims.side}
    truth, row = victims.truth, victims.row
    hits = attributes.correct(guess, truth)
    seed = {
        "attribute_gmean": attributes.g_mean(guess, truth),
        "attribute_mcc": attributes.matthews_correlation(guess, truth),
    }
    if beliefs is not None:
        area = attributes.macro_auc(beliefs.astype(np.float32), truth)
        seed["attribute_auc"] = area
    found = [Observation(every, "attribute_accuracy", hits, row, without)]
    found += [single(metric, value, every, without) for metric, value in seed.items()]
    if len(split.prior) == 2:
        said, has = guess == 1, truth == 1
        found += [
            Observation(every, metric, (said & has)[among], row[among])
            for metric, among in (
                ("attribute_precision", said),
                ("attribute_recall", has),
            )
        ]
    return found


# The run, and its page ----------------------------------------------------------------


def main(name: str, *, quick: Study, paper: Study) -> Callable[[], None]:
    """Defines the flags of a paper's studies, and returns its `main`."""
    flags.DEFINE_integer(
        "seeds", None, "Number of random splits, each trained anew.", 1, 100
    )
    configs = {
        a.name: a.method.Config()
        for a in quick.attacks.values()
        if not callable(a.config)
    }
    methods = {name: common.from_config(own, name) for name, own in configs.items()}
    networks = {
        name: common.from_config(network, name)
        for name, network in quick.targets.items()
        if isinstance(network, Network)
    }

    def changed(study: Study) -> Study:
        dataset = flags.FLAGS.dataset
        if dataset is not None and dataset not in study.data:
            raise ValueError(
                f"--dataset={dataset} is no table of this paper's: it has "
                f"{', '.join(study.data)}. mijax-audit takes any."
            )
        attacks = {
            name: dataclasses.replace(
                a, config=methods[a.name](a.config or configs[a.name])
            )
            for name, a in study.attacks.items()
            if a.name in methods
        }
        targets: dict[str, Any] = {
            name: read(study.targets[name]) for name, read in networks.items()
        }
        return dataclasses.replace(
            study,
            seeds=flags.FLAGS.seeds or study.seeds,
            data=study.data if dataset is None else {dataset: study.data[dataset]},
            attacks={**study.attacks, **attacks},
            targets={**study.targets, **targets},
        )

    return harness.main(
        name,
        quick={"people": quick},
        paper={"people": paper},
        changed=changed,
        measure=measure,
        free_mib=256,
    )


def measure(run: Run, study: Study) -> report.Page:
    """Measures each table and seed, unless the workdir has it, and makes the page.

    Raises:
      FileNotFoundError: if no table is at hand, or not the one that was asked for.
    """
    compute, people, absent, found = study.measure or attack_people, [], [], []
    for data, load in study.data.items():
        try:
            people.append((data, load(run.data_dir)))
        except FileNotFoundError as error:
            absent.append(f"{data} is not at hand: {error}")
            print(absent[-1], flush=True)
    if not people:
        raise FileNotFoundError(absent[0])
    for data, who in people:
        print(who.table.report(), flush=True)
        for seed in range(100 * run.seed, 100 * run.seed + study.seeds):
            given = compute, study, data, who, seed
            arrays = run.once(
                f"{data}-{seed}", functools.partial(observations.timed, *given)
            )
            print(f"{data}, seed {seed}: {arrays['run']:.0f} s", flush=True)
            found += observations.unpacked(arrays)
    results = observations.collect(found, study.published)
    headline = results.filter(data=people[0][0], **study.headline)
    lead, *pictures = (
        draw(results, data, run.figures)
        for data, _ in people
        for draw in study.pictures
    )
    return report.Page(
        title=study.title,
        verdict=verdict(headline, results),
        lead=lead,
        caption=study.table.caption,
        table=study.table.pivot(results),
        attacked=" ".join(who.table.report() for _, who in people)
        + f" {study.attacked}",
        knowledge=study.knowledge,
        baseline=study.baseline,
        n=next(iter(headline)).value.n or 0,
        results=results,
        pictures=pictures,
        differences=study.differences,
        caveats=[*study.caveats, *absent],
    )


def verdict(headline: Results, results: Results) -> str:
    """The headline with its baseline; and how many attacks beat theirs, by side."""

    def percent(x: float | None) -> str:
        return "-" if x is None else f"{100 * x:.0f}"

    quoted = headline.filter(metric="attribute_accuracy")
    (labels, _, line), *_ = quoted
    without = next(iter(headline.filter(metric="attribute_gain"))).labels["over"]
    firsts: dict[frozenset, Record] = {}
    for record in results.filter(metric="attribute_gain"):
        attacked = {k: v for k, v in record.labels.items() if k != "over"}
        firsts.setdefault(frozenset(attacked.items()), record)
    counts = []
    for side in (MEMBERS, OTHERS):
        own = [r.value.low for r in firsts.values() if r.label("records") == side]
        beaten = sum(low is not None and low > 0 for low in own)
        counts += [f"{beaten} of {len(own)} attacks on {side}"] if own else []
    what = labels.get("field", f"{labels.get('bits')} unknown bits")
    return (
        f"{labels['adversary']} infers {what} for {percent(line.value)} % of the "
        f"{labels['records']} of {labels['data']} (95 % interval {percent(line.low)} "
        f"to {percent(line.high)} %), where {without}, which has no target, reaches "
        f"{percent(line.baseline)} %. By an interval above 0, "
        f"{' and '.join(counts)} are right more often than who knows as much but has "
        "no target."
    )
