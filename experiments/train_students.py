"""Distills a public face network into small ones: the surrogates that PPA searches.

Model augmentation (Nguyen et al., CVPR 2023, arXiv:2304.01669), before any target is
known: students learn what MS-Celeb-1M's MobileFaceNet says of Labeled Faces in the
Wild's people with fewer than 10 images and of faces that the shipped prior draws,
mirrored, shifted and relit. The private people have 20 or more; those between are left
to choose an attack's settings by.

    python -m experiments train_students --student=plain    # one CPU core, 20 min
    python -m experiments train_students --student=strided

Leaves in `--workdir` the weights and their card, `face_student_NAME.npz` and `.json`.
With `--install` both are copied into the package. Expected: a cosine of .76 (plain) or
.72 (strided) to the teacher's embeddings on public images that were held out.
"""

import pathlib
import shutil

import jax
import numpy as np
import optax
from absl import flags

import mijax.priors
from experiments.harness import flags as common
from experiments.harness import programs, report, resumable
from experiments.studies import public_faces
from mijax import core, training
from mijax.attacks.inversion import augmentation
from mijax.models import face_students, weights

_STUDENT = flags.DEFINE_enum(
    "student", "plain", list(face_students.STUDENTS), "Which network learns."
)
_STEPS = flags.DEFINE_integer("steps", 3000, "Of AdamW.", lower_bound=1)
_REAL = flags.DEFINE_integer(
    "real", None, "Public images to learn from; default: all.", lower_bound=1
)
_DRAWN = flags.DEFINE_integer(
    "drawn", 8000, "Faces that the prior draws.", lower_bound=1
)
_INSTALL = flags.DEFINE_bool("install", False, "Copy the student into the package.")
common.common("train_students", dataset=None)

_BATCH, _RATE, _HELD_OUT = 64, 3e-3, 400


def main() -> None:
    """Embeds the faces, trains the student, and writes it."""
    values = flags.FLAGS
    workdir = report.prepare_workdir(values.workdir)
    real, shipped = public_faces.faces(values.dataset, values.data_dir)
    real = real[np.random.default_rng(values.seed).permutation(len(real))]
    real = real[: _REAL.value]
    draw_key, init_key, fit_key = jax.random.split(jax.random.key(values.seed), 3)
    prior = mijax.priors.load(shipped)
    z = prior.sample(draw_key, _DRAWN.value)
    drawn = jax.jit(lambda prior, z: core.in_chunks(prior.images, z, _BATCH))(prior, z)
    images = np.concatenate([real, drawn])
    held_out = min(_HELD_OUT, len(real) // 2)
    embeddings = public_faces.embedded(workdir, images)

    file, embed = face_students.STUDENTS[_STUDENT.value]
    network, steps = embed.network, _STEPS.value
    rate = optax.cosine_onecycle_schedule(steps, _RATE)
    optimizer = optax.adamw(rate, weight_decay=1e-2)
    moved = training.shift_and_mirror(2)

    def augment(key: jax.Array, x: jax.Array) -> jax.Array:
        light_key, move_key = jax.random.split(key)
        lights = jax.random.split(light_key, len(x))
        return jax.vmap(augmentation.relit)(lights, moved(move_key, x))

    def agreement(state: training.TrainState) -> float:
        x = images[:held_out]
        seen = programs.batched(lambda x: embed(state.variables, x))(x)
        return float(optax.cosine_similarity(seen, embeddings[:held_out]).mean())

    folder = workdir / "checkpoints"
    if not values.resume:
        shutil.rmtree(folder, ignore_errors=True)
    state = resumable.train(
        fit_key,
        training.train_state(init_key, network, images.shape[1:], optimizer),
        training.supervised(network, optimizer, face_students.distance, augment),
        (images[held_out:], embeddings[held_out:]),
        name=f"student {_STUDENT.value}",
        folder=folder,
        batch_size=_BATCH,
        steps=steps,
        after_chunk=lambda done, state: print(
            f"\nstep {done:,}: cosine {agreement(state):.3f}", flush=True
        ),
    )
    _write(workdir / f"{file}.npz", state, agreement(state), len(real), held_out)


def _write(
    path: pathlib.Path,
    state: training.TrainState,
    agreement: float,
    real: int,
    held_out: int,
) -> None:
    """Writes weights and card, and copies them into the package if that was asked."""
    weights.save(path, state.variables, dtype="float16")
    network = face_students.STUDENTS[_STUDENT.value][1].network
    public_faces.write_card(
        path,
        "train_students",
        _INSTALL.value,
        what="a student of MS-Celeb-1M's MobileFaceNet: 128 numbers of an aligned "
        "64x64 gray face",
        architecture=f"mijax.models.face_students.{type(network).__name__}",
        data=f"{real:,} images of public people with few images each, and "
        f"{_DRAWN.value:,} faces that the prior faces64 draws",
        licence="Apache-2.0, as its teacher's; the images are not part of it",
        accuracy=f"mean cosine to its teacher's embeddings {agreement:.3f}, on "
        f"{held_out} images held out",
    )


if __name__ == "__main__":
    common.run(main)
