"""Split networks: what the features that cross from one half to the other reveal.

A paper is a `Study`: a network, the layers after which it is cut, and adversaries. Each
sees the features of the same test images. Weights of rMLE are tuned by the adversary on
auxiliary images, never on the victims.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import figures, programs, report
from experiments.harness.results import Record, Results, metric
from experiments.harness.run import Run
from experiments.studies.classifiers import Classifier, errors, file_name
from mijax import attacks, data
from mijax.attacks import query_free, regularized_mle
from mijax.core import Target
from mijax.data import Dataset
from mijax.knowledge import Half, SplitQueries, SplitQueryFree, SplitWhiteBox
from mijax.metrics import images as distances
from mijax.models import cut
from mijax.models.cut import CutNetwork

inverse_network = attacks.split_inverse_network
BASELINE, NULL = "mean image", "null: another image's features"


class World(NamedTuple):
    """What there is at one cut.

    Attributes:
      layer: after which the network is cut.
      first: its first half.
      rest: its second half.
      module: the network.
      same: the images that the target was trained on.
      others: other images of the same distribution.
      features: of the victims, `[V, ...]`.
      search: of rMLE at this layer, tuned on `others`.
    """

    layer: str
    first: Half
    rest: Half
    module: CutNetwork
    same: Dataset
    others: Dataset
    features: jax.Array
    search: regularized_mle.Config


# `(key, world) -> (program, arguments)`: what finds the victims' images.
Adversary = Callable[[jax.Array, World], tuple[Any, tuple[Any, ...]]]


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper's experiment.

    Attributes:
      title: of the page.
      dataset: of `mijax.data.load`, where `--dataset` is not given.
      target: the classifier that is split, whose network is a `CutNetwork`.
      searches: rMLE by the layer after which the network is cut.
      adversaries: by name; "white box" is the one whose null case is shown.
      shown: the layer in the picture.
      weights: of rMLE's total variation, among which the adversary chooses.
      victims: test images that are attacked.
      images: of the data set, drawn by the seed; None for all.
      test_fraction: of the images; victims are drawn from them, and the rest are
        `others`.
      differences: from the paper's set-up.
      published: `(adversary, layer, metric)` to the paper's number.
    """

    title: str
    dataset: str
    target: Classifier
    searches: Mapping[str, regularized_mle.Config]
    adversaries: Mapping[str, Adversary]
    shown: str
    weights: tuple[float, ...] = (0.0, 0.01, 0.1, 1.0)
    victims: int = 16
    images: int | None = None
    test_fraction: float = 0.4
    differences: tuple[str, ...] = ()
    published: Mapping[tuple[str, str, str], float] = dataclasses.field(
        default_factory=dict
    )


# Adversaries --------------------------------------------------------------------------


def white_box(key: jax.Array, world: World) -> tuple[Any, tuple[Any, ...]]:
    """Holds the first half."""
    known = SplitWhiteBox(world.features, world.same.images.shape[1:], world.first)
    return regularized_mle.attack, (key, known, world.search)


def queries(
    images: Callable[[jax.Array, World], Any],
    decoders: Mapping[str, inverse_network.Config],
) -> Adversary:
    """Asks the first half about images of its own, and trains a decoder by layer."""

    def make(key: jax.Array, world: World) -> tuple[Any, tuple[Any, ...]]:
        public = jnp.asarray(images(jax.random.fold_in(key, 1), world))
        known = SplitQueries.of(world.features, public.shape[1:], world.first, public)
        return inverse_network.attack, (key, known, decoders[world.layer])

    return make


def same_set(key: jax.Array, world: World) -> Any:
    """The target's own training images."""
    del key
    return world.same.images


def same_distribution(key: jax.Array, world: World) -> Any:
    """Other images of the distribution."""
    del key
    return world.others.images


def gaussian(key: jax.Array, world: World) -> Any:
    """As many images of noise, N(0, 1) in the paper's units: [0, 1] is its [-1, 1]."""
    return 0.5 + 0.5 * jax.random.normal(key, world.others.images.shape)


def no_query(
    images: Callable[[World], Dataset],
    network: Callable[[World], Any],
    config: query_free.Config = query_free.Config(),
) -> Adversary:
    """Owns the second half and labeled images, and trains a shadow of the first."""

    def make(key: jax.Array, world: World) -> tuple[Any, tuple[Any, ...]]:
        own, module = images(world), network(world)
        known = SplitQueryFree(
            world.features,
            own.images.shape[1:],
            world.rest,
            jnp.asarray(own.images),
            jnp.asarray(own.labels),
        )
        chosen = dataclasses.replace(
            config, network=lambda shape: module, inversion=world.search
        )
        return query_free.attack, (key, known, chosen)

    return make


def same_network(world: World) -> cut.Half:
    """The first half's own architecture."""
    stop = world.module.names.index(world.layer) + 1
    return cut.Half(world.module.layers[:stop])


# The run ------------------------------------------------------------------------------


def measure(run: Run, study: Study) -> report.Page:
    """Trains the target, cuts it, attacks at each layer, and tells."""
    loaded = data.load(run.dataset or study.dataset, data_dir=run.data_dir)
    if study.images is not None:
        rows = np.random.default_rng(run.seed).permutation(len(loaded))
        loaded = _some(loaded, rows[: study.images])
    split = data.train_test(loaded, test_fraction=study.test_fraction, seed=run.seed)
    module = study.target.network(len(loaded.names))
    keys = run.keys("target", "attack", "order")
    target, hits = study.target.train(run, keys["target"], "target", split)
    order = np.asarray(jax.random.permutation(keys["order"], len(split.test)))
    truth = split.test.images[order[: study.victims]]
    others = _some(split.test, order[study.victims :])
    records = [Record({"adversary": "none"}, "target_test_accuracy", metric(hits))]
    blind = np.broadcast_to(others.images.mean(0, keepdims=True), truth.shape)
    records += _judged({"adversary": BASELINE}, truth, blind, blind, {})
    shown = {"true image": truth, BASELINE: blind}
    for layer in study.searches:
        world = _world(run, study, module, target, layer, split.train, others, truth)
        for name, adversary in study.adversaries.items():
            key = jax.random.fold_in(keys["attack"], len(records))
            found = _attacked(run, f"{layer}_{name}", adversary(key, world))
            own = {"adversary": name, "layer": layer}
            records += _judged(own, truth, found, blind, study.published)
            if layer == study.shown:
                shown[name] = found
            if name == "white box":
                null = {"adversary": NULL, "layer": layer}
                records += _judged(null, truth, np.roll(found, 1, 0), blind, {})
    return _page(run, study, split.train, Results(records), shown)


def _some(images: Dataset, rows: np.ndarray) -> Dataset:
    return dataclasses.replace(
        images, images=images.images[rows], labels=images.labels[rows]
    )


def _world(
    run: Run,
    study: Study,
    module: CutNetwork,
    target: Target,
    layer: str,
    same: Dataset,
    others: Dataset,
    truth: np.ndarray,
) -> World:
    first, rest = cut.cut(module, layer)
    half = Half(first.of(target.params), first)
    other = Half(rest.of(target.params), rest)
    features = jax.jit(Half.__call__)(half, truth)
    search = _tuned(run, study, layer, half, others.images[:8])
    return World(layer, half, other, module, same, others, features, search)


def _tuned(
    run: Run, study: Study, layer: str, first: Half, own: np.ndarray
) -> regularized_mle.Config:
    """The search with the weight that recovers the adversary's own images best."""
    config, weights = study.searches[layer], jnp.asarray(study.weights)
    known = SplitWhiteBox(jax.jit(Half.__call__)(first, own), own.shape[1:], first)

    def errors(weight: jax.Array, known: SplitWhiteBox) -> jax.Array:
        weighted = dataclasses.replace(config, weight=weight)
        found = regularized_mle.attack(jax.random.key(0), known, weighted)
        return jnp.mean(distances.mse(jnp.asarray(own), found.x))

    def compute() -> dict[str, Any]:
        several = programs.program(jax.vmap(errors, (0, None)))
        found, seconds = several(weights, known)
        return {"errors": found} | seconds

    best = int(np.argmin(run.once(f"tuned_{layer}", compute)["errors"]))
    print(f"{layer}: weight {study.weights[best]:g}", flush=True)
    return dataclasses.replace(config, weight=study.weights[best])


def _attacked(run: Run, name: str, made: tuple[Any, tuple[Any, ...]]) -> np.ndarray:
    attack, arguments = made

    def compute() -> dict[str, Any]:
        found, seconds = programs.program(attack)(*arguments)
        print(f"{name}: {seconds['run']:.1f} s", flush=True)
        return {"x": found.x, "queries": found.queries} | seconds

    return run.once(file_name(name), compute)["x"]


def _judged(
    labels: dict[str, str],
    truth: np.ndarray,
    found: np.ndarray,
    blind: np.ndarray,
    published: Mapping[tuple[str, str, str], float],
) -> list[Record]:
    own = (labels["adversary"], labels.get("layer", ""))
    paper = {name: x for (*at, name), x in published.items() if tuple(at) == own}
    return errors(labels, truth, found, blind, ("psnr", "ssim", "mse"), paper)


def _page(
    run: Run,
    study: Study,
    same: Dataset,
    results: Results,
    shown: Mapping[str, np.ndarray],
) -> report.Page:
    path, depth = run.figures / "recovered.png", run.figures / "depth.png"
    first = min(5, study.victims)
    figures.image_grid([(name, x[:first]) for name, x in shown.items()], path)
    layers = list(study.searches)
    blind = results.value("psnr", adversary=BASELINE).value
    if len(layers) > 1:
        series = {}
        for name in list(study.adversaries)[:6]:
            lines = [results.value("psnr", adversary=name, layer=at) for at in layers]
            series[name] = [(line.value, line.low, line.high) for line in lines]
        figures.lines(
            np.arange(1, len(layers) + 1),
            series,
            depth,
            xlabel=f"cut after {', '.join(layers)}",
            log_x=True,  # A tick a layer.
            ylabel="PSNR, dB",
            baseline=blind,
            baseline_label=BASELINE,
        )
    at = results.filter(metric="psnr", layer=study.shown)
    best = max(
        (record for record in at if record.labels["adversary"] != NULL),
        key=lambda record: record.value.value,
    )
    tables = [
        report.Table(
            "Compared with the paper's tables",
            ("adversary", "layer", "metric", "here", "paper", "difference"),
            [
                (
                    *(record.label(name) for name in ("adversary", "layer", "metric")),
                    record.value.value,
                    record.value.paper,
                    record.value.value - record.value.paper,
                )
                for record in results
                if record.value.paper is not None
            ],
        )
    ]
    return report.Page(
        title=study.title,
        verdict=f"From what crosses the split after {study.shown}, "
        f"{best.labels['adversary']} recovers images at {best.value.value:.1f} dB and "
        f"a structural similarity of "
        f"{results.value('ssim', **best.labels).value:.2f}. The mean image of the "
        f"adversary's own has {blind:.1f} dB and "
        f"{results.value('ssim', adversary=BASELINE).value:.2f}.",
        lead=report.Picture(
            path,
            f"The first {first} attacked images, and what each adversary made of their "
            f"features after {study.shown}.",
        ),
        caption="By layer and adversary",
        table=results.filter(metric=("psnr", "ssim")).pivot(
            rows=("layer", "adversary"), columns=("metric",)
        ),
        attacked=f"A classifier of {same.name}, trained on {len(same):,} images, of "
        f"which one party runs the first layers and another the rest; its accuracy is "
        f"{results.value('target_test_accuracy', adversary='none').value:.3f}.",
        knowledge="The features of each attacked image, and: the first half (white "
        "box), answers of it to images of the adversary's own (queries), or the second "
        "half with labeled images (query-free).",
        baseline="the mean of the adversary's own images, whatever the features.",
        n=study.victims,
        results=results,
        tables=tables if tables[0].rows else (),
        pictures=[
            report.Picture(depth, "Images are harder to recover, the later the cut.")
        ]
        if len(layers) > 1
        else (),
        differences=study.differences,
        caveats=(
            "The null case judges what the white box found against another victim's "
            "image: it must be no better than the mean image.",
        ),
    )
