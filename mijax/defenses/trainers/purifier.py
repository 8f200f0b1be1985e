"""Prediction purification (Yang et al. 2020): confidences through a narrow autoencoder.

An autoencoder G is trained on confidences p of reference images that the model was not
trained on, min |G(p) - p|^2 + weight * CE(G(p), label), and G(p) is released.

Guarantees nothing: it takes off what differs among inputs of one label, and a purifier
that keeps every label keeps what the label alone reveals.

Departures: no adversary takes part in its training (the paper's two specialized
purifiers add an inverter or a membership classifier); tanh throughout, since a
bottleneck of ReLUs dies.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.tree_util import Partial

from mijax.core import Defense


def purifier(
    key: Array,
    x: Array,
    labels: Array,
    weight: float | Array = 0.1,
    widths: tuple[int, ...] = (32, 8, 32),
    steps: int = 5000,
    batch_size: int = 64,
    learning_rate: float | Array = 3e-3,
) -> Defense:
    """Trains a purifier of released confidences.

    Args:
      key: is consumed.
      x: confidences of reference images, `[N, K]`.
      labels: the classes that the model predicts of them, `[N]`.
      weight: of the cross-entropy.
      widths: of the hidden layers; the narrowest is the bottleneck.
      steps: of Adam.
      batch_size: confidences a step, drawn at random.
      learning_rate: of Adam.

    Raises:
      ValueError: if the confidences are not `[N, K]`, with a label each.

    References:
      Yang, Shao, Xuan, Chang, Zhang. Defending model inversion and membership inference
      attacks via prediction purification. arXiv 2020. arXiv:2005.03915.
    """
    if x.ndim != 2 or labels.shape != x.shape[:1]:
        raise ValueError(
            f"The confidences are {x.shape} and their labels {labels.shape}: give "
            "[N, K] and [N]."
        )
    sizes = (x.shape[1], *widths, x.shape[1])
    init_key, fit_key = jax.random.split(key)
    optimizer = optax.adam(learning_rate)

    def loss(layers: Any, scores: Array, labels: Array) -> Array:
        logits = _logits(layers, scores)
        distance = jnp.sum((jax.nn.softmax(logits) - scores) ** 2, -1)
        kept = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(distance + weight * kept)

    def body(state: Any, key: Array) -> tuple[Any, None]:
        layers, opt_state = state
        rows = jax.random.randint(key, (batch_size,), 0, x.shape[0])
        gradients = jax.grad(loss)(layers, x[rows], labels[rows])
        updates, opt_state = optimizer.update(gradients, opt_state)
        return (optax.apply_updates(layers, updates), opt_state), None

    keys = jax.random.split(init_key, len(sizes) - 1)
    initial = jax.nn.initializers.glorot_normal()
    layers = [
        (initial(k, shape), jnp.zeros(shape[1:]))
        for k, shape in zip(keys, itertools.pairwise(sizes), strict=True)
    ]
    state = layers, optimizer.init(layers)
    (layers, _), _ = lax.scan(body, state, jax.random.split(fit_key, steps))
    return Defense(output=Partial(_purified, layers))


def _logits(layers: Any, scores: Array) -> Array:
    h = scores
    for kernel, bias in layers[:-1]:
        h = jnp.tanh(h @ kernel + bias[None])
    kernel, bias = layers[-1]
    return h @ kernel + bias[None]


def _purified(layers: Any, scores: Array) -> Array:
    return jax.nn.softmax(_logits(layers, scores))
