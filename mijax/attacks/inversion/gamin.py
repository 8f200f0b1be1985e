"""GAMIN: a generator and a surrogate of the target, trained together by queries alone.

Aivodji, Gambs, Ther (2019), black box, with no images. For each label y a surrogate S
learns the target F's answers to generated images and to noise, and a generator G
learns images that S takes for y. With l the cross-entropy and x_G = G(z), they minimize

    L_S = l(S(x_G), F(x_G)) + l(S(noise), F(noise)) - k l(S(x_G), y)
    L_G = l(S(x_G), y)

As in BEGAN, k keeps the two in balance: after each step it moves by
`balance_rate (balance l(S(x_G), F(x_G)) - l(S(x_G), y))` within [0, 1]. The measure of
convergence is l(S(x_G), y) plus the absolute value of that bracket.

A target that takes x_G for y does not show that x_G looks like y: with no prior of
images, most of what is found are fooling patterns.

Departures: both networks are perceptrons; training has a fixed number of steps, where
the paper stops by the measure of convergence; the rates of Adam, `balance` and
`balance_rate` could not be checked against the paper.

References:
  Aivodji, Gambs, Ther. GAMIN: an adversarial approach to black-box model inversion.
  arXiv 2019. arXiv:1909.11835.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array, lax

from mijax.core import Reconstruction, choose, hyper_parameters, pytree, static
from mijax.knowledge import Scores
from mijax.models.decoders import perceptron
from mijax.models.mlp import MLP


def classifier(classes: int) -> nn.Module:
    """Returns a surrogate of one hidden layer."""
    return MLP(classes, (256,), nn.relu)


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      generator: of images of this shape, `(H, W, C) -> module`.
      surrogate: of the target, from the number of classes; returns a `Prediction`.
      steps: of training.
      batch_size: generated images a step, and as many of noise, each asked about.
      restarts: images drawn of the generator at the end.
      latent_size: of the generator, whose latents are N(0, 1).
      learning_rate: of Adam, of the surrogate.
      generator_rate: of Adam, of the generator. It must be slow: one that is ahead of
        its surrogate ends in images of 0 and 1, which nothing moves any more.
      balance: of the surrogate's loss and the generator's.
      balance_rate: of k.
    """

    generator: Callable[[tuple[int, ...]], nn.Module] = static(default=perceptron)
    surrogate: Callable[[int], nn.Module] = static(default=classifier)
    steps: int = static(default=2500)
    batch_size: int = static(default=32)
    restarts: int = static(default=16)
    latent_size: int = static(default=32)
    learning_rate: float | Array = 1e-3
    generator_rate: float | Array = 1e-4
    balance: float | Array = 0.5
    balance_rate: float | Array = 0.01


@pytree
class Trained:
    """A generator and a surrogate for each label.

    Attributes:
      generators: variables, leaves `[V, ...]`.
      surrogates: variables, leaves `[V, ...]`.
      trace: the measure of convergence, `[V, steps]`.
      balances: k after each step, `[V, steps]`.
      asked: the knowledge, with the queries counted.
    """

    generators: Any
    surrogates: Any
    trace: Array
    balances: Array
    asked: Scores


def attack(key: Array, knowledge: Scores, config: Config = Config()) -> Reconstruction:
    """Recovers images that the target takes for each label.

    Args:
      key: of training and of what is drawn at the end; it is consumed.
      knowledge: a query, and the labels.
      config: hyper-parameters.

    Returns:
      Images `[V, H, W, C]` in [0, 1]: of `restarts` that are drawn, the one that the
      surrogate is surest of. The losses are the surrogate's, the trace is the measure
      of convergence, the same for each restart.

    Raises:
      ValueError: if labels are wrong, `steps` is negative, or another number below 1.
    """
    train_key, draw_key = jax.random.split(key)
    trained = train(train_key, knowledge, config)
    found = generate(draw_key, trained, config)
    return dataclasses.replace(found, queries=found.queries - knowledge.spent)


def generate(key: Array, trained: Trained, config: Config = Config()) -> Reconstruction:
    """Returns what `attack` does, of pairs that are trained. The key is consumed."""
    images = draw(key, trained, config, config.restarts)
    logits = surrogate(trained, config, images)
    labels = jnp.broadcast_to(trained.asked.labels[:, None], logits.shape[:2])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    trace = jnp.broadcast_to(
        trained.trace[:, None], (*losses.shape, trained.trace.shape[1])
    )
    return choose(images, losses, trace, trained.asked.spent)


def draw(key: Array, trained: Trained, config: Config, number: int) -> Array:
    """Draws images of each label's generator, `[V, number, H, W, C]`.

    The key is consumed.
    """
    victims = len(trained.asked.labels)
    z = jax.random.normal(key, (victims, number, config.latent_size))
    generator = config.generator(trained.asked.shape)
    return jax.vmap(generator.apply)(trained.generators, z)  # type: ignore[return-value]


def surrogate(trained: Trained, config: Config, images: Array) -> Array:
    """Returns the surrogates' logits of their own images `[V, B, ...]`, `[V, B, K]`."""
    module = config.surrogate(trained.asked.num_classes)
    return jax.vmap(module.apply)(trained.surrogates, images).logits  # type: ignore[union-attr]


def train(key: Array, knowledge: Scores, config: Config = Config()) -> Trained:
    """Trains the pairs of all labels side by side; asks `2 V batch_size` a step.

    Args and errors are those of `attack`. The key is consumed.
    """
    knowledge.check_labels()
    if config.steps < 0:
        raise ValueError(f"steps is {config.steps}: it must be 0 or more.")
    for name in ("batch_size", "restarts", "latent_size"):
        if getattr(config, name) < 1:
            raise ValueError(
                f"{name} is {getattr(config, name)}: it must be 1 or more."
            )
    labels, shape = knowledge.labels, knowledge.shape
    victims, batch = len(labels), config.batch_size
    generator = config.generator(shape)
    module = config.surrogate(knowledge.num_classes)
    adam, slow = optax.adam(config.learning_rate), optax.adam(config.generator_rate)

    def generate(params: Any, z: Array) -> Array:
        return generator.apply(params, z)  # type: ignore[return-value]

    def said(params: Any, images: Array) -> Array:
        prediction: Any = module.apply(params, images)
        return jax.nn.log_softmax(prediction.logits)

    def generator_loss(params: Any, own: Any, z: Array, label: Array) -> Array:
        return -jnp.mean(said(own, generate(params, z))[:, label])

    def surrogate_loss(
        own: Any, images: Array, scores: Array, label: Array, k: Array
    ) -> tuple[Array, tuple[Array, Array]]:
        logs = said(own, images)
        entropies = -jnp.sum(scores * logs, -1)
        of_generated, of_noise = jnp.split(entropies, 2)
        copied, wanted = jnp.mean(of_generated), -jnp.mean(logs[:batch, label])
        return copied + jnp.mean(of_noise) - k * wanted, (copied, wanted)

    def step(state: Any, key: Array) -> tuple[Any, Any]:
        generators, surrogates, opt_states, k, asked = state
        z_key, noise_key = jax.random.split(key)
        z = jax.random.normal(z_key, (victims, batch, config.latent_size))
        noise = jax.random.uniform(noise_key, (victims, batch, *shape))
        images = jnp.concatenate([jax.vmap(generate)(generators, z), noise], 1)
        scores, asked = asked.query(images.reshape(-1, *shape))
        scores = scores.reshape(victims, 2 * batch, -1)
        slopes, (copied, wanted) = jax.vmap(jax.grad(surrogate_loss, has_aux=True))(
            surrogates, images, scores, labels, k
        )
        updates, first = jax.vmap(adam.update)(slopes, opt_states[0])
        surrogates = optax.apply_updates(surrogates, updates)
        slopes = jax.vmap(jax.grad(generator_loss))(generators, surrogates, z, labels)
        updates, second = jax.vmap(slow.update)(slopes, opt_states[1])
        generators = optax.apply_updates(generators, updates)
        off = config.balance * copied - wanted
        k = jnp.clip(k + config.balance_rate * off, 0.0, 1.0)
        state = generators, surrogates, (first, second), k, asked
        return state, (wanted + jnp.abs(off), k)

    init_key, step_key = jax.random.split(key)

    def init(key: Array) -> tuple[Any, Any]:
        keys = jax.random.split(key)
        latents = jnp.zeros((1, config.latent_size))
        images = jnp.zeros((1, *shape))
        return generator.init(keys[0], latents), module.init(keys[1], images)

    generators, surrogates = jax.vmap(init)(jax.random.split(init_key, victims))
    opt_states = jax.vmap(adam.init)(surrogates), jax.vmap(slow.init)(generators)
    spent = jnp.asarray(knowledge.spent, jnp.int32)
    asked = dataclasses.replace(knowledge, spent=spent)
    state = generators, surrogates, opt_states, jnp.zeros(victims), asked
    (generators, surrogates, _, _, asked), (trace, balances) = lax.scan(
        step, state, jax.random.split(step_key, config.steps)
    )
    return Trained(generators, surrogates, trace.T, balances.T, asked)
