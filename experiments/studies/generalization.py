"""Generalization against inversion: one family of targets, five adversaries.

A `Study` says which classifiers there are: one in the middle, and those that differ
from it in one `Setting`. Each is attacked by who wants to know of members, of a pixel
of theirs, of a class, of inserted canaries, and of the one record that is not known;
and it is asked how the success of each goes with the generalization gap.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.harness import figures, programs, report
from experiments.harness import run as harness
from experiments.harness.results import Metric, Record, Results
from experiments.harness.run import Run
from mijax import data, training
from mijax.attacks import approximate_inference, informed_adversary, mi_face
from mijax.core import Target
from mijax.data import Dataset
from mijax.knowledge import AllButOne, Candidates, Oracle, PartialRecord, WhiteBox
from mijax.metrics import exposure, intervals
from mijax.models.mlp import MLP

_CROP, _SIDE = 20, 10  # of a digit: its middle, and the pixels that are left of it
_ATTACKS = {
    "membership": "membership: advantage",
    "attribute": "a pixel of a record: advantage",
    "class": "class by MI-Face: recognized",
    "canary": "canary: exposure, bits",
    "record": "unknown record: error removed",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A target of the family.

    Attributes:
      width: of its hidden layer.
      steps: of its training, full batches.
      decay: of its weights, a share of each at each step, times the learning rate.
      known: training records, but for one and the canaries.
    """

    width: int = 32
    steps: int = 100
    decay: float = 0.0
    known: int = 100


@dataclasses.dataclass(frozen=True)
class Study:
    """The experiment.

    Attributes:
      title: of the page.
      dataset: of `mijax.data.load`, where `--dataset` is not given.
      base: the target in the middle.
      axes: a field of `Setting` to the values it has instead.
      repeats: targets of each setting, of other records and initial weights.
      learning_rate: of gradient descent with momentum .9.
      canaries: noise with random labels in the training, each once.
      candidates: that a canary is ranked among, itself included.
      pixels: that are guessed of each record, one at a time.
      tested: records that no target was trained with.
      victims: released models, each with another last record.
      shadows: that the informed adversary trains for a target.
      informed: hyper-parameters of the informed adversary.
      inversion: hyper-parameters of the class's recovery.
      judge_steps: of the training of the network that recognizes classes.
      differences: from the literature.
    """

    title: str
    dataset: str
    base: Setting = Setting()
    axes: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    repeats: int = 3
    learning_rate: float = 0.1
    canaries: int = 16
    candidates: int = 1024
    pixels: int = 20
    tested: int = 1000
    victims: int = 40
    shadows: int = 400
    informed: informed_adversary.Config = informed_adversary.Config(
        widths=(256,), steps=800
    )
    inversion: mi_face.Config = mi_face.Config(steps=200, learning_rate=1.0)
    judge_steps: int = 400
    differences: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[tuple[str, str], Setting]:
        """Every target by what differs from the middle, and how."""
        found = {("none", "0"): self.base}
        for axis, values in self.axes.items():
            for value in values:
                changed = dataclasses.replace(self.base, **{axis: value})
                found[axis, f"{value:g}"] = changed
        return found


@dataclasses.dataclass(frozen=True)
class Records:
    """Binary records and their classes, `(x [n, D], label [n])` each.

    Attributes:
      known: in the training of all of a target's models.
      canary: noise with random labels, in it too.
      victims: the last record of each released model.
      shadows: the adversary's own.
      test: for accuracy, and as non-members.
      noise: what canaries are ranked among, `[R, D]`.
    """

    known: Any
    canary: Any
    victims: Any
    shadows: Any
    test: Any
    noise: np.ndarray


def main(name: str, *, quick: Study, paper: Study) -> Callable[[], None]:
    """Returns the experiment's `main`."""
    return harness.main(
        name,
        quick={"family": quick},
        paper={"family": paper},
        measure=measure,
    )


def measure(run: Run, study: Study) -> report.Page:
    """Trains and attacks every target, and ranks gaps against successes."""
    loaded = data.load(run.dataset or study.dataset, data_dir=run.data_dir)
    bits = binary(loaded.images)
    judge = _judge(run, study, loaded, bits)
    rows = []
    for (axis, value), setting in study.settings.items():
        attack = programs.program(_attacker(study, setting, len(loaded.names)))
        for repeat in range(study.repeats):

            def compute(
                setting: Setting = setting,
                repeat: int = repeat,
                attack: programs.Program = attack,
            ) -> dict[str, Any]:
                records = _records(study, setting, loaded, bits, run.seed, repeat)
                key = jax.random.fold_in(run.key, repeat)
                found, seconds = attack(key, records_tree(records))
                return {**found, **seconds}

            found = run.once(f"{axis}_{value}_{repeat}", compute)
            rows.append(({"axis": axis, "level": value}, repeat, _told(found, judge)))
    return _page(run, study, loaded, rows)


def binary(images: np.ndarray) -> np.ndarray:
    """The middle of digits `[N, H, W, 1]` in few pixels of 0 or 1, `[N, 100]`.

    Raises:
      ValueError: if the images are smaller than what is cut out.
    """
    high, wide = images.shape[1:3]
    if min(high, wide) < _CROP:
        raise ValueError(
            f"Images are {high} x {wide}: {_CROP} x {_CROP} pixels of each are needed."
        )
    top, left = (high - _CROP) // 2, (wide - _CROP) // 2
    middle = images[:, top : top + _CROP, left : left + _CROP, 0]
    size = _CROP // _SIDE
    small = middle.reshape(len(images), _SIDE, size, _SIDE, size).mean((2, 4))
    return (small > 0.5).reshape(len(images), -1).astype(np.float32)


def records_tree(records: Records) -> dict[str, Any]:
    """The records as arguments of a program."""
    return {
        field.name: getattr(records, field.name)
        for field in dataclasses.fields(records)
    }


def _records(
    study: Study,
    setting: Setting,
    loaded: Dataset,
    bits: np.ndarray,
    seed: int,
    repeat: int,
) -> Records:
    half = len(bits) // 2  # The other half trains the judge.
    rng = np.random.default_rng([seed, repeat])
    order = rng.permutation(half)
    cut = np.cumsum([setting.known, study.victims, study.tested])
    if cut[-1] + study.shadows > half:
        raise ValueError(
            f"{loaded.name} has {len(bits):,} images, half of them for the judge, and "
            f"{cut[-1] + study.shadows:,} are needed: know fewer, or train fewer "
            "shadow models."
        )
    known, victims, test, rest = (
        (bits[rows], loaded.labels[rows]) for rows in np.split(order, cut)
    )
    shadows = jax.tree.map(lambda leaf: leaf[: study.shadows], rest)
    density = bits[:half].mean()
    number = study.canaries + study.candidates - 1
    noise = (rng.random((number, bits.shape[1])) < density).astype(np.float32)
    labels = rng.integers(0, len(loaded.names), study.canaries).astype(np.int32)
    canary = noise[: study.canaries], labels
    return Records(known, canary, victims, shadows, test, noise[study.canaries :])


def _judge(
    run: Run, study: Study, loaded: Dataset, bits: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """The classes that a network of other records sees in images `[n, D]`."""
    module = MLP(len(loaded.names), (128,), nn.relu)
    half = len(bits) // 2

    def compute() -> dict[str, Any]:
        adam = optax.adam(1e-3)
        keys = run.keys("judge", "fit")
        learner = training.train_state(keys["judge"], module, bits.shape[1:], adam)
        step = training.supervised(module, adam)
        images = jnp.asarray(bits[half:]), jnp.asarray(loaded.labels[half:])
        fit = jax.jit(
            lambda key, state, images: training.fit(
                key, state, step, images, batch_size=64, steps=study.judge_steps
            )[0]
        )
        state = fit(keys["fit"], learner, images)
        leaves = jax.tree.leaves(state.variables)
        return {f"leaf_{i}": leaf for i, leaf in enumerate(leaves)}

    found = run.once("judge", compute)
    shape = jax.eval_shape(
        lambda: module.init(jax.random.key(0), jnp.zeros((1, bits.shape[1])))
    )
    variables = jax.tree.unflatten(
        jax.tree.structure(shape), [found[f"leaf_{i}"] for i in range(len(found))]
    )

    def recognize(x: np.ndarray) -> np.ndarray:
        prediction: Any = module.apply(variables, jnp.asarray(x))
        return np.asarray(prediction.logits.argmax(1))

    return recognize


def _attacker(study: Study, setting: Setting, classes: int) -> Callable[..., Any]:
    """All that is done to a setting's targets, as one function of key and records."""
    module = MLP(classes, (setting.width,), nn.relu)
    optimizer = optax.chain(
        optax.add_decayed_weights(setting.decay), optax.sgd(study.learning_rate, 0.9)
    )

    losses = training.record_losses(module)

    def attack(key: jax.Array, records: dict[str, Any]) -> dict[str, Any]:
        known, victims, test = (records[k] for k in ("known", "victims", "test"))
        keys = jax.random.split(key, 4)
        size = known[0].shape[1]
        initial = module.init(keys[0], jnp.zeros((1, size)))["params"]
        learn = informed_adversary.trained_with(
            losses, optimizer, initial, setting.steps
        )
        shared = jax.tree.map(lambda *x: jnp.concatenate(x), known, records["canary"])
        last = jax.tree.map(lambda *x: jnp.concatenate(x), victims, records["shadows"])
        weights = informed_adversary.shadows(learn, shared, last)
        released = jax.tree.map(lambda leaf: leaf[: study.victims], weights)
        shadows = jax.tree.map(lambda leaf: leaf[study.victims :], weights)
        params = jax.tree.map(lambda leaf: leaf[0], released)
        target = Target.from_linen(module, {"params": params}, (size,))

        def right(rows: Any) -> jax.Array:
            return jnp.argmax(target.predict(rows[0]).logits, 1) == rows[1]

        def guessed(rows: Any) -> jax.Array:
            """Whether each of some pixels is guessed of each record, `[N, pixels]`."""

            def one(column: jax.Array) -> jax.Array:
                candidates = Candidates(
                    column[None], jnp.array([[0.0], [1.0]]), jnp.log(jnp.full(2, 0.5))
                )
                asked = PartialRecord(
                    Oracle.of(target), rows[0], candidates, outcome=rows[1]
                )
                found = approximate_inference.attack(keys[1], asked)
                return found.guess == rows[0][:, column]

            # Pixels at the rim are dark in all digits.
            spread = jnp.std(jnp.concatenate([known[0], test[0]]), 0)
            return jax.lax.map(one, jnp.argsort(-spread)[: study.pixels]).T

        box = WhiteBox(target, jnp.arange(classes))
        found = informed_adversary.attack(
            keys[2],
            AllButOne(released, shadows, records["shadows"][0]),
            study.informed,
        )
        canary, noise = records["canary"], records["noise"]
        labels = jnp.repeat(canary[1], len(noise))
        rivals = jnp.tile(noise, (study.canaries, 1))
        others = losses(params, (rivals, labels)).reshape(study.canaries, -1)
        return {
            "right_known": right(known),
            "right_test": right(test),
            "loss_known": losses(params, known),
            "loss_test": losses(params, test),
            "pixel_known": guessed(known),
            "pixel_test": guessed(test),
            "recovered": mi_face.attack(keys[3], box, study.inversion).x,
            "canary": losses(params, canary),
            "others": others,
            "error": jnp.mean((found.x - victims[0]) ** 2, 1),
            "guess": jnp.mean((_class_means(records, classes) - victims[0]) ** 2, 1),
        }

    return attack


def _class_means(records: dict[str, Any], classes: int) -> jax.Array:
    """For each victim the mean of its class, the best guess without the weights."""
    x, labels = records["shadows"]
    members = jax.nn.one_hot(labels, classes).T
    means = members @ x / jnp.maximum(members.sum(1, keepdims=True), 1.0)
    return means[records["victims"][1]]


def _told(
    found: Mapping[str, np.ndarray], judge: Callable[[np.ndarray], np.ndarray]
) -> dict[str, float]:
    """A number for each adversary, and the gap; 0 where the target tells nothing."""
    threshold = found["loss_known"].mean()  # Yeom's: the error that members have.
    caught, accused = (
        (found[f"loss_{who}"] <= threshold).mean() for who in ("known", "test")
    )
    recovered = found["recovered"]
    every = np.concatenate([found["canary"][:, None], found["others"]], 1)
    return {
        "gap": found["right_known"].mean() - found["right_test"].mean(),
        "accuracy": found["right_test"].mean(),
        "membership": caught - accused,
        "attribute": found["pixel_known"].mean() - found["pixel_test"].mean(),
        "class": (judge(recovered) == np.arange(len(recovered))).mean(),
        "canary": exposure.exact(found["canary"], every).mean(),
        "record": 1 - found["error"].mean() / found["guess"].mean(),
    }


def _ranked(gap: list[float], success: list[float], groups: list[str]) -> Metric | None:
    """The rank correlation; None where there are no ranks."""
    if len(set(groups)) < 3 or min(np.ptp(gap), np.ptp(success)) == 0:
        return None
    return Metric(*intervals.rank_correlation(gap, success, clusters=groups))


def _said(line: Metric) -> str:
    if line.low is None:
        return "the same for all targets"
    return f"rank correlation {line.value:.2f} [{line.low:.2f}, {line.high:.2f}]"


def _page(run: Run, study: Study, loaded: Dataset, rows: list[Any]) -> report.Page:
    records = []
    names = {"gap": "generalization_gap", "accuracy": "target_test_accuracy"}
    for own, repeat, told in rows:
        labels = {**own, "repeat": str(repeat)}
        records += [Record(labels, names[k], Metric(float(told[k]))) for k in names]
        records += [
            Record({**labels, "attack": k}, "disclosed", Metric(float(told[k])))
            for k in _ATTACKS
        ]
    groups = [f"{own['axis']} {own['level']}" for own, _, _ in rows]
    gap = [told["gap"] for _, _, told in rows]
    ranks = {}
    for name in _ATTACKS:
        for axis in ("", *study.axes):
            chosen = [
                i
                for i, (own, _, _) in enumerate(rows)
                if not axis or own["axis"] in (axis, "none")
            ]
            line = _ranked(
                [gap[i] for i in chosen],
                [rows[i][2][name] for i in chosen],
                [groups[i] for i in chosen],
            )
            if line is not None:
                own = {"attack": name, "axis": axis or "all"}
                records.append(Record(own, "rank_correlation", line))
            if not axis:
                ranks[name] = line or Metric(0.0)
    results = Results(records)
    points = {
        title: {
            axis: np.array(
                [
                    (told["gap"], told[name])
                    for own, _, told in rows
                    if own["axis"] == axis
                ]
            )
            for axis in ("none", *study.axes)
        }
        for name, title in _ATTACKS.items()
    }
    titled = {
        f"{title}\n{_said(ranks[name])}": points[title]
        for name, title in _ATTACKS.items()
    }
    path = run.figures / "gap_against_success.png"
    figures.panels(titled, path, xlabel="generalization gap")
    rising = [name for name in _ATTACKS if (ranks[name].low or 0) > 0]
    falling = [name for name in _ATTACKS if (ranks[name].high or 0) < 0]
    neither = [name for name in _ATTACKS if name not in rising + falling]
    verdict = (
        f"Over {len(rows)} classifiers of {loaded.name} with generalization gaps of "
        f"{min(gap):.2f} to {max(gap):.2f}, what rises with the gap: "
        f"{', '.join(rising) or 'nothing'}; what falls: "
        f"{', '.join(falling) or 'nothing'}; what an interval around 0 leaves open: "
        f"{', '.join(neither) or 'nothing'}."
    )
    shown = results.filter(metric="rank_correlation")
    return report.Page(
        title=study.title,
        verdict=verdict,
        lead=report.Picture(
            path,
            "A point a target, a color for what differs from the target in the middle; "
            "Spearman's rank correlation with the interval of a bootstrap over "
            "settings.",
        ),
        caption="Rank correlation of the generalization gap and what is disclosed: "
        "over all targets, and over those that differ in one thing",
        table=shown.pivot(rows=("attack",), columns=("axis",)),
        attacked=f"Perceptrons of one hidden layer, of {loaded.name} in {_SIDE} x "
        f"{_SIDE} pixels of 0 or 1, full batches.",
        knowledge="Membership, pixels and canaries: confidences. A class: the weights. "
        "The unknown record: the weights, all other records and the initial weights.",
        baseline="membership and pixels: the same adversary on new records; a class: "
        f"{1 / len(loaded.names):.2f} by chance; canaries: "
        f"{exposure.NEVER_INSERTED:.2f} bits of one that was never inserted; the "
        "unknown record: the mean of its class.",
        n=len(rows),
        results=results,
        differences=study.differences,
        caveats=(
            "Repeats share no records, but settings of one repeat do.",
            "What changes the gap changes other things too: a correlation over a "
            "family is no cause.",
        ),
    )
