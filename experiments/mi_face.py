"""MI-Face: recovers faces from the classifiers that know them; does rounding help?

Paper: Fredrikson, Jha, Ristenpart, Model inversion attacks that exploit confidence
information and basic countermeasures, CCS 2015 (doi:10.1145/2810103.2813677): the
figures of faces recovered from softmax regression, an MLP and a stacked denoising
autoencoder of AT&T's 40 people, and of rounded confidences.

    python -m experiments.mi_face                  # 56x46 faces
    python -m experiments.mi_face --preset=paper   # 112x92, the paper's sizes

Expected (`success_rate/*-class_mean`: of 40 class means, a label's own is the one that
its reconstruction correlates with most; chance is 0.025): at least 0.90 from each of
the three models, and chance from a target trained on shuffled labels or on other
people. Confidences rounded to 0.01 leave at most 0.2 to differences of 0.05 between
queries, and those rounded to 0.05 at least 0.9 to differences of 1: the defense only
hides the gradient. Measured figures, and the minutes on which device: BUILD_NOTES.md.
"""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from flax import linen as nn
from jax.tree_util import Partial

from experiments import figures, judging, report, stages, training, worlds
from experiments import flags as common
from mijax import data, fit, processing
from mijax.attacks import mi_face
from mijax.core import Reconstruction, Target
from mijax.data import Dataset, TrainTest
from mijax.defenses.rounding import rounding
from mijax.knowledge import Codec, Scores, WhiteBox
from mijax.metrics import identity, images
from mijax.models.lenet import LeNet
from mijax.models.mlp import DAE, MLP, SoftmaxRegression, denoising_loss


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the models and their images are.

    Attributes:
      shrink: pixels of a side that are averaged into one.
      sweep_shrink: the same for the sweep, whose queries grow with the pixels.
      steps: of each training.
      mlp: hidden units of the MLP.
      dae: units of the autoencoder's first layer.
      dae_code: units of its second.
    """

    shrink: int = 2
    sweep_shrink: int = 4
    steps: int = 600
    mlp: int = 300
    dae: int = 300
    dae_code: int = 100


class Preset(NamedTuple):
    """What a preset decides; `free_mib` is what a run may write."""

    sizes: Sizes
    pixels: mi_face.Config  # softmax regression and the MLP
    code: mi_face.Config  # Process-DAE
    sweep: mi_face.Config
    free_mib: int


_PROCESSED = mi_face.Config(process=processing.denoise_and_sharpen)
PRESETS = {
    "quick": Preset(
        Sizes(),
        mi_face.Config(steps=300),
        dataclasses.replace(_PROCESSED, steps=100),
        mi_face.Config(steps=20),
        free_mib=256,
    ),
    "paper": Preset(
        Sizes(shrink=1, steps=3000, mlp=3000, dae=1000, dae_code=300),
        mi_face.Config(steps=5000, learning_rate=0.1),
        dataclasses.replace(_PROCESSED, steps=5000, learning_rate=0.1),
        mi_face.Config(steps=100),
        free_mib=4096,
    ),
}
ROUNDINGS = (0.0, 0.001, 0.005, 0.01, 0.05, 0.1)
PAPER_ACCURACY = {"softmax": 0.925, "mlp": 0.958, "dae": 0.967}
PAPER_SECONDS = {"softmax": 1.4, "mlp": 1298.0, "dae": 692.0}

_SHOWN = flags.DEFINE_integer(
    "num_shown", 8, "People in the figures: the first.", lower_bound=1
)
_ADAPTIVE = flags.DEFINE_float(
    "adaptive_difference",
    1.0,
    "The difference of an adversary who knows of the rounding; a naive one's is "
    "--mi_face.difference.",
    lower_bound=0.0,
)
common.common("mi_face", dataset="att_faces")
_CONFIG = common.from_config(mi_face.Config(), "mi_face")
_SIZES = common.from_config(Sizes(), "sizes")


class Trained(NamedTuple):
    """A classifier, and whether it is right about each test image."""

    target: Target
    hits: np.ndarray


def main() -> None:
    """Trains, attacks, judges, and writes the report."""
    values = flags.FLAGS
    preset = PRESETS[values.preset]
    sizes = _SIZES(preset.sizes)
    workdir = report.prepare_workdir(values.workdir, preset.free_mib)
    stages.claim(workdir, common.given(), values.resume)
    people = load(values.dataset, values.data_dir)
    faces = split(people, sizes.shrink, values.seed)
    small = split(people, sizes.sweep_shrink, values.seed)
    keys = named_keys(values.seed)
    train = functools.partial(classifier, keys, workdir=workdir, steps=sizes.steps)

    profiled = jax.profiler.trace(str(workdir / "profile"))
    with profiled if values.profile else contextlib.nullcontext():
        victims = train_victims(keys, train, faces, sizes, workdir)
        nulls = train_nulls(keys, train, faces, values.seed)
        experts = train_experts(train, faces, sizes)
        smallest = train(
            "softmax_of_sweep", SoftmaxRegression(len(people.names)), small
        )
        found = attack_all(keys["attack"], victims, nulls, preset, workdir)
        swept = sweep(keys["sweep"], smallest.target, _CONFIG(preset.sweep), workdir)

    labels = np.arange(len(people.names), dtype=np.int32)
    shown = {name: found[name]["x"] for name in victims}
    shown |= finished(shown) | without_target(keys["random"], faces.train)
    shown["real_test"] = first_of_each(faces.test)
    judges = panel(experts, faces, worlds.data_folder(values.data_dir))
    metrics = accuracies(victims, experts, judges, faces)
    metrics |= judged(shown, labels, faces, victims, experts, judges)
    metrics |= null_cases(found, faces, values.seed)
    metrics |= judged_sweep(swept, smallest.target, small)
    page = report.write(
        workdir,
        experiment="mi_face",
        title=f"MI-Face against {len(people.names)} people of {people.name}",
        attacked=describe_victims(faces, small, sizes),
        knowledge="White box: parameters and architecture, and the label of a person; "
        "no image of anyone. In the sweep a black box: confidences, rounded.",
        flags=common.given(),
        seconds={
            kind: sum(float(f[kind]) for f in (*found.values(), swept))
            for kind in ("compile", "run")
        },
        n=len(labels),
        metrics=metrics,
        baseline="the better of two images that need no target: the mean of everyone "
        "else's training faces, and uniform noise; in null cases and sweep, chance.",
        tables=[
            who_judges(shown, found, nulls, metrics),
            sweep_table(swept, metrics),
            times(found, labels),
        ],
        pictures=draw(workdir, shown, found, swept, faces, metrics),
        differences=DIFFERENCES,
        caveats=caveats(judges, faces),
        command="python -m experiments.mi_face "
        + common.describe(
            {
                k: v
                for k, v in common.given().items()
                if k not in ("workdir", "data_dir")
            }
        ),
    )
    summary(metrics)
    print(f"report: {page}", flush=True)
