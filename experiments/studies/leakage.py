"""Leakage from updates: what a federated server recovers of its clients' batches.

A paper is a `Study`: `Case`s (whose images, in which batches, sent which model), each
attacked by every `Attack` through every `Defended`. One attempt is one image. It
succeeds if its squared error is below a criterion, by default CPL's; an attempt that is
not finite fails, and counts. All is compared with what needs no update: the mean of
public images, and a sample of a generator of such images.

References:
  Carletti et al. SoK: gradient inversion attacks in federated learning. USENIX Security
  2025 (threat models A to H).
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from flax import linen as nn
from jax import Array

from experiments.harness import curves, figures, programs, progress, report
from experiments.harness import flags as common
from experiments.harness import run as harness
from experiments.harness.curves import Curve, words
from experiments.harness.results import Metric, Record, Results, metric
from experiments.harness.run import Run
from experiments.studies import clients as clients_of
from experiments.studies import utility
from experiments.studies.clients import Clients
from mijax import batching, data, federation
from mijax.attacks import bayes_optimal
from mijax.attacks.leakage import initial_images
from mijax.attacks.leakage.bayes_optimal import Density
from mijax.core import Defense, Reconstruction, Target
from mijax.data import Dataset, TrainTest
from mijax.federation import Recipe
from mijax.knowledge import SharedUpdate, validate
from mijax.metrics import matching
from mijax.models import initialization

flags.disclaim_key_flags()

SUCCESS = 0.01  # CPL's criterion, a squared error
MEAN, SAMPLE = "mean_image", "prior_sample"
INFERENCE = "inference (upper bound)"
_PUBLIC = 64  # public images behind the rules for labels
_TRAINING = "train[:10000]"  # what models learn that are sent after training
_SHOWN = 8  # images in pictures, the first
_CHUNKS = {"quick": 10, "paper": 128}
_FAILED = {"success_rate": 0.0, "mse": 1.0, "psnr": 0.0, "ssim": 0.0}
_PERFECT = {"success_rate": 1.0, "mse": 0.0, "psnr": None, "ssim": 1.0}
_THREATS = {
    "C": "parameter-aware eavesdropper",
    "D": "data-enhanced eavesdropper",
    "E": "statistical-informed eavesdropper",
    "G": "data-enhanced manipulator",
}


@dataclasses.dataclass(frozen=True)
class Model:
    """The model that the server sends.

    Attributes:
      network: from the number of classes.
      reach: its first weights are uniform in +-reach; None for the network's own.
      stream: folded into the run's key; None for that key itself.
      steps: of training before it is sent; 0 for none.
      published: `data folder -> variables` of others' training, None without the file.
    """

    network: Callable[[int], nn.Module]
    reach: float | None = None
    stream: int | None = None
    steps: int = 0
    published: Callable[[str | None], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """One kind of client.

    Attributes:
      dataset: of `mijax.data.load`.
      model: that it is sent.
      victims: clients.
      batch: images of each.
      labels: of its records, beside `data` and `mode`.
      attacks: by name; none for all of the study's.
      train: whether batch normalization, where there is any, is in training mode, as at
        clients; else by running statistics, which is an upper bound on what leaks.
      recipe: how they train apart from that: their local steps.
      epochs: that those steps make of a batch, the first in the batch's order, each
        other one in an order of its own, which nobody knows.
      networks: drawn, each sent to as many of the victims: intervals are over both.
    """

    dataset: str
    model: Model
    victims: int
    batch: int = 1
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    attacks: tuple[str, ...] = ()
    train: bool = True
    recipe: Recipe = Recipe()
    epochs: int = 1
    networks: int = 1


@dataclasses.dataclass(frozen=True)
class Attack:
    """A method, its hyper-parameters, and what the adversary knows and does.

    Attributes:
      method: a module of `mijax.attacks`.
      config: its hyper-parameters.
      labels: of its records, such as `{"attack": "dlg"}`; with `steps`, flags leave its
        hyper-parameters alone.
      knows: of `public` images, a `prior`, the `labels` of batches above 1, the
        `defense`, or its `density`, and the `statistics` of a batch, which clients then
        share.
      first_guess: drawn outside of the attack, so that one program serves them all.
      plant: `(model, public images) -> model` that a malicious server sends instead.
      published: the paper's numbers by metric, by data set.
      null: of `NULLS`; a row for who gets the updates of others.
      against: the defenses that it is run against, by name; none for all.
    """

    method: ModuleType
    config: Any
    labels: Mapping[str, str]
    knows: frozenset[str] = frozenset()
    first_guess: initial_images.Seed | None = None
    plant: Callable[[Target, Array], Target] | None = None
    published: Mapping[str, Mapping[str, float]] = dataclasses.field(
        default_factory=dict
    )
    null: str = "none"
    against: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The method's name, which its flags carry."""
        return self.method.__name__.rpartition(".")[2]

    @property
    def threat(self) -> str:
        """Which of Carletti's threat models A to H it needs, by what it knows."""
        if self.plant or "statistics" in self.knows:
            return "G" if self.plant else "E"
        has_images = self.first_guess is initial_images.same_class
        return "D" if has_images or self.knows & {"public", "prior"} else "C"


@dataclasses.dataclass(frozen=True)
class Defended:
    """A defense of updates at one strength.

    Attributes:
      make: `batch size -> defense`; those that differ in numbers share a program.
      labels: of its records, such as `{"defense": "prune", "strength": "0.9"}`.
      shown: whether images recovered through it are drawn.
      density: `batch size -> density` of `bayes_optimal`, for who knows of it.
    """

    make: Callable[[int], Defense] = lambda batch: Defense()
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shown: bool = True
    density: Callable[[int], Density] = lambda batch: bayes_optimal.exact()


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      cases: who is attacked.
      attacks: by the name that `--attacks` takes.
      caption: of the table.
      table: the records that it holds, as `Results.filter` takes them.
      rows: labels that tell its rows apart.
      columns: labels that tell its columns apart.
      grid: labels that tell the pictures of recovered images apart.
      contrast: labels of what the verdict's second sentence is about.
      curves: further figures.
      defenses: of the updates.
      task: how a task is learned through each defense; None for not at all.
      criteria: squared errors below which an image is recovered, by their label.
      more: `(study, the task's images) -> records`, further ones.
      differences: of set-up from the paper's, one a line.
      caveats: one a line.
    """

    title: str
    cases: tuple[Case, ...]
    attacks: Mapping[str, Attack]
    caption: str
    table: Mapping[str, Any]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    grid: tuple[str, ...]
    contrast: Mapping[str, str]
    curves: tuple[Curve, ...] = ()
    defenses: tuple[Defended, ...] = (Defended(),)
    task: utility.Task | None = None
    criteria: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"": SUCCESS}
    )
    more: Callable[..., Sequence[Record]] = lambda *_: ()
    differences: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()


def main(
    name: str, *, quick: Study, paper: Study, more: Mapping[str, Study] | None = None
) -> Callable[[], None]:
    """Defines the flags of a paper's studies, and returns its `main`.

    Args:
      name: of the module.
      quick: the study of `--preset=quick`.
      paper: that of `--preset=paper`.
      more: further quick ones, by their kind.
    """
    more = more or {}
    studies = quick, paper, *more.values()
    every = {name: a for study in studies for name, a in study.attacks.items()}
    kinds = list(dict.fromkeys(d.labels["defense"] for d in quick.defenses if d.labels))
    flags.DEFINE_integer(
        "num_victims", None, "Clients attacked in each case.", lower_bound=1
    )
    about = f"Victims of one call of a program, which is what a kill loses: {_CHUNKS}."
    flags.DEFINE_integer("chunk", None, about, lower_bound=1)
    flags.DEFINE_enum("null", "none", list(NULLS), "Null case: what is attacked.")
    flags.DEFINE_multi_enum(
        "attacks", None, list(every), "Attacks to run; default: all."
    )
    if kinds:
        flags.DEFINE_multi_enum("defenses", None, kinds, "Those to attack; all.")
    configs = {a.name: a.method.Config() for a in every.values()}
    methods = {name: common.from_config(own, name) for name, own in configs.items()}
    trained = any(case.model.steps for case in quick.cases)
    if trained:
        flags.DEFINE_integer("target.steps", None, "Of training the models.")
    task = common.from_config(quick.task, "task") if quick.task else None

    def changed_case(case: Case) -> Case:
        values, model = flags.FLAGS, case.model
        if trained and model.steps and values["target.steps"].present:
            model = dataclasses.replace(model, steps=values["target.steps"].value)
        victims = values.num_victims or case.victims
        networks = min(case.networks, victims)
        return dataclasses.replace(
            case, model=model, victims=victims, networks=networks
        )

    def changed(study: Study) -> Study:
        values, cases = flags.FLAGS, study.cases
        if values.dataset is not None:
            alike = [case for case in cases if case.dataset == cases[0].dataset]
            cases = [case for case in cases if case.dataset == values.dataset] or [
                dataclasses.replace(case, dataset=values.dataset) for case in alike
            ]
        wanted = {"none", *((kinds and values.defenses) or kinds)}
        return dataclasses.replace(
            study,
            cases=tuple(map(changed_case, cases)),
            attacks={
                name: a
                if "steps" in a.labels
                else dataclasses.replace(a, config=methods[a.name](a.config))
                for name, a in study.attacks.items()
                if name in (values.attacks or study.attacks)
            },
            defenses=tuple(
                each
                for each in study.defenses
                if each.labels.get("defense", "none") in wanted
            ),
            task=task(study.task) if task and study.task else None,
        )

    return harness.main(
        name,
        quick={"updates": quick, **more},
        paper={"updates": paper},
        changed=changed,
        measure=measure,
        free_mib={"quick": 512, "paper": 8_192},
    )


# Null cases: another client shares what is attacked (`Clients.before`) ----------------

Null = Callable[[SharedUpdate], SharedUpdate]


def others(knowledge: SharedUpdate) -> SharedUpdate:
    """All that the other client shared."""
    return knowledge


def zeros(knowledge: SharedUpdate) -> SharedUpdate:
    """Updates and statistics of nothing but zeros."""
    update, statistics = jax.tree.map(
        jnp.zeros_like, (knowledge.update, knowledge.statistics)
    )
    return dataclasses.replace(knowledge, update=update, statistics=statistics)


NULLS: Mapping[str, Null | None] = {"none": None, "others": others, "zeros": zeros}


# Recovery -----------------------------------------------------------------------------


def sent(
    run: Run, case: Case, loaded: Dataset, draw: int = 0
) -> tuple[Target, np.ndarray | None]:
    """The model that clients are sent; if trained, its hits on 1,000 test images."""
    model, shape = case.model, loaded.images.shape[1:]
    module, key = model.network(len(loaded.names)), run.key
    if model.stream is not None:
        key = jax.random.fold_in(key, model.stream)
    if draw:
        key = jax.random.fold_in(key, draw)
    if not model.steps:
        variables = (
            initialization.initialize(key, module, shape)
            if model.reach is None
            else initialization.uniform(key, module, shape, model.reach)
        )
        return Target.from_linen(module, variables, shape), None
    first = {"images": loaded.images[:1000], "labels": loaded.labels[:1000]}
    known = clients_of.load(case.dataset, run.data_dir, _TRAINING)
    variables = model.published(run.data_dir) if model.published else None
    return run.train(
        key,
        f"{case.labels.get('network', 'target')}-{model.steps}" + _of(draw),
        module,
        TrainTest(known, dataclasses.replace(loaded, **first)),
        optimizer=optax.adam(1e-3),
        steps=0 if variables else model.steps,
        batch_size=64,
        variables=variables,
        chunk=500,
    )


def recover(
    run: Run,
    name: str,
    clients: Clients,
    attack: Attack,
    target: Target,
    defended: Defended = Defended(),
    *,
    recipe: Recipe = Recipe(),
    epochs: int = 1,
    chunk: int,
    null: Null | None = None,
) -> dict[str, np.ndarray]:
    """Attacks all clients in chunks: one call of a program and one file each.

    A run that is killed loses the chunk at hand, and resumes to the same bits.

    Args:
      run: of its key each victim has its own, for defense and attack, in any chunk.
      name: of the files.
      clients: V of them.
      attack: the adversary.
      target: the honest model.
      defended: what they do to what they share.
      recipe: how they train.
      epochs: in orders of their own, as `Case` has them.
      chunk: victims at a time.
      null: in a null case, what becomes of the knowledge of the clients before.

    Returns:
      `x` `[V, B, *shape]`, `loss` `[V]`, `trace` `[V, R, steps + 1]`, and `labels`
      `[V, B]` that were not told.
    """
    number = len(clients.x)
    sharing = clients if null is None else clients.before
    chunk, keys = min(chunk, number), batching.keys_of(run.key, number)
    recipe = dataclasses.replace(recipe, share_statistics="statistics" in attack.knows)
    batch = clients.labels.shape[1]
    defense = defended.make(batch)
    told = "labels" in attack.knows and batch > 1
    config, known = attack.config, {}
    if "public" in attack.knows:
        known["public"] = jnp.asarray(clients.public[:_PUBLIC])
    if "prior" in attack.knows:
        known["prior"] = clients.load_prior()
    if attack.first_guess is not None:
        config = dataclasses.replace(config, seed=initial_images.same_class)
    if "defense" in attack.knows:
        config = dataclasses.replace(config, defense=defense)
    if "density" in attack.knows:
        config = dataclasses.replace(config, density=defended.density(batch))
    if attack.plant is not None:
        target = attack.plant(target, jnp.asarray(clients.public))

    def compute(start: int) -> dict[str, Any]:
        rows = (start + np.arange(chunk)) % number  # The last chunk is filled up.
        share_keys, attack_keys = jax.vmap(jax.random.split, out_axes=1)(keys[rows])
        x, labels = jnp.asarray(sharing.x[rows]), jnp.asarray(sharing.labels[rows])
        taken = x, labels
        if epochs > 1:
            orders = jax.vmap(_orders, (0, None, None))(share_keys, epochs, batch)
            taken = tuple(jax.vmap(jnp.take, (0, 0, None))(t, orders, 0) for t in taken)
        update = shared_updates(share_keys, recipe, target, *taken, defense)
        similar = None
        if attack.first_guess is not None:
            similar = _guessed(run.key, attack.first_guess, sharing, rows)
        knowledge = SharedUpdate(
            target,
            update.change,
            x.shape[1],
            recipe,
            statistics=update.statistics,
            labels=labels if told else None,
            similar=similar,
            **known,
        )
        program = _program(attack.method.attack, null, chunk)
        found, seconds = program(attack_keys, validate(knowledge), config)
        fields = {"x": found.x, "loss": found.loss, "trace": found.trace}
        if found.labels is not None and not told:
            fields["labels"] = found.labels
        return {k: each[: number - start] for k, each in fields.items()} | seconds

    starts = range(0, number, chunk)
    sizes = [min(chunk, number - start) for start in starts]
    parts = [
        run.once(f"{name}-{start:06d}", lambda start=start: compute(start))
        for start in progress.track(starts, name, sizes=sizes, done=0, unit="victims")
    ]
    fields = [field for field in parts[0] if parts[0][field].ndim]
    return {field: np.concatenate([part[field] for part in parts]) for field in fields}


def _orders(key: Array, epochs: int, batch: int) -> Array:
    """Which example each step of all epochs takes: the first epoch's in order."""
    keys, rows = jax.random.split(key, epochs - 1), jnp.arange(batch)
    others = jax.vmap(jax.random.permutation, (0, None))(keys, rows)
    return jnp.concatenate([rows, others.ravel()])


def _with_key_of(run: Run, draw: int) -> Run:
    """The run with the key of a network that was drawn; the first has the run's."""
    key = jax.random.fold_in(run.key, draw) if draw else run.key
    return dataclasses.replace(run, key=key)


@jax.jit
def shared_updates(
    keys: Array, recipe: Recipe, target: Target, x: Array, labels: Array, defense: Any
) -> federation.Update:
    """What V clients share, one after the other, each with a key of its own."""

    def one(client: tuple[Array, Array, Array]) -> federation.Update:
        key, x, labels = client
        update = federation.share(key, recipe, target, x[None], labels[None], defense)
        return jax.tree.map(lambda leaf: leaf[0], update)

    return jax.lax.map(one, (keys, x, labels))


@functools.cache
def _program(
    attack: Callable[..., Reconstruction], null: Null | None, number: int
) -> programs.Program:
    """An attack on so many victims: one for all cells that differ in numbers."""

    def changed(key: Array, knowledge: SharedUpdate, config: Any) -> Reconstruction:
        return attack(key, knowledge if null is None else null(knowledge), config)

    return programs.over_victims(changed, number)


def _guessed(
    key: Array, seed: initial_images.Seed, clients: Clients, rows: np.ndarray
) -> Array:
    similar = jnp.asarray(clients.similar[rows])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(rows))
    return jax.vmap(lambda key, own: seed(key, own.shape, own))(keys, similar)


def without_update(run: Run, clients: Clients) -> dict[str, np.ndarray]:
    """Images that need no update, `[V, B, H, W, C]`: public mean, a prior's sample."""
    images = {MEAN: clients.mean_image}
    if (prior := clients.load_prior()) is not None:
        z = prior.sample(run.key, int(np.prod(clients.x.shape[:2])))
        images[SAMPLE] = np.asarray(prior.images(z)).reshape(clients.x.shape)
    return images


# Judging ------------------------------------------------------------------------------


def judged(
    clients: Clients,
    found: Mapping[str, np.ndarray],
    labels: Mapping[str, str],
    criteria: Mapping[str, float],
    published: Mapping[str, float] | None = None,
) -> tuple[list[Record], np.ndarray]:
    """Compares what was recovered with the truth, beside the mean of public images.

    Args:
      clients: the truth.
      found: `x` `[V, B, H, W, C]`, and what else `recover` returns.
      labels: of the records.
      criteria: squared errors of success, by the record's label `criterion`.
      published: the paper's number, by metric.

    Returns:
      The records, and the images in the truth's order.
    """
    own, mean = (matching.match(clients.x, x) for x in (found["x"], clients.mean_image))
    victims = np.repeat(np.arange(len(clients.x)), clients.x.shape[1])
    published, records = published or {}, []

    def record(name: str, about: Mapping[str, str], *values: np.ndarray) -> None:
        value, without = (np.ravel(each).astype(float) for each in values)
        beside = {"baseline": without, "perfect": _PERFECT[name]}
        line = metric(
            value,
            clusters=victims,
            failure=_FAILED[name],
            paper=published.get(name),
            **({} if labels["attack"] in (MEAN, SAMPLE) else beside),
        )
        records.append(Record({**labels, **about}, name, line))

    for name in ("mse", "psnr", "ssim"):
        record(name, {}, getattr(own, name), getattr(mean, name))
    for criterion, least in criteria.items():
        about = {"criterion": criterion} if criterion else {}
        record("success_rate", about, own.mse < least, mean.mse < least)
    if "labels" in found:
        line = label_accuracy(clients, found["labels"])
        records.append(Record(labels, "label_accuracy", line))
    succeeded = (own.mse < SUCCESS).all(1)
    if "trace" in found and found["trace"].shape[-1] > 1 and succeeded.any():
        steps = steps_of_the_fall(found["trace"])[succeeded]
        paper = published.get("attack_steps")
        line = Metric(float(np.median(steps)), n=len(steps), paper=paper)
        records.append(Record(labels, "attack_steps", line))
    return records, own.x_hat


def label_accuracy(clients: Clients, labels: np.ndarray) -> Metric:
    """The share of labels recovered, compared with naming all classes equally often.

    Where B is no multiple of K such a guess depends on the class that it begins with:
    the baseline is the mean over all.
    """
    accuracy = matching.label_accuracy(clients.labels, labels)
    first, position = np.ogrid[: clients.num_classes, : labels.shape[1]]
    balanced = [
        matching.label_accuracy(clients.labels, np.broadcast_to(guess, labels.shape))
        for guess in (first + position) % clients.num_classes
    ]
    return metric(accuracy, baseline=balanced, perfect=1.0)


def steps_of_the_fall(trace: np.ndarray, share: float = 0.999) -> np.ndarray:
    """Steps until an attack's own loss has fallen by `share` of all it falls, `[V]`.

    Args:
      trace: the loss at each step of each restart, `[V, R, steps + 1]`, of which the
        best counts; where it is not finite it counts as not fallen.
      share: of the fall.
    """
    trace = np.where(np.isfinite(trace), trace, np.inf)
    best = np.argmin(trace[:, :, -1], 1)
    least = np.minimum.accumulate(trace[np.arange(len(best)), best], 1)
    enough = least[:, :1] - share * (least[:, :1] - least[:, -1:])
    return np.argmax(least <= enough, 1)


# The run ------------------------------------------------------------------------------


def measure(run: Run, study: Study) -> report.Page:
    """Attacks every case by every attack through every defense, and judges."""
    load = functools.cache(clients_of.load)
    models: dict[tuple[str, Model, int], Target] = {}
    records, caveats, task = [], list(study.caveats), None
    shown: dict[str, dict[str, np.ndarray]] = {}
    for case in study.cases:
        loaded = load(case.dataset, run.data_dir)
        clients = clients_of.choose(loaded, case.victims, case.batch, run.seed)
        every, draws = [], range(case.networks)
        for draw in draws:
            each = case.dataset, case.model, draw
            if each not in models:
                models[each], hits = sent(run, case, loaded, draw)
                every += [] if hits is None else [hits]
        if every:
            own = {k: v for k, v in case.labels.items() if k != "batch"}
            hits = metric(np.concatenate(every))
            records.append(Record(own, "target_test_accuracy", hits))
        targets = [models[case.dataset, case.model, draw] for draw in draws]
        normalized = targets[0].running_statistics is not None
        whose = {"data": case.dataset, **case.labels}
        if normalized:
            whose["mode"] = "training" if case.train else INFERENCE
        rows = shown.setdefault(words({x: whose[x] for x in study.grid}), {})
        rows["true"] = clients.x
        for name, x in without_update(run, clients).items():
            labels = whose | {"attack": name}
            records += judged(clients, {"x": x}, labels, study.criteria)[0]
            rows.setdefault(words({"": name}), x)
        for attack, defended in cells(study, case, clients, normalized):
            labels = {**whose, **defended.labels, **attack.labels}
            parts = [
                recover(
                    _with_key_of(run, draw),
                    _file(labels) + _of(draw),
                    clients.part(draw, case.networks),
                    attack,
                    target,
                    defended,
                    recipe=dataclasses.replace(
                        case.recipe, train=normalized and case.train
                    ),
                    epochs=case.epochs,
                    chunk=flags.FLAGS.chunk or _CHUNKS[run.preset],
                    null=NULLS[flags.FLAGS.null] or NULLS[attack.null],
                )
                for draw, target in enumerate(targets)
            ]
            found = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
            paper = attack.published.get(case.dataset)
            own, ordered = judged(clients, found, labels, study.criteria, paper)
            records += own
            if defended.shown and "steps" not in labels:
                told = [x for x in (*study.rows, *study.columns) if x not in study.grid]
                rows[words({x: labels[x] for x in told if x in labels})] = ordered
            if lost := int(np.sum(~np.isfinite(found["loss"]))):
                caveats.append(
                    f"{words(labels)}: {lost} of {len(found['loss'])} searches "
                    "diverged; they count, with the images that they started from."
                )
        if study.task is not None:
            task = data.train_test(loaded, test_fraction=0.3, seed=run.seed)
            records += _costs(run, study, study.task, targets[0], task)
    results = Results([*records, *study.more(study, task)])
    return _page(run, study, results, shown, caveats)


def cells(
    study: Study, case: Case, clients: Clients, normalized: bool
) -> Iterator[tuple[Attack, Defended]]:
    """Every attack that a case allows, through every defense."""
    for defended, name in itertools.product(study.defenses, study.attacks):
        attack = study.attacks[name]
        if (
            name in (case.attacks or study.attacks)
            and (not attack.against or defended.labels["defense"] in attack.against)
            and ("statistics" not in attack.knows or (normalized and case.train))
            and ("prior" not in attack.knows or clients.prior is not None)
            and len(getattr(attack.first_guess, "color", ()))
            in (0, 1, clients.x.shape[4])
        ):
            yield attack, defended


def _costs(
    run: Run, study: Study, task: utility.Task, target: Target, images: TrainTest
) -> Iterator[Record]:
    """The accuracy of a task that is learned through each defense."""
    for defended in study.defenses:
        file = f"task-{_file(defended.labels)}"
        defense = defended.make(min(task.batch_size, len(images.train)))
        line = metric(utility.hits(run, file, target, images, defense, task))
        print(f"{file}: {line.value:.3f}", flush=True)
        yield Record(defended.labels, "target_test_accuracy", line)


# The page -----------------------------------------------------------------------------


def _of(draw: int) -> str:
    return f"-network_{draw}" if draw else ""


def _file(labels: Mapping[str, str]) -> str:
    return re.sub(r"[^\w.-]+", "_", "-".join(labels.values()))


def _page(
    run: Run,
    study: Study,
    results: Results,
    shown: Mapping[str, Mapping[str, np.ndarray]],
    caveats: Sequence[str],
) -> report.Page:
    pictures = []
    for about, images in shown.items():
        path = run.figures / f"recovered_{_file({'': about})}.png"
        rows = [(n, x.reshape(-1, *x.shape[2:])[:_SHOWN]) for n, x in images.items()]
        figures.image_grid(rows, path, tile=64)
        caption = (
            f"{about}: the first {len(rows[0][1])} images, none chosen; a batch is put "
            "in the truth's order. Mean image and prior sample need no update."
        )
        pictures.append(report.Picture(path, caption))
    null = flags.FLAGS.null
    told = "" if null == "none" else f" NULL CASE: the updates attacked are {null}."
    whom = dict.fromkeys(
        f"{case.victims} clients, {words({'': case.dataset, **case.labels})}"
        for case in study.cases
    )
    attacks = _attacks(results.filter(metric="psnr"))
    return report.Page(
        title=study.title,
        verdict=_verdict(study, results) + told,
        lead=pictures[0],
        caption=study.caption,
        table=results.filter(steps="", **study.table).pivot(study.rows, study.columns),
        attacked="; ".join(whom) + "." + told,
        knowledge="The model that was sent, how clients train, and each one's update; "
        "beside that what the conditions below say. No image of the client.",
        baseline="the mean of public images (of faces: of other people), alike for "
        "everyone; of labels: as many of each class.",
        n=sum(record.value.n or 0 for record in attacks),
        results=results,
        tables=[realism(study, results)],
        pictures=[
            *pictures[1:],
            *curves.draw(study.curves, _attacks(results), run.figures),
        ],
        differences=study.differences,
        caveats=caveats,
    )


def _attacks(results: Results) -> Results:
    return Results([x for x in results if x.label("attack") not in (MEAN, SAMPLE)])


def _verdict(study: Study, results: Results) -> str:
    """The best attack of all, and the best under the conditions to contrast it with."""
    criterion = next(iter(study.criteria))
    names = {name: "" for x in results for name in x.labels}

    def psnr(labels: Mapping[str, str]) -> Metric:
        return results.value("psnr", **{**names, **labels, "criterion": ""})

    def best(start: str, **conditions: str) -> str:
        known = {
            "metric": "success_rate",
            "criterion": criterion,
            "steps": "",
            "updates": "",
        }
        found = results.filter(**known, **conditions)
        every = [x for x in found if x.value.baseline is not None]
        if not every:
            return ""
        labels, _, success = max(
            every, key=lambda x: (x.value.value, psnr(x.labels).value)
        )
        line = psnr(labels)
        return (
            f"{start} ({words({**labels, 'criterion': ''})}) recovers "
            f"{100 * success.value:.0f} % of {success.n} images {criterion}".rstrip()
            + f", with a PSNR of {line.value:.1f} dB; the mean image, which needs no "
            f"update, has {line.baseline:.1f} dB."
        )

    start = f"Among {words(study.contrast)} the best"
    return f"{best('The best attack')} {best(start, **study.contrast)}".strip()


def realism(study: Study, results: Results) -> report.Table:
    """The conditions that decide how much a result says of real clients."""
    attacks, cases = study.attacks.values(), study.cases

    def every(values: Iterable[Any]) -> str:
        return ", ".join(dict.fromkeys(str(value) for value in values))

    told = every(a.name for a in attacks if "labels" in a.knows)
    threats = (
        f"{letter}, {_THREATS[letter]} ({every(x.name for x in same)})"
        for letter, same in itertools.groupby(
            sorted(attacks, key=lambda a: a.threat), lambda a: a.threat
        )
    )
    lines = {
        "threat model of Carletti et al. (2025)": "; ".join(threats),
        "images of a batch": every(case.batch for case in cases),
        "local steps": every(_steps(case.recipe) for case in cases),
        "batch normalization": every(
            x.label("mode") for x in results if x.label("mode")
        )
        or "none in these networks",
        "age of the model": every(map(_age, cases)),
        "labels": "not told; read from the update where they are needed"
        + (f", but told to {told} of batches above 1" if told else ""),
        "post-processing": every(
            d.labels.get("defense", "none") for d in study.defenses
        ),
    }
    rows = [(name, line.replace("_", " ")) for name, line in lines.items()]
    return report.Table("How close to practice this is", ("condition", "here"), rows)


def _steps(recipe: Recipe) -> str:
    if not recipe.local_steps:
        return "none: each client shares one gradient, in the clear"
    taken = recipe.local_batch or "all"
    return f"{recipe.local_steps} of {taken} images, rate {recipe.learning_rate}"


def _age(case: Case) -> str:
    steps, trained = case.model.steps, case.model.published
    known = "published weights, or " if steps and trained else ""
    return f"{known}{steps:,} steps of training" if steps else "untrained"
