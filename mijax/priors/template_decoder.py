"""A small dense network from a public face network's embeddings to faces.

It answers with eigenfaces of public people, so the squared error that it is trained by
makes it draw a person's mean image: symmetric, since a mirrored face has nearly the
same embedding, and without background. It serves template inversion.

References:
    Mai et al., 2019, On the reconstruction of face images from deep face templates,
    arXiv:1703.00832.
    Turk and Pentland, 1991, Eigenfaces for recognition, doi:10.1162/jocn.1991.3.1.71.
"""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from mijax import pretrained, training
from mijax.core import Prediction, TemplateDecoder
from mijax.models import weights

FILE = "face_template_decoder"
SHAPE, EMBEDDING, EIGENFACES = (64, 64, 1), 128, 256
_JITTER = 0.03  # of each number of an embedding of unit length, in training


class Coefficients(nn.Module):
    """Coefficients of eigenfaces: an affine map, and a hidden layer beside it.

    Attributes:
        number: of eigenfaces.
        hidden: units.
        dropout: the share of them that a training step leaves out.
    """

    number: int = EIGENFACES
    hidden: int = 1024
    dropout: float = 0.5

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Prediction:
        """Returns coefficients `[B, number]`, as logits, of embeddings `[B, F]`."""
        hidden = nn.gelu(nn.Dense(self.hidden, name="hidden")(8 * x))
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        affine = nn.Dense(self.number, use_bias=False, name="linear")(x)
        coefficients = affine + nn.Dense(self.number, name="nonlinear")(hidden)
        return Prediction(coefficients, None)


def decode(variables: Any, embeddings: Array) -> Array:
    """Returns symmetric images `[B, H, W, C]` in [0, 1] of embeddings `[B, F]`."""
    faces, network = variables["eigenfaces"], variables["network"]
    said = Coefficients(len(faces), network["params"]["hidden"]["bias"].size).apply(
        network, embeddings
    )
    assert isinstance(said, Prediction)
    half = variables["mean_face"][None] + jnp.tensordot(said.logits, faces, 1)
    return jnp.clip(jnp.concatenate([half, half[:, :, ::-1]], axis=2), 0, 1)


def train(
    key: Array,
    embeddings: np.ndarray | Array,
    images: np.ndarray | Array,
    *,
    steps: int = 3000,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
    network: Coefficients = Coefficients(),
) -> TemplateDecoder:
    """Trains a decoder with AdamW on public images, in seconds.

    Args:
        key: for initial weights, order and dropout; it is consumed.
        embeddings: of a public network, `[N, F]`, of any length.
        images: their images, `[N, H, W, C]`, of an even width.
        steps: of AdamW.
        batch_size: examples a step.
        learning_rate: its peak.
        network: the coefficients' network.

    Raises:
        ValueError: if there are not more images than eigenfaces, or not one embedding
            each, or the width is odd.
    """
    count, (height, width, channels) = len(images), images.shape[1:]
    if len(embeddings) != count or count <= network.number or width % 2:
        raise ValueError(
            f"There are {len(embeddings)} embeddings of {count} images of width "
            f"{width}: give one each, more than the {network.number} eigenfaces, and "
            "an even width."
        )
    x = np.asarray(embeddings, np.float32)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
    center = x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    spread = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T

    symmetric = (np.asarray(images) + np.asarray(images)[:, :, ::-1]) / 2
    halves = symmetric[:, :, : width // 2].reshape(count, -1)
    mean_face = halves.mean(0)
    _, faces = np.linalg.eigh(np.cov((halves - mean_face).T))
    faces = faces[:, ::-1][:, : network.number]
    coefficients = (halves - mean_face) @ faces
    # Between squared error (1) and equal weight of all eigenfaces: what tells people
    # apart is seldom in the first of them.
    scales = np.sqrt(coefficients.std(0) * coefficients.std())
    scales = np.maximum(scales, 1e-6).astype(np.float32)

    optimizer = optax.adamw(
        optax.cosine_onecycle_schedule(steps, learning_rate), weight_decay=0.3
    )
    init_key, fit_key = jax.random.split(key)
    state = training.train_state(init_key, network, x.shape[1:], optimizer)
    step = training.supervised(network, optimizer, _squared_error, _jittered)
    known = jnp.asarray(x), jnp.asarray(coefficients / scales, jnp.float32)
    fitted, _ = jax.jit(
        lambda state, known: training.fit(
            fit_key, state, step, known, batch_size=batch_size, steps=steps
        )
    )(state, known)
    half = (height, width // 2, channels)
    variables = {
        "network": fitted.variables,
        "eigenfaces": jnp.asarray((faces * scales).T.reshape(-1, *half), jnp.float32),
        "mean_face": jnp.asarray(mean_face.reshape(half)),
    }
    return TemplateDecoder(
        variables, jnp.asarray(center), jnp.asarray(spread, jnp.float32), decode
    )


def _squared_error(prediction: Prediction, coefficients: Array) -> Array:
    return jnp.mean((prediction.logits - coefficients) ** 2, axis=1)


def _jittered(key: Array, x: Array) -> Array:
    x = x + _JITTER * jax.random.normal(key, x.shape)
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def save(path: str | Path, decoder: TemplateDecoder) -> None:
    """Writes a decoder of this module as a flat .npz of float16."""
    weights.save(path, _tree(decoder), dtype=np.float16)


def load(path: str | Path | None = None) -> TemplateDecoder:
    """Reads a decoder; None is the shipped one, of MS-Celeb-1M's MobileFaceNet.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not whole, or not of the shipped one's sizes.
    """
    network = Coefficients()
    half = SHAPE[0], SHAPE[1] // 2, SHAPE[2]
    numbers = jax.ShapeDtypeStruct((1, EMBEDDING), jnp.float32)

    def like(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    tree = weights.load(
        path or pretrained.path(FILE),
        {
            "network": jax.eval_shape(network.init, jax.random.key(0), numbers),
            "eigenfaces": like(EIGENFACES, *half),
            "mean_face": like(*half),
            "center": like(EMBEDDING),
            "spread": like(EMBEDDING, EMBEDDING),
        },
        "the template decoder of MS-Celeb-1M's MobileFaceNet",
    )
    center, spread = tree.pop("center"), tree.pop("spread")
    return TemplateDecoder(tree, center, spread, decode)


def _tree(decoder: TemplateDecoder) -> dict[str, Any]:
    return decoder.variables | {"center": decoder.center, "spread": decoder.spread}
