"""Inverse network of scores: a decoder that knows the background, not the classes.

Yang, Zhang, Chang, Liang (2019). The adversary asks the model F about auxiliary images
a and trains G to minimize |G(code(F(a))) - a|^2; G of what was released of a private
input is the image. Where a service releases the m largest confidences, the others are 0
in training and attack alike (`defenses.top_k`). The code of confidences p is

    log p + 50, raised until no released one is below 0; 0 where nothing was released,

since a softmax near 0 or 1 tells little otherwise. `joint` trains model and decoder
together, as the service's owner can.

Departures: codes are divided by 50 and standardized; the decoder is a perceptron of one
hidden layer of tanh by default, the paper's transposed convolutions with tanh; the rate
of AMSGrad is 1e-3, the paper's 2e-4.

References:
  Yang, Zhang, Chang, Liang. Neural network inversion in adversarial setting via
  background knowledge alignment. CCS 2019. doi:10.1145/3319535.3354261.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array

from mijax.core import Reconstruction, hyper_parameters, static
from mijax.knowledge import Explained, Scores
from mijax.models.decoders import DenseDecoder
from mijax.priors import decoder
from mijax.priors.decoder import Decoder
from mijax.training import Training, TrainState, cross_entropy

_RAISED = 50.0  # the authors' constant, in nats
_SPREAD = 0.2  # of codes, before any were seen


def log_scores(scores: Array) -> Array:
    """Returns the code of confidences `[B, K]`, in units of 50 nats."""
    released = scores > 0
    logs = jnp.log(jnp.where(released, scores, 1.0)) + _RAISED
    least = jnp.min(jnp.where(released, logs, 0.0), -1, keepdims=True)
    return jnp.where(released, logs - jnp.minimum(least, 0.0), 0.0) / _RAISED


def perceptron(shape: tuple[int, ...]) -> nn.Module:
    """Returns a decoder whose tanh bounds what scores beyond the auxiliary ones do."""
    return DenseDecoder(shape, activation=nn.tanh)


def raw_scores(scores: Array) -> Array:
    """Returns the confidences themselves."""
    return scores


@hyper_parameters
class Config(decoder.Config):
    """Hyper-parameters, beside those of `decoder.Config`.

    Attributes:
      code: of confidences, `[B, K] -> [B, ...]`.
    """

    network: Callable[[tuple[int, ...]], nn.Module] = static(default=perceptron)
    steps: int = static(default=3000)
    batch_size: int = static(default=64)
    code: Callable[[Array], Array] = static(default=log_scores)


def attack(key: Array, knowledge: Scores, config: Config = Config()) -> Reconstruction:
    """Recovers private inputs from their released confidences by a trained decoder.

    Args:
      key: of the decoder's training; it is consumed.
      knowledge: a query, public images, and `observed` confidences `[V, K]`; the
        victims' labels are not read.
      config: hyper-parameters.

    Returns:
      Images `[V, H, W, C]` in [0, 1]; the loss is the training's last one.

    Raises:
      ValueError: if there is no step, there are no public images, or the observed
        confidences are not `[V, K]`.
    """
    observed, public = check(knowledge)
    scores, asked = knowledge.query(public)
    return decoder.invert(
        key,
        config,
        config.code(scores),
        public,
        config.code(observed),
        asked.spent - knowledge.spent,
    )


def check(knowledge: Scores | Explained) -> tuple[Array, Array]:
    """Returns the observed confidences `[V, K]` and the public images `[M, H, W, C]`.

    Raises:
      ValueError: if the confidences are of another shape, or there are no images.
    """
    observed = knowledge.observed
    expected = (len(knowledge.labels), knowledge.num_classes)
    if observed is None or observed.shape != expected:
        given = None if observed is None else observed.shape
        raise ValueError(
            f"The observed confidences are {given}: give those that were released of "
            f"each victim's input, {expected}."
        )
    if knowledge.public is None:
        raise ValueError("There are no public images to ask about: give some.")
    return observed, knowledge.public


def joint(
    classifier: nn.Module,
    shape: tuple[int, ...],
    weight: float | Array = 1.0,
    config: Config = Config(),
) -> Training[TrainState, tuple[Any, Decoder]]:
    """Returns the training of a classifier and its decoder together, by their owner.

    Its data are `(images, labels)`, its product the classifier's variables and the
    decoder. Neither network may keep batch statistics.

    Args:
      classifier: returns a `Prediction`.
      shape: of an image.
      weight: of the decoder's error beside the cross-entropy.
      config: hyper-parameters.
    """
    network = config.network(shape)
    optimizer = optax.amsgrad(config.learning_rate)

    def init(key: Array) -> TrainState:
        keys = jax.random.split(key)
        variables = classifier.init(keys[0], jnp.zeros((1, *shape)))
        logits = classifier.apply(variables, jnp.zeros((1, *shape))).logits  # type: ignore[union-attr]
        other = network.init(keys[1], config.code(jax.nn.softmax(logits)))
        params = variables["params"], other["params"]
        return TrainState(params, optimizer.init(params))

    def step(key: Array, state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        del key
        images, labels = batch

        def loss(params: Any) -> tuple[Array, dict[str, Array]]:
            prediction: Any = classifier.apply({"params": params[0]}, images)
            codes = config.code(jax.nn.softmax(prediction.logits))
            found: Any = network.apply({"params": params[1]}, (codes - 1) / _SPREAD)
            task = jnp.mean(cross_entropy(prediction, labels))
            error = jnp.mean((found - images) ** 2)
            return task + weight * error, {"loss": task, "error": error}

        gradients, metrics = jax.grad(loss, has_aux=True)(state.variables)
        updates, opt_state = optimizer.update(
            gradients, state.opt_state, state.variables
        )
        return TrainState(
            optax.apply_updates(state.variables, updates), opt_state
        ), metrics

    def finish(state: TrainState) -> tuple[Any, Decoder]:
        first, other = state.variables
        codes = jnp.ones(()), jnp.asarray(_SPREAD)
        return {"params": first}, Decoder({"params": other}, *codes, network)

    return Training(init, step, finish)
