"""Exposure of canaries: secrets put into the training of a language model.

A `Study` says which text and model, how often canaries are inserted, and which privacy
the training may have. Each canary follows a prefix of its own, so that one model serves
many; those inserted 0 times are the null case.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.harness import figures, report, resumable
from experiments.harness import run as harness
from experiments.harness.results import Metric, Record, Results, metric
from experiments.harness.run import Run
from mijax import private_training
from mijax.attacks import exposure
from mijax.core import Target, chain
from mijax.data import text
from mijax.data.text import Text
from mijax.defenses import dp_sgd
from mijax.knowledge import PartialText
from mijax.metrics import exposure as exposures
from mijax.models.causal_conv import CausalConv, losses

_DIGITS = "0123456789"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TEXTS = 256  # held-out records at a time


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      network: from the number of symbols.
      prefix: what stands before a canary's digits; `{}` is its own name.
      digits: of a canary, L.
      characters: of the text, from its start; the same again are held out.
      length: characters of a training record.
      insertions: how often canaries are inserted; 0 is the null case.
      canaries: of each number of insertions but 0.
      never: canaries that are never inserted.
      epochs: after which exposure is measured, increasing.
      sizes: further networks by name, trained with Adam for all epochs.
      batch_size: records a step.
      learning_rate: of Adam.
      noise_multipliers: of DP-SGD; each trains a model of its own for all epochs.
      norm: DP-SGD clips each record's gradient to it.
      private_batch_size: records a step with DP-SGD.
      private_learning_rate: of Adam with DP-SGD.
      drawn: random secrets to which the skew normal is fitted.
      differences: from the paper's set-up.
    """

    title: str
    network: Callable[[int], CausalConv]
    prefix: str = "number of {} is "
    digits: int = 4
    characters: int = 200_000
    length: int = 32
    insertions: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32)
    canaries: int = 6
    never: int = 60
    epochs: tuple[int, ...] = (1, 2, 4, 8, 12)
    sizes: Mapping[str, Callable[[int], CausalConv]] = dataclasses.field(
        default_factory=dict
    )
    batch_size: int = 32
    learning_rate: float = 2e-3
    noise_multipliers: tuple[float, ...] = (0.6, 1.0)
    norm: float = 0.5
    private_batch_size: int = 128
    private_learning_rate: float = 2e-3
    drawn: int = 300
    differences: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Secrets:
    """The text with its canaries.

    Attributes:
      text: with the digits in its alphabet.
      train: records, canaries included, `[N, T]`.
      held_out: records of text alone.
      prefix: of each canary, `[V, T]`.
      secret: each one's digits, `[V, L]`.
      count: how often each is inserted, `[V]`.
    """

    text: Text
    train: np.ndarray
    held_out: np.ndarray
    prefix: np.ndarray
    secret: np.ndarray
    count: np.ndarray


def main(name: str, *, quick: Study, paper: Study) -> Callable[[], None]:
    """Returns a paper's `main`."""
    return harness.main(
        name,
        quick={"canaries": quick},
        paper={"canaries": paper},
        measure=measure,
    )


def measure(run: Run, study: Study) -> report.Page:
    """Inserts, trains, ranks, extracts, and tells."""
    secrets = _secrets(run, study)
    records = []
    plain = [
        _stage(run, study, secrets, "plain", chain(), study.batch_size, epoch)
        for epoch in study.epochs
    ]
    for epoch, found in zip(study.epochs, plain, strict=True):
        labels = {"training": "Adam", "epochs": str(epoch)}
        records += _records(secrets, found, labels)
    for size, network in study.sizes.items():
        name, last = "plain_" + size.replace(" ", "_"), study.epochs[-1]
        sized = dataclasses.replace(study, network=network)
        found = _stage(run, sized, secrets, name, chain(), study.batch_size, last)
        labels = {"training": "Adam", "epochs": str(last), "network": size}
        records += _records(secrets, found, labels)
    for multiplier in study.noise_multipliers:
        size = min(study.private_batch_size, len(secrets.train))
        defense = dp_sgd.dp_sgd(study.norm, multiplier, size, run.seed)
        name, last = f"noise_{multiplier:g}", study.epochs[-1]
        found = _stage(run, study, secrets, name, defense, size, last)
        share = size / len(secrets.train)
        updates = last * (len(secrets.train) // size)
        epsilon = dp_sgd.epsilon(multiplier, share, updates, 1 / len(secrets.train))
        labels = {"training": f"DP-SGD, noise {multiplier:g}", "epochs": str(last)}
        records.append(Record(labels, "epsilon", Metric(epsilon)))
        records += _records(secrets, found, labels)
    return _page(run, study, secrets, Results(records), plain[-1])


# Canaries -----------------------------------------------------------------------------


def _secrets(run: Run, study: Study) -> Secrets:
    found = (
        text.tiny_shakespeare(run.data_dir, also=_DIGITS + _LETTERS)
        if run.data_dir
        else text.python_manual(also=_DIGITS + _LETTERS)
    )
    whole = text.records(found.encode(found.content), study.length)
    number = study.characters // study.length
    if 2 * number > len(whole):
        raise ValueError(
            f"characters is {study.characters:,}: {found.name} has "
            f"{len(found.content):,}, half of them for training."
        )
    rng = np.random.default_rng(run.seed)
    counts = [0] * study.never
    for count in study.insertions:
        counts += [count] * (study.canaries if count else 0)
    digits = rng.integers(0, 10, (len(counts), study.digits))
    names = rng.permutation(len(_LETTERS) ** 3)[: len(counts)]
    prefixes, rows = [], []
    for name, secret, count in zip(names, digits, counts, strict=True):
        own = "".join(_LETTERS[name // 26**i % 26] for i in range(3))
        prefix = found.encode(study.prefix.format(own))
        sent = np.concatenate([prefix, found.encode("".join(map(str, secret)))])
        prefixes.append(text.right_aligned(prefix, study.length))
        rows += [text.right_aligned(sent, study.length)] * count
    symbols = found.encode(_DIGITS)
    return Secrets(
        found,
        np.concatenate([whole[:number], np.array(rows, np.int32)]),
        whole[number : 2 * number],
        np.array(prefixes, np.int32),
        symbols[digits],
        np.array(counts),
    )


# Training and measuring ---------------------------------------------------------------


def _stage(
    run: Run,
    study: Study,
    secrets: Secrets,
    name: str,
    defense: Any,
    batch_size: int,
    epoch: int,
) -> dict[str, np.ndarray]:
    """What is measured after so many epochs of one training."""

    def compute() -> dict[str, Any]:
        module = study.network(len(secrets.text.alphabet) + 1)
        keys = run.keys("init", "fit")
        first = module.init(keys["init"], jnp.zeros((1, study.length)))["params"]
        adam = optax.adam(
            study.learning_rate
            if name.startswith("plain")
            else study.private_learning_rate
        )

        def own_losses(params: Any, batch: Any) -> jax.Array:
            return losses(module, params, batch)

        per_epoch = len(secrets.train) // batch_size
        state = resumable.train(
            keys["fit"],
            private_training.init(first, adam),
            private_training.step(own_losses, adam, defense),
            jnp.asarray(secrets.train),
            name=name,
            folder=run.workdir / "checkpoints" / name,
            batch_size=batch_size,
            steps=epoch * per_epoch,
            chunk=per_epoch,
        )
        return _measured(study, secrets, module, state.params, run.seed)

    return run.once(f"{name}_{epoch}", compute)


def _measured(
    study: Study, secrets: Secrets, module: CausalConv, params: Any, seed: int
) -> dict[str, Any]:
    target = Target.from_linen(module, {"params": params}, (study.length,))
    symbols = jnp.asarray(secrets.text.encode(_DIGITS))
    known = PartialText.of(target, jnp.asarray(secrets.prefix), symbols, study.digits)
    places = secrets.secret[:, :, None] == np.asarray(symbols)
    places = places.argmax(-1)  # [V, L]
    every, _ = jax.jit(exposure.log_perplexities)(known)
    index = places @ 10 ** np.arange(study.digits)[::-1]
    own = np.asarray(every)[np.arange(len(index)), index]
    rng = np.random.default_rng(seed)
    # The approximation sees a few candidates; the canary need not be among them.
    drawn = np.asarray(every)[:, rng.permutation(every.shape[1])[: study.drawn]]
    found = jax.jit(exposure.attack)(jax.random.key(0), known)
    held_out = jax.lax.map(
        lambda rows: losses(module, params, rows[None])[0],
        jnp.asarray(secrets.held_out),
        batch_size=_TEXTS,
    )
    return {
        "exposure": exposures.exact(own, every),
        "approximate": exposures.approximate(own, drawn),
        "extracted": np.all(np.asarray(found.secret) == secrets.secret, 1),
        "exact": found.exact,
        "queries": found.queries,
        "bits": np.asarray(held_out) / np.log(2),
    }


# Telling ------------------------------------------------------------------------------


def _records(
    secrets: Secrets, found: dict[str, np.ndarray], labels: dict[str, str]
) -> list[Record]:
    records = [Record(labels, "bits_per_character", metric(found["bits"]))]
    chance = exposures.NEVER_INSERTED
    for count in np.unique(secrets.count):
        mine = secrets.count == count
        own = {**labels, "insertions": str(count)}
        size = 10 ** secrets.secret.shape[1]
        rows = {
            "exposure": metric(
                found["exposure"][mine], baseline=[chance], perfect=np.log2(size)
            ),
            "approximate_exposure": metric(found["approximate"][mine]),
            "success_rate": metric(
                found["extracted"][mine].astype(float), baseline=[1 / size], perfect=1.0
            ),
        }
        records += [Record(own, name, value) for name, value in rows.items()]
    return records


def _page(
    run: Run,
    study: Study,
    secrets: Secrets,
    results: Results,
    last: dict[str, np.ndarray],
) -> report.Page:
    counts = [str(n) for n in np.unique(secrets.count)]
    trainings = list(
        dict.fromkeys(
            r.labels["training"] for r in results.filter(metric="exposure", network="")
        )
    )
    epochs = str(study.epochs[-1])

    def line(name: str, training: str, epoch: str, size: str = "") -> np.ndarray:
        own = {"training": training, "epochs": epoch, "network": size}
        values = [results.value(name, **own, insertions=count) for count in counts]
        return np.array([(v.value, v.low, v.high) for v in values], float)

    series = {name: line("exposure", name, epochs) for name in trainings}
    x = np.array(counts, float)
    lead = run.figures / "by_insertions.png"
    axes = {"xlabel": "insertions of a canary", "ylabel": "exposure, bits"}
    chance = exposures.NEVER_INSERTED
    figures.lines(
        x,
        series,
        lead,
        log_x=True,
        baseline=chance,
        baseline_label="never inserted, expected",
        **axes,
    )
    epochs_path = run.figures / "by_epochs.png"
    figures.lines(
        x,
        {f"{e} epochs": line("exposure", "Adam", str(e)) for e in study.epochs},
        epochs_path,
        log_x=True,
        baseline=chance,
        baseline_label="never inserted, expected",
        **axes,
    )
    pictures = [report.Picture(epochs_path, "Exposure by epochs, trained with Adam.")]
    if study.sizes:
        path = run.figures / "by_size.png"
        sized = {size: line("exposure", "Adam", epochs, size) for size in study.sizes}
        figures.lines(
            x,
            {"the study's": series["Adam"], **sized},
            path,
            log_x=True,
            baseline=chance,
            baseline_label="never inserted, expected",
            **axes,
        )
        pictures.append(report.Picture(path, "Exposure by the size of the network."))
    most, never = series["Adam"][-1], series["Adam"][0]
    private = {
        name: results.value("epsilon", training=name, epochs=epochs).value
        for name in trainings
        if name != "Adam"
    }
    verdict = (
        f"A canary inserted {counts[-1]} times has an exposure of {most[0]:.1f} of "
        f"{np.log2(10**study.digits):.1f} bits after {epochs} epochs; one never "
        f"inserted {never[0]:.2f} [{never[1]:.2f}, {never[2]:.2f}], where "
        f"{chance:.2f} are expected. "
    )
    if private:
        name = max(private, key=lambda training: private[training])
        verdict += (
            f"Trained with DP-SGD of epsilon {private[name]:.1f}, which is of one "
            f"record, a canary inserted {counts[1]} times has {series[name][1][0]:.1f} "
            f"and one inserted {counts[-1]} times {series[name][-1][0]:.1f}."
        )
    shown = results.filter(
        epochs=epochs, metric=("exposure", "success_rate"), network=""
    )
    return report.Page(
        title=study.title,
        verdict=verdict,
        lead=report.Picture(lead, f"Exposure after {epochs} epochs, by training."),
        caption=f"After {epochs} epochs",
        table=shown.pivot(rows=("training", "insertions"), columns=("metric",)),
        attacked=f"A language model of {secrets.text.name}, trained on "
        f"{len(secrets.train):,} records of up to {study.length} characters.",
        knowledge="Probabilities of the next character, and each canary's prefix; "
        "not its digits.",
        baseline="exposure: log2(e), a uniform rank; success_rate: a guess.",
        n=len(secrets.count),
        results=results,
        pictures=pictures,
        differences=study.differences,
        caveats=(
            "Epsilon is one record's: a canary inserted n times is n records. It is "
            "computed for batches drawn by Poisson sampling; ours are of shuffled "
            "epochs.",
            f"The search found {int(last['exact'].sum())} of {len(secrets.count)} "
            "likeliest secrets with proof, asking the model about "
            f"{int(last['queries']):,} texts; enumeration asks "
            f"{len(secrets.count) * (10**study.digits - 1) // 9:,}.",
        ),
    )
