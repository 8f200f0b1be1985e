"""MI-Face: recovers faces from the classifiers that know them; does rounding help?

Fredrikson, Jha, Ristenpart. Model inversion attacks that exploit confidence information
and basic countermeasures. CCS 2015. doi:10.1145/2810103.2813677. The figures of faces
recovered from softmax regression, an MLP and a stacked denoising autoencoder of AT&T's
40 people, and of rounded confidences.

    python -m experiments fredrikson2015_mi_face                 # 2 CPU cores, 2 min
    python -m experiments fredrikson2015_mi_face --preset=paper  # the paper's sizes

Expected, as the class mean judges: all 40 people from softmax regression and the MLP,
39 from the autoencoder, none from a target of shuffled labels. Confidences rounded to
0.05 leave 3 to queries that differ by 0.05, and 38 to those that differ by 1.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments.harness import figures, programs, report
from experiments.harness import flags as common
from experiments.harness import run as harness
from experiments.harness.results import Results
from experiments.harness.run import Run
from experiments.studies import autoencoder, inversion, panel, rounding
from mijax import data, training
from mijax.attacks import mi_face
from mijax.attacks.inversion import processing
from mijax.core import Target
from mijax.data import Dataset, TrainTest
from mijax.knowledge import WhiteBox, validate
from mijax.models.lenet import LeNet
from mijax.models.mlp import DAE, MLP, SoftmaxRegression

PAPER_ACCURACY = {"softmax": 0.925, "mlp": 0.958, "dae": 0.967}
PAPER_SECONDS = {"softmax": 1.4, "mlp": 1298.0, "dae": 692.0}
VICTIMS = tuple(PAPER_ACCURACY)
NULLS = ("null_shuffled", "null_others")
EVALUATORS = ("evaluator", "mlp_evaluator")  # the second is too like a victim
KEYS = ("softmax", "mlp", "dae_start", "dae_layer_1", "dae_layer_2", "dae", "shuffle")
KEYS += (*NULLS, *EVALUATORS, "softmax_of_sweep", "attack", "sweep", "random")


@dataclasses.dataclass(frozen=True)
class Study:
    """Sizes of images and models, and the attacks."""

    pixels: mi_face.Config  # against softmax regression and the MLP
    code: mi_face.Config  # Process-DAE
    sweep: mi_face.Config  # through rounded confidences
    shrink: int = 2  # pixels of a side that are averaged into one
    sweep_shrink: int = 4  # the same for the sweep, whose queries grow with the pixels
    steps: int = 600  # of each classifier's training
    pretraining: int = 1500  # steps of each layer of the autoencoder
    mlp: int = 300  # hidden units
    dae: int = 300  # units of the autoencoder's first layer
    dae_code: int = 100  # of its second
    adaptive_difference: float = 1.0  # between queries, by who knows of the rounding


# A code's gradient passes the decoder's sigmoids, and the rate makes up for that.
_PROCESSED = mi_face.Config(process=processing.denoise_and_sharpen, learning_rate=300.0)
QUICK = Study(
    pixels=mi_face.Config(steps=300),
    code=dataclasses.replace(_PROCESSED, steps=200),
    sweep=mi_face.Config(steps=20),
)
PAPER = Study(
    pixels=mi_face.Config(steps=5000, learning_rate=0.1),
    code=dataclasses.replace(_PROCESSED, steps=5000),
    sweep=mi_face.Config(steps=100),
    shrink=1,
    steps=3000,
    pretraining=6000,
    mlp=3000,
    dae=1000,
    dae_code=300,
)
DIFFERENCES = (
    "the paper's test errors (7.5, 4.2 and 3.3 %) and seconds are quoted from other "
    "publications, not checked against the PDF",
    "the paper's measure is people: skilled workers who pick the person from five "
    "photographs, up to 95 % of the time; ours is the correlation with class means",
    "the paper stops a search when its cost no longer falls; ours runs all its steps, "
    "for all labels at once, and returns the best iterate",
    "pixels are kept in [0, 1]; the learning rate is 10 in the quick preset, and 300 "
    "in the autoencoder's code in both, where the paper's is 0.1",
    "the parameters of the paper's denoising and sharpening are not published",
    "--preset=quick halves the sides of the images and has smaller networks",
)


def changed(study: Study) -> Study:
    """Applies the flags that were given."""
    attacks = {f: _METHOD(getattr(study, f)) for f in ("pixels", "code", "sweep")}
    study = dataclasses.replace(_STUDY(study), **attacks)
    mi_face.Config(difference=study.adaptive_difference)  # Refuses one that is none.
    return study


def halves(faces: Dataset, seed: int) -> data.Split:
    """Half of the people, and the others, whom alone `null_others` is trained on."""
    return data.by_identity(faces, private=len(faces.names) // 2, seed=seed)


def train(
    run: Run, study: Study, faces: TrainTest, small: TrainTest
) -> tuple[dict[str, Target], dict[str, np.ndarray]]:
    """Trains victims, targets that cannot leak, and evaluators; their hits on tests."""
    keys, number = run.keys(*KEYS), len(faces.train.names)
    dae = DAE(number, faces.train.images.shape[1:], (study.dae, study.dae_code))
    softmax, mlp = SoftmaxRegression(number), MLP(number, (study.mlp,))
    conv = LeNet(number, (16, 32, 64), (5, 3, 3), (True,) * 3, (128,), "SAME", True)
    others = TrainTest(*(halves(side, run.seed).public for side in faces))
    half = SoftmaxRegression(len(others.train.names))
    known = inversion.shuffled(keys["shuffle"], faces, None)
    layers = [keys[name] for name in ("dae_start", "dae_layer_1", "dae_layer_2")]
    start = autoencoder.pretrain(run, layers, dae, faces.train, study.pretraining)
    moved: dict[str, Any] = {"augment": training.shift_and_mirror(2)}
    pretrained: dict[str, Any] = {"variables": start}
    sgd, adam = optax.sgd(0.03, momentum=0.9), optax.adam(1e-3)
    fine = optax.sgd(0.1, momentum=0.9)  # Adam would undo the autoencoder.
    trained = {
        name: run.train(
            keys[name],
            name,
            network,
            split,
            optimizer=optimizer,
            steps=study.steps,
            batch_size=40,
            chunk=500,
            **more,
        )
        for name, network, split, optimizer, more in (
            ("dae", dae, faces, fine, pretrained),
            ("softmax", softmax, faces, sgd, {}),
            ("mlp", mlp, faces, adam, {}),
            ("null_shuffled", softmax, known, sgd, {}),
            ("null_others", half, others, sgd, {}),
            ("evaluator", conv, faces, adam, moved),
            ("mlp_evaluator", mlp, faces, adam, {}),
            ("softmax_of_sweep", softmax, small, sgd, {}),
        )
    }
    return {k: trained[k][0] for k in trained}, {k: trained[k][1] for k in trained}


def attack(
    run: Run, study: Study, targets: Mapping[str, Target]
) -> dict[str, dict[str, np.ndarray]]:
    """Runs white-box MI-Face for every label of every target."""
    found = {}
    for name in (*VICTIMS, *NULLS):
        target = targets[name]
        codec = autoencoder.first_layer(target) if name == "dae" else None
        labels = jnp.arange(target.num_classes, dtype=jnp.int32)
        found[name] = run.attack(
            name,
            programs.over_victims(mi_face.attack, len(labels)),
            run.keys(*KEYS)["attack"],
            validate(WhiteBox(target, labels, codec=codec)),
            study.code if codec else study.pixels,
        )
    return found


def measure(run: Run, study: Study) -> report.Page:
    """Trains, attacks and judges."""
    people = panel.people(run, at_least=4)  # Two are kept from null_others' target.
    faces = panel.split(people, study.shrink, run.seed)
    small = panel.split(people, study.sweep_shrink, run.seed)
    targets, hits = train(run, study, faces, small)
    found = attack(run, study, targets)
    weak, key = targets["softmax_of_sweep"], run.keys(*KEYS)["sweep"]
    swept = rounding.attack(run, key, weak, study.sweep, study.adaptive_difference)

    shown = {name: found[name]["x"] for name in VICTIMS}
    finish = jax.jit(processing.denoise_and_sharpen)
    shown |= {n + panel.FINISHED: np.asarray(finish(x)) for n, x in shown.items()}
    shown["null_shuffled"] = found["null_shuffled"]["x"]
    shown |= panel.without_target(run.keys(*KEYS)["random"], faces)
    evaluators = {name: targets[name] for name in EVALUATORS}
    judges, absent = panel.judges(run, targets["evaluator"], faces)
    means, unseen = (f.means() for f in (faces.train, halves(faces.train, run.seed)[0]))
    about = {"images": "null_others", "judge": "class_mean"}
    results = Results(
        [
            *panel.of_targets(hits, PAPER_ACCURACY),
            *panel.of_judges({k: hits[k] for k in EVALUATORS}, judges, faces.test),
            *panel.judged(shown, means, evaluators, judges, targets),
            panel.by_means(found["null_others"]["x"], unseen, about),
            *rounding.judged(swept["x"], weak, small),
        ]
    )
    return tell(run, study, faces.train, shown, found, swept, results, absent)


def tell(
    run: Run,
    study: Study,
    faces: Dataset,
    shown: Mapping[str, np.ndarray],
    found: Mapping[str, Mapping[str, np.ndarray]],
    swept: Mapping[str, np.ndarray],
    results: Results,
    absent: Sequence[str],
) -> report.Page:
    """Draws the figures and says what the page tells."""
    classes, shape, names = len(faces.names), faces.images.shape[1:3], faces.names
    names, unrelated = names[: flags.FLAGS.num_shown], panel.lowest(results, VICTIMS)
    differences = float(study.sweep.difference), study.adaptive_difference
    losses = run.figures / "losses.png"
    traces = {name: found[name]["trace"][:, 0] for name in VICTIMS}
    figures.curves(traces, losses, ylabel="1 less the label's confidence", log_y=True)

    def named(judge: str, *rows: str, metric: str = "success_rate") -> str:
        lines = [results.value(metric, images=row, judge=judge).value for row in rows]
        return ", ".join(f"{100 * line:.0f}" for line in lines) + " %"

    left = [
        100 * results.value("success_rate", rounding="0.05", adversary=adversary).value
        for adversary in rounding.ADVERSARIES
    ]
    return report.Page(
        title=f"MI-Face against {classes} people of {faces.name}",
        verdict=f"What MI-Face recovers from {', '.join(VICTIMS)} is most like its own "
        f"person's mean image for {named('class_mean', *VICTIMS)} of {classes} people "
        f"({named('class_mean', 'null_shuffled')} from a target of shuffled labels); "
        f"{unrelated.replace('_', ' ')}, the strictest unrelated judge, names "
        f"{named(unrelated, *VICTIMS, metric='identity_1nn')}. Confidences rounded to "
        f"0.05 leave {left[0]:.0f} % to an adversary whose queries differ by "
        f"{differences[0]:g}, and {left[1]:.0f} % to one whose queries differ by "
        f"{differences[1]:g}.",
        lead=panel.draw(run, shown, faces.means(), names),
        caption=panel.CAPTION,
        table=panel.table(results),
        attacked=f"Three classifiers, trained on {len(faces)} images of "
        f"{shape[0]}x{shape[1]}: softmax regression, an MLP of {study.mlp} sigmoid "
        f"units, a stacked denoising autoencoder of {study.dae} and {study.dae_code}.",
        knowledge="White box: parameters and architecture, and the label of a person; "
        "no image of anyone. Through rounding a black box: confidences, of softmax "
        f"regression on images shrunk by {study.sweep_shrink}.",
        baseline="the better of two rows of images that need no target, the mean of "
        "others and uniform noise; for null_others and rounding, chance.",
        n=classes,
        results=results,
        tables=(
            rounding.table(results, int(swept["queries"].flat[0]) // classes),
            panel.seconds(found, PAPER_SECONDS),
        ),
        pictures=[
            *rounding.draw(run, results, swept["x"], names[:3], differences),
            report.Picture(losses, "Median and middle 80 % of all labels."),
        ],
        differences=DIFFERENCES,
        caveats=(*panel.CAVEATS, *rounding.CAVEATS, *absent),
    )


main = harness.main(
    "fredrikson2015_mi_face",
    quick={"faces": QUICK},
    paper={"faces": PAPER},
    changed=changed,
    measure=measure,
    free_mib={"quick": 256, "paper": 4096},
)
flags.DEFINE_integer("num_shown", 8, "People in the figures: the first.", lower_bound=1)
_METHOD = common.from_config(mi_face.Config(), "mi_face")
_STUDY = common.from_config(QUICK, "study")

if __name__ == "__main__":
    common.run(main)
