"""Trains a decoder from a public network's embeddings to faces, for template inversion.

Mai, Cao, Yuen, Jain. On the reconstruction of face images from deep face templates.
TPAMI 2019. arXiv:1703.00832. A small dense network learns eigenfaces of Labeled Faces
in the Wild's people with fewer than 10 images from what MS-Celeb-1M's MobileFaceNet
says of them.

    python -m experiments train_template_decoder    # one CPU core, 5 min

Leaves in `--workdir` the weights and their card, `face_template_decoder.npz` and
`.json`. With `--install` both are copied into the package. Expected: of the variance of
public people that were held out, the decoder explains .20 to .25.
"""

import jax
import numpy as np
from absl import flags

from experiments.harness import flags as common
from experiments.harness import report
from experiments.studies import public_faces
from mijax.core import TemplateDecoder
from mijax.priors import template_decoder

_STEPS = flags.DEFINE_integer("steps", 3000, "Of AdamW.", lower_bound=1)
_NUMBER = flags.DEFINE_integer(
    "number", None, "Public images to learn from; default: all.", lower_bound=1
)
_INSTALL = flags.DEFINE_bool("install", False, "Copy the decoder into the package.")
common.common("train_template_decoder", dataset=None)

_HELD_OUT = 400


def main() -> None:
    """Embeds the faces, trains the decoder, and writes it."""
    values = flags.FLAGS
    workdir = report.prepare_workdir(values.workdir)
    images, _ = public_faces.faces(values.dataset, values.data_dir)
    order = np.random.default_rng(values.seed).permutation(len(images))
    images = images[order][: _NUMBER.value]
    embeddings = public_faces.embedded(workdir, images)
    held_out = min(_HELD_OUT, len(images) // 5)
    decoder = template_decoder.train(
        jax.random.key(values.seed),
        embeddings[held_out:],
        images[held_out:],
        steps=_STEPS.value,
    )
    explained = _explained(decoder, embeddings[:held_out], images[:held_out])
    path = workdir / f"{template_decoder.FILE}.npz"
    template_decoder.save(path, decoder)
    public_faces.write_card(
        path,
        "train_template_decoder",
        _INSTALL.value,
        what="faces, symmetric and 64x64, of embeddings of MS-Celeb-1M's MobileFaceNet",
        architecture="mijax.priors.template_decoder.Coefficients",
        data=f"{len(images) - held_out:,} images of public people with few images each",
        licence="Apache-2.0, as its teacher's; the images are not part of it",
        accuracy=f"explains {explained:.3f} of the variance of {held_out} images that "
        "were held out, mirrored images averaged",
    )


def _explained(
    decoder: TemplateDecoder, embeddings: np.ndarray, images: np.ndarray
) -> float:
    """1 minus the squared error by that of the mean image."""
    x = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    symmetric = (images + images[:, :, ::-1]) / 2
    error = np.mean((np.asarray(decoder.images(x)) - symmetric) ** 2)
    return float(1 - error / np.mean((symmetric - symmetric.mean(0)) ** 2))


if __name__ == "__main__":
    common.run(main)
