"""Which words are in a client's batch: the rows of an embedding that its update moves.

A `Study` says how reviews are classified, and in which `Setting`s updates are seen. A
review is said to be in the batch by the share of its words that are there. The baseline
is the same with the words of another client's batch. Places that a person checked in at
are words too, and the person's record is a review.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import figures, report
from experiments.harness import run as harness
from experiments.harness.results import Metric, Record, Results, metric
from experiments.harness.run import Run
from experiments.studies import federations
from mijax.attacks.federated.feature_leakage import touched_rows
from mijax.core import Defense, Prediction, Target
from mijax.data import reviews
from mijax.data.tables import location
from mijax.federation import Clients, Federation, Recipe, share, simulate
from mijax.metrics import attributes

_share = jax.jit(share)
_CANDIDATES = 100  # reviews that are asked about, a batch


@dataclasses.dataclass(frozen=True)
class Setting:
    """How updates are made and seen.

    Attributes:
      recipe: of the clients.
      defense: of their updates.
      level: differential privacy of the clients, in the defense's place.
      summed: how many clients' updates are seen as one, as by secure aggregation.
    """

    recipe: Recipe = Recipe()
    defense: Defense = Defense()
    level: federations.ClientLevel | None = None
    summed: int = 1


Load = Callable[[Run], reviews.Reviews]


def imdb(*, length: int, vocabulary: int) -> Load:
    """IMDB's reviews; see `reviews.imdb`."""

    def load(run: Run) -> reviews.Reviews:
        return reviews.imdb(run.data_dir, length=length, vocabulary=vocabulary)

    return load


def places(run: Run) -> reviews.Reviews:
    """The places of each person of Location, and the person's cluster."""
    table = location.load(run.data_dir)
    names = tuple(name for name in table.columns if name.startswith("place_"))
    visited = np.stack([table.columns[name] for name in names], 1)
    words = np.zeros((len(visited), int(visited.sum(1).max())), np.int32)
    for row, own in zip(words, visited, strict=True):
        there = np.flatnonzero(own) + 1
        row[: len(there)] = there
    return reviews.Reviews(table.name, words, table.columns["cluster"], names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      load: reads the reviews.
      what: the reviews and their words, in words.
      width: of the embedding.
      batches: sizes of the batches, the first in the table of settings.
      victims: batches of each.
      settings: by name; the first is the plain one.
      rate: of learning in the training that tells the task's accuracy.
      rounds: of that training, of 10 clients.
      differences: from the paper's set-up.
    """

    title: str
    load: Load
    what: tuple[str, str] = ("reviews", "words")
    width: int
    batches: Sequence[int]
    victims: int
    settings: Mapping[str, Setting]
    rate: float
    rounds: int
    differences: tuple[str, ...] = ()


def main(
    name: str, *, quick: Mapping[str, Study], paper: Mapping[str, Study]
) -> Callable[[], None]:
    """Returns a paper's `main`; its studies are by their kind."""
    return harness.main(
        name,
        quick=quick,
        paper=paper,
        measure=measure,
    )


def bag(weights: Any, words: jax.Array) -> Prediction:
    """A linear classifier of the mean embedding; word 0 pads."""
    numbers = words.astype(jnp.int32)
    there = (numbers > 0)[..., None]
    total = jnp.sum(weights["embedding"][numbers] * there, 1)
    mean = total / jnp.maximum(jnp.sum(there, 1), 1)
    return Prediction(mean @ weights["kernel"] + weights["bias"][None], mean)


def measure(run: Run, study: Study) -> report.Page:
    """Reads updates of each setting and size of batch, and tells."""
    loaded = study.load(run)
    keys = run.keys("model", "share", "train")
    shape = len(loaded.vocabulary) + 1, study.width
    classes = int(loaded.labels.max()) + 1
    first_row = jnp.linspace(-0.1, 0.1, classes)  # At 0 no word would have a gradient.
    weights = {
        "embedding": jax.random.normal(keys["model"], shape),
        "kernel": jnp.zeros((study.width, classes)).at[0].set(first_row),
        "bias": jnp.zeros(classes),
    }
    target = Target.from_function(bag, weights, loaded.words.shape[1:])
    records = []
    first = next(iter(study.settings))
    cases = [(name, study.batches[0]) for name in study.settings]
    cases += [(first, size) for size in study.batches[1:]]
    for name, size in cases:
        own = {"setting": name, "batch": str(size)}
        arrays = run.once(
            f"{name}_{size}".replace(" ", "_"),
            lambda name=name, size=size: _read(
                study, loaded, target, keys["share"], study.settings[name], size
            ),
        )
        right, said = arrays["right"], arrays["said"]
        there = np.maximum(arrays["there"], 1)
        records += [
            Record(own, "word_recall", metric(right / there)),
            Record(own, "word_precision", metric(right / np.maximum(said, 1))),
            Record(own, "membership_auc", _auc(arrays)),
        ]
    for name, setting in study.settings.items():
        hits = run.once(
            f"training_{name}".replace(" ", "_"),
            lambda setting=setting: {
                "hits": _trained(study, loaded, target, keys["train"], setting)
            },
        )
        own = {"setting": name, "batch": str(study.batches[0])}
        records.append(Record(own, "target_test_accuracy", metric(hits["hits"])))
    return _page(run, study, loaded, Results(records))


def _read(
    study: Study,
    loaded: reviews.Reviews,
    target: Target,
    key: jax.Array,
    setting: Setting,
    size: int,
) -> dict[str, Any]:
    """Words that are there, said and rightly said; and scores of candidates."""
    rng = np.random.default_rng(0)
    batch = size * setting.summed
    found: dict[str, list[Any]] = {
        name: [] for name in ("there", "said", "right", "score", "baseline", "truth")
    }
    before = np.zeros(len(loaded.vocabulary) + 1, bool)
    for victim in range(study.victims + 1):
        order = rng.permutation(len(loaded.words))
        rows, others = order[:batch], order[batch:]
        shape = setting.summed, size
        shared = _share(
            jax.random.fold_in(key, victim),
            setting.recipe,
            target,
            jnp.asarray(loaded.words[rows], jnp.float32).reshape(*shape, -1),
            jnp.asarray(loaded.labels[rows]).reshape(shape),
            setting.level.defense if setting.level else setting.defense,
        )
        said = np.array(touched_rows(jnp.sum(shared.change["embedding"], 0)))
        there = np.isin(np.arange(len(said)), loaded.words[rows])
        said[0] = there[0] = False
        number = min(batch, _CANDIDATES // 2)
        asked = np.concatenate([rng.choice(rows, number, False), others[:number]])
        if victim:  # The first is but the baseline of the second.
            found["there"].append(there.sum())
            found["said"].append(said.sum())
            found["right"].append((there & said).sum())
            found["score"].append(_share_of_words(loaded.words[asked], said))
            found["baseline"].append(_share_of_words(loaded.words[asked], before))
            found["truth"].append(np.arange(2 * number) < number)
        before = said
    return {name: np.stack(values).astype(float) for name, values in found.items()}


def _share_of_words(words: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Of each review, how much of its different words is among those said."""
    different = [np.unique(row[row > 0]) for row in words]
    return np.array([said[each].mean() if len(each) else 0.0 for each in different])


def _auc(arrays: Mapping[str, np.ndarray]) -> Metric:
    def of(name: str) -> list[float]:
        return [
            attributes.macro_auc(np.stack([1 - score, score], 1), truth.astype(int))
            for score, truth in zip(arrays[name], arrays["truth"], strict=True)
        ]

    return metric(of("score"), baseline=[float(np.mean(of("baseline")))], perfect=1.0)


def _trained(
    study: Study,
    loaded: reviews.Reviews,
    target: Target,
    key: jax.Array,
    setting: Setting,
) -> np.ndarray:
    """Whether the model after a training of 10 clients is right, held-out reviews."""
    order = np.random.default_rng(1).permutation(len(loaded.words))
    test, rest = order[:1000], order[1000:]
    x, labels = loaded.words.astype(np.float32), loaded.labels
    clients = Clients.of([(x[part], labels[part]) for part in np.array_split(rest, 10)])
    recipe = dataclasses.replace(setting.recipe, learning_rate=study.rate)
    begun = Federation.of(
        recipe,
        target,
        clients,
        batch_size=study.batches[0],
        defense=setting.level.defense if setting.level else setting.defense,
    )
    run = jax.jit(lambda key, begun: simulate(key, begun, rounds=study.rounds)[0])
    return federations.hits(run(key, begun).target, x[test], labels[test])


def _page(
    run: Run, study: Study, loaded: reviews.Reviews, results: Results
) -> report.Page:
    (texts, words), number = study.what, len(loaded.vocabulary)
    first, size = next(iter(study.settings)), str(study.batches[0])
    path = run.figures / "membership.png"
    aucs = [
        results.value("membership_auc", setting=first, batch=str(each))
        for each in study.batches
    ]
    figures.bars(
        [f"batch of {each}" for each in study.batches],
        [auc.value for auc in aucs],
        path,
        low=[0.0 if auc.low is None else auc.low for auc in aucs],
        high=[1.0 if auc.high is None else auc.high for auc in aucs],
        baseline=0.5,
        xlabel=f"AUC of telling {texts} of the batch from others",
    )
    recall = results.value("word_recall", setting=first, batch=size)
    precision = results.value("word_precision", setting=first, batch=size)
    return report.Page(
        title=study.title,
        verdict=(
            f"The rows of the embedding that an update of {size} {texts} changes name "
            f"the {words} of the batch with a precision of {precision.value:.3f} and a "
            f"recall of {recall.value:.3f}. By them, {texts} of the batch are told "
            f"from others with an AUC of {aucs[0].value:.3f}; by the {words} of "
            f"another batch, {aucs[0].baseline:.3f}."
        ),
        lead=report.Picture(
            path,
            f"{texts.capitalize()} of the batch told from others by the share of their "
            f"{words}.",
        ),
        caption="By setting and size of the batch",
        table=results.filter(
            metric=(
                "word_precision",
                "word_recall",
                "membership_auc",
                "target_test_accuracy",
            )
        ).pivot(rows=("setting", "batch"), columns=("metric",)),
        attacked=f"A linear classifier of the mean of {study.width} features of each "
        f"of {number:,} {words}, {loaded.name}, {loaded.words.shape[1]} at most.",
        knowledge=f"One update, and the list of {words}.",
        baseline=f"of membership: the {words} of another client's batch of the same "
        "size.",
        n=study.victims,
        results=results,
        differences=study.differences,
    )
