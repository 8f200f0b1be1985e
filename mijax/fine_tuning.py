"""Targets made of a public network: its layers frozen, and a new linear head.

The head sees embeddings of unit length, so its training needs each image's embedding
once and takes seconds: `embeddings`, then `fine_tune` as often as there are label sets.
`tune` then trains all layers.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array, lax

from mijax import training
from mijax.core import Network, Prediction, Target, TemplateDecoder

Embed = Callable[[Any, Array], Array]


class Head(nn.Module):
    """Logits of embeddings that are normalized and scaled.

    Attributes:
      classes: K.
      scale: the length that embeddings get; without it, logits are too close together
        to become confidences.
    """

    classes: int
    scale: float = 16.0

    @nn.compact
    def __call__(self, embeddings: Array, train: bool = False) -> Prediction:
        """Returns the prediction of embeddings `[B, F]`."""
        del train
        norms = jnp.linalg.norm(embeddings, axis=1, keepdims=True)
        features = self.scale * embeddings / jnp.maximum(norms, 1e-6)
        return Prediction(nn.Dense(self.classes)(features), features)


@dataclasses.dataclass(frozen=True)
class FineTuned(Network):
    """A frozen embedding network and the head that was trained on it.

    Attributes:
      embed: `(variables, images [B, *shape]) -> embeddings [B, F]`.
      head: what was trained.
    """

    embed: Embed
    head: Head

    def __call__(self, params: Any, x: Array) -> Prediction:
        """Returns the prediction of images `[B, *shape]`."""
        prediction = self.head.apply(params["head"], self.embed(params["frozen"], x))
        assert isinstance(prediction, Prediction)
        return prediction

    def split(self, params: Any) -> tuple[Any, Any]:
        """Parts the head from what is frozen."""
        return params["head"], params["frozen"]

    def join(self, trained: Any, rest: Any) -> Any:
        """Undoes `split`."""
        return {"head": trained, "frozen": rest}


def embeddings(
    embed: Embed, frozen: Any, images: np.ndarray | Array, batch_size: int = 64
) -> Array:
    """Embeds any number of images, a batch at a time.

    Args:
      embed: `(frozen, images [B, *shape]) -> [B, F]`, the public network.
      frozen: its variables.
      images: `[N, *shape]`.
      batch_size: at a time; changes no result.

    Returns:
      `[N, F]`.
    """

    def one(x: Array) -> Array:
        return embed(frozen, x[None])[0]

    return jax.jit(lambda x: lax.map(one, x, batch_size=batch_size))(
        jnp.asarray(images)
    )


def fine_tune(
    key: Array,
    embed: Embed,
    frozen: Any,
    embedded: Array,
    labels: np.ndarray | Array,
    *,
    classes: int,
    shape: tuple[int, ...],
    steps: int = 300,
    batch_size: int = 256,
    learning_rate: float = 0.01,
    scale: float = 16.0,
) -> Target:
    """Trains a linear head with Adam on embeddings that were made once.

    Args:
      key: for initial weights and the order of the examples; it is consumed.
      embed: as for `embeddings`.
      frozen: as for `embeddings`; it becomes part of the target.
      embedded: what `embeddings` returned of the training images, `[N, F]`.
      labels: their classes, `[N]`; or probabilities `[N, K]`, such as those of a target
        that is distilled.
      classes: K.
      shape: of one image.
      steps: of Adam.
      batch_size: examples a step; all of them where there are fewer.
      learning_rate: of Adam.
      scale: see `Head`.

    Returns:
      The target, whose features are the scaled embeddings.

    Raises:
      ValueError: if labels are neither `[N]`, all in [0, classes), nor `[N, K]`.
    """
    labels = jnp.asarray(labels)
    probable = labels.shape[1:] == (classes,)
    labels = labels if probable else labels.astype(jnp.int32)
    if labels.shape[: 1 + probable] != embedded.shape[:1] + labels.shape[1:]:
        raise ValueError(
            f"There are {labels.shape} labels for {embedded.shape[0]} embeddings: "
            "give one for each."
        )
    if not probable and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}: they must be in "
            f"[0, {classes})."
        )
    head, optimizer = Head(classes, scale), optax.adam(learning_rate)
    init_key, fit_key = jax.random.split(key)
    learner = training.train_state(init_key, head, embedded.shape[1:], optimizer)
    step = training.supervised(
        head, optimizer, _soft_cross_entropy if probable else training.cross_entropy
    )

    @jax.jit
    def fit(
        learner: training.TrainState, data: tuple[Array, Array]
    ) -> training.TrainState:
        size = min(batch_size, data[1].shape[0])
        return training.fit(fit_key, learner, step, data, batch_size=size, steps=steps)[
            0
        ]

    trained = fit(learner, (embedded, labels)).variables
    return Target.from_function(
        FineTuned(embed, head), {"head": trained, "frozen": frozen}, shape
    )


@jax.jit(static_argnames=("steps", "batch_size"))
def tune(
    key: Array,
    target: Target,
    examples: tuple[np.ndarray | Array, np.ndarray | Array],
    *,
    steps: int,
    batch_size: int = 32,
    learning_rate: float | Array = 1e-4,
) -> Target:
    """Trains all layers of a fine-tuned target with Adam; normalizations keep theirs.

    Args:
      key: for the order of the examples; it is consumed.
      target: of `fine_tune`, whose public network is a Linen module's variables.
      examples: training images `[N, *shape]` and their classes, `[N]`.
      steps: of Adam.
      batch_size: examples a step.
      learning_rate: of Adam.
    """
    optimizer = optax.adam(learning_rate)
    rest = {k: v for k, v in target.params["frozen"].items() if k != "params"}
    layers = {
        "head": target.params["head"],
        "params": target.params["frozen"]["params"],
    }

    def tuned(layers: Any) -> Target:
        frozen = {"params": layers["params"], **rest}
        params = {"head": layers["head"], "frozen": frozen}
        return dataclasses.replace(target, params=params)

    def step(_: Array, state: Any, batch: tuple[Array, Array]) -> tuple[Any, Any]:
        layers, memory = state
        images, labels = batch

        def loss(layers: Any) -> Array:
            return jnp.mean(
                training.cross_entropy(tuned(layers).predict(images), labels)
            )

        value, gradients = jax.value_and_grad(loss)(layers)
        updates, memory = optimizer.update(gradients, memory)
        return (optax.apply_updates(layers, updates), memory), {"loss": value}

    examples = jax.tree.map(jnp.asarray, examples)
    state = layers, optimizer.init(layers)
    (layers, _), _ = training.fit(
        key, state, step, examples, batch_size=batch_size, steps=steps
    )
    return tuned(layers)


def under_head(target: Target, embed: Embed, frozen: Any) -> Target:
    """Puts a target's head on another network's embeddings, as a surrogate of it.

    Args:
      target: of `fine_tune`.
      embed: a network whose embeddings mean what those of the target's network do, such
        as a student of it.
      frozen: its variables.

    Raises:
      ValueError: if the target has no head of its own.
    """
    head = _function(target).head
    return Target.from_function(
        FineTuned(embed, head),
        {"head": target.params["head"], "frozen": frozen},
        target.shape,
    )


def templates(target: Target, decoder: TemplateDecoder) -> Array:
    """Returns the template of each class that a target's head tells, `[K, F]`.

    Args:
      target: of `fine_tune`.
      decoder: of the target's public network.

    Raises:
      ValueError: if the target has no head of its own, or one on embeddings of another
        size.
    """
    _function(target)
    (dense,) = target.params["head"]["params"].values()
    size, known = dense["kernel"].shape[0], decoder.center.shape[0]
    if size != known:
        raise ValueError(
            f"The target's head takes embeddings of {size} numbers, the decoder of "
            f"{known}: it must be of the same public network."
        )
    return decoder.templates(dense["kernel"].T)


def under_templates(target: Target, decoder: TemplateDecoder) -> Target:
    """Puts templates in place of a head's weights: its logits become scaled cosines.

    Args:
      target: of `fine_tune`.
      decoder: of the target's public network.

    Raises:
      ValueError: as `templates`.
    """
    own = templates(target, decoder)
    ((name, dense),) = target.params["head"]["params"].items()
    own_head = {name: {"kernel": own.T, "bias": jnp.zeros_like(dense["bias"])}}
    params = target.params | {"head": {"params": own_head}}
    return dataclasses.replace(target, params=params)


def _function(target: Target) -> FineTuned:
    if not isinstance(target.function, FineTuned):
        raise ValueError(
            "The target is not of fine_tune: only what was fine-tuned from a public "
            "network has a head on that network's embeddings."
        )
    return target.function


def _soft_cross_entropy(prediction: Prediction, probabilities: Array) -> Array:
    return optax.softmax_cross_entropy(prediction.logits, probabilities)
