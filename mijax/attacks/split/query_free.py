"""Query-free inversion of a split: a shadow of the first half, and then rMLE.

He, Zhang, Lee (2019). The adversary owns the second half f2 and images of the
training's distribution. It trains a shadow g of the first half with f2 frozen,
min CE(f2(g(x)), y), and inverts the shadow by rMLE.

Departures: as of `regularized_mle`; Adam trains the shadow.

References:
  He, Zhang, Lee. Model inversion attacks against collaborative inference. ACSAC 2019.
  doi:10.1145/3359789.3359824.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array

from mijax.attacks.split import regularized_mle
from mijax.core import Reconstruction, hyper_parameters, static
from mijax.core.networks import Linen
from mijax.knowledge.split_features import Half, SplitQueryFree, SplitWhiteBox
from mijax.models.decoders import DenseDecoder
from mijax.training import Training, TrainState


def perceptron(shape: tuple[int, ...]) -> nn.Module:
    """Returns a shadow for features of any shape."""
    return DenseDecoder(shape, (256,), final=identity)


def identity(x: Array) -> Array:
    """Returns x: features may be negative."""
    return x


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      network: the shadow, from the shape of features `[...]`: a module that makes such
        features of images. The paper's are the network's own first layers, or others.
      inversion: of the shadow, by rMLE.
      steps: of the shadow's training.
      batch_size: images a step; all of them where there are fewer.
      learning_rate: of Adam.
    """

    network: Callable[[tuple[int, ...]], nn.Module] = static(default=perceptron)
    inversion: regularized_mle.Config = regularized_mle.Config()
    steps: int = static(default=1000)
    batch_size: int = static(default=64)
    learning_rate: float | Array = 1e-3


def training(
    knowledge: SplitQueryFree, config: Config = Config()
) -> Training[TrainState, Half]:
    """Returns the shadow's training, whose data are public images and their labels.

    Raises:
      ValueError: if the shadow makes other features than those that were sent.
    """
    shape = knowledge.features.shape[1:]
    module = config.network(shape)
    optimizer = optax.adam(config.learning_rate)

    def init(key: Array) -> TrainState:
        x = jnp.zeros((1, *knowledge.shape))
        variables = module.init(key, x)
        made = jax.eval_shape(module.apply, variables, x)
        if made.shape[1:] != shape:
            raise ValueError(
                f"The shadow makes features {made.shape[1:]} but {shape} were sent: "
                "give another network."
            )
        return TrainState(variables, optimizer.init(variables["params"]))

    def step(key: Array, state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        del key
        images, labels = batch

        def loss(params: Any) -> Array:
            logits = knowledge.rest(module.apply({"params": params}, images))  # type: ignore[arg-type]
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.mean(losses)

        params = state.variables["params"]
        value, gradients = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, params)
        variables = {"params": optax.apply_updates(params, updates)}
        return TrainState(variables, opt_state), {"loss": value}

    return Training(init, step, lambda state: Half(state.variables, Linen(module)))


def fit(
    key: Array, knowledge: SplitQueryFree, config: Config = Config()
) -> tuple[Half, Array]:
    """Trains the shadow in one program; returns it, and its loss at each step.

    Raises:
      ValueError: if labels or features do not fit.
    """
    knowledge.check_shapes()
    shadow, metrics = training(knowledge, config).fit(
        key,
        (knowledge.public, knowledge.labels),
        batch_size=min(config.batch_size, len(knowledge.public)),
        steps=config.steps,
    )
    return shadow, metrics["loss"]


def attack(
    key: Array, knowledge: SplitQueryFree, config: Config = Config()
) -> Reconstruction:
    """Recovers the input of features with the second half and labeled public images.

    Args:
      key: of the shadow's training; it is consumed.
      knowledge: features `[V, ...]`, the second half, and public images with labels.
      config: hyper-parameters.

    Returns:
      Images `[V, H, W, C]` in [0, 1], as of `regularized_mle`.

    Raises:
      ValueError: if a number of steps is negative, or labels or features do not fit.
    """
    shadow, _ = fit(key, knowledge, config)
    known = SplitWhiteBox(knowledge.features, knowledge.shape, shadow)
    return regularized_mle.attack(key, known, config.inversion)
