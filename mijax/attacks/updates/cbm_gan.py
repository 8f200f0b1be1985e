"""CBM-GAN: the images of an update of many, from answers before and after.

Salem, Bhattacharya, Backes, Fritz, Zhang (2020). As in `updates_leak` clones of a
shadow model are updated with sets of public images. An encoder E turns the difference d
of a clone's answers into a code, and a generator G makes images of the code and of
latents z. Against a critic D that tells images of the set from generated ones, G and E
minimize the best-match loss as well: each image x of the set must have a generated one
nearby,

    -log D(G(E(d), z)) + mean over x of min over z of |x - G(E(d), z)|^2

For a victim's update many images are generated and grouped by k-means into as many
groups as the set has images; the image nearest to each group's mean is returned, in no
order.

Departures, beside those of `updates_leak`: generator and critic are smaller and have no
batch normalization; as many images are generated of a clone's set as it has.

References:
  Salem, Bhattacharya, Backes, Fritz, Zhang. Updates-Leak: data set inference and
  reconstruction attacks in online learning. USENIX Security 2020. arXiv:1904.01067.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array, lax

from mijax.attacks.updates import updates_leak
from mijax.core import Reconstruction, choose, hyper_parameters, static
from mijax.knowledge.updated_model import UpdatedModel
from mijax.models.decoders import DenseDecoder
from mijax.models.mlp import MLP
from mijax.training import Training, TrainState


@hyper_parameters
class Config(updates_leak.Config):
    """Hyper-parameters, beside those of `updates_leak.Config`.

    Attributes:
      widths: of the encoder.
      code_size: of a difference.
      latent_size: of z, which is N(0, 1).
      generator_widths: of its hidden layers.
      critic_widths: of its hidden layers.
      match_weight: of the best-match loss, which is a sum over an image's pixels.
      samples: images generated of a victim's update, before they are grouped.
      groupings: steps of k-means.
      learning_rate: of Adam with a momentum of 0.5, of all networks.
    """

    summary: Callable[[Array], Array] = static(default=updates_leak.class_means)
    set_size: int = static(default=20)
    steps: int = static(default=1500)
    batch_size: int = static(default=16)
    learning_rate: float | Array = 2e-4
    code_size: int = static(default=50)
    latent_size: int = static(default=50)
    generator_widths: tuple[int, ...] = static(default=(256, 512))
    critic_widths: tuple[int, ...] = static(default=(256,))
    match_weight: float | Array = 1.0
    samples: int = static(default=400)
    groupings: int = static(default=10)


# `(key, difference [F], number) -> images [number, H, W, C]`
Draw = Callable[[Array, Array, int], Array]


def training(
    knowledge: UpdatedModel, config: Config = Config(), *, differences: Array
) -> Training[TrainState, Draw]:
    """Returns the training of encoder, generator and critic.

    Its data are `(differences [S, F], rows of the public images [S, U])`; its metrics
    are the generator's `loss` and its best-match part, `match`.
    """
    shape = knowledge.oracle.shape
    match_weight = config.match_weight * math.prod(shape)  # `match` is a mean.
    encoder = DenseDecoder((config.code_size,), config.widths, final=nn.tanh)
    generator = DenseDecoder(shape, config.generator_widths)
    critic = MLP(1, config.critic_widths, nn.leaky_relu)
    adam = optax.adam(config.learning_rate, b1=0.5)
    standardize = updates_leak.standardized(differences)

    def generate(makers: Any, difference: Array, z: Array) -> Array:
        code: Any = encoder.apply(makers[0], standardize(difference[None]))
        codes = jnp.broadcast_to(code, (len(z), config.code_size))
        return generator.apply(makers[1], jnp.concatenate([codes, z], 1))  # type: ignore[return-value]

    def score(variables: Any, images: Array) -> Array:
        prediction: Any = critic.apply(variables, images)
        return prediction.logits[:, 0]

    def init(key: Array) -> TrainState:
        keys = jax.random.split(key, 3)
        codes = jnp.zeros((1, config.code_size + config.latent_size))
        makers = (
            encoder.init(keys[0], differences[:1]),
            generator.init(keys[1], codes),
        )
        other = critic.init(keys[2], jnp.zeros((1, *shape)))
        return TrainState((makers, other), (adam.init(makers), adam.init(other)))

    def step(key: Array, state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        seen, rows = batch
        true = knowledge.public[rows]  # [B, U, H, W, C]
        z = jax.random.normal(key, (*rows.shape, config.latent_size))
        (makers, other), (first, second) = state.variables, state.opt_state

        def made(makers: Any) -> Array:
            return jax.vmap(generate, (None, 0, 0))(makers, seen, z)

        def scores(other: Any, images: Array) -> Array:
            return score(other, images.reshape(-1, *shape))

        def critic_loss(other: Any) -> Array:
            real, fake = scores(other, true), scores(other, made(makers))
            return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))

        updates, second = adam.update(jax.grad(critic_loss)(other), second)
        other = optax.apply_updates(other, updates)

        def maker_loss(makers: Any) -> tuple[Array, Array]:
            images = made(makers)
            match = jnp.mean(jax.vmap(best_match)(true, images))
            adversarial = jnp.mean(jax.nn.softplus(-scores(other, images)))
            return adversarial + match_weight * match, match

        (value, match), slopes = jax.value_and_grad(maker_loss, has_aux=True)(makers)
        updates, first = adam.update(slopes, first)
        makers = optax.apply_updates(makers, updates)
        metrics = {"loss": value, "match": match}
        return TrainState((makers, other), (first, second)), metrics

    def finish(state: TrainState) -> Draw:
        makers, _ = state.variables

        def draw(key: Array, difference: Array, number: int) -> Array:
            z = jax.random.normal(key, (number, config.latent_size))
            return generate(makers, difference, z)

        return draw

    return Training(init, step, finish)


def attack(
    key: Array, knowledge: UpdatedModel, config: Config = Config()
) -> Reconstruction:
    """Recovers the images of an update of `config.set_size`, in no order.

    Args:
      key: of the shadow model, its updates, the training and what is drawn at the end;
        it is consumed.
      knowledge: queries before and after, a probing set, and public data.
      config: hyper-parameters.

    Returns:
      Images `[V, U, H, W, C]` in [0, 1]; `trace` is the best-match loss of the
      training, the same for each victim.

    Raises:
      ValueError: if a set is larger than the public data or than what is generated,
        there is no step, or shapes do not fit.
    """
    if config.samples < config.set_size:
        raise ValueError(
            f"samples is {config.samples} but a set has {config.set_size} images: "
            "generate as many or more."
        )
    if config.steps < 1:
        raise ValueError(f"steps is {config.steps}: networks are trained in 1 or more.")
    pair_key, fit_key, draw_key = jax.random.split(key, 3)
    differences, rows = updates_leak.pairs(pair_key, knowledge, config)
    draw, metrics = training(knowledge, config, differences=differences).fit(
        fit_key,
        (differences, rows),
        batch_size=min(config.batch_size, config.clones),
        steps=config.steps,
    )
    seen, asked = updates_leak.observed(knowledge, config)

    def recover(difference: Array) -> Array:
        # The same latents for all: victims differ by their answers alone.
        images = draw(draw_key, difference, config.samples)
        return representatives(images, config.set_size, config.groupings)

    images = lax.map(recover, seen)[:, None]
    trace = jnp.broadcast_to(metrics["match"], (len(seen), 1, config.steps))
    return choose(images, trace[..., -1], trace, asked.spent - knowledge.spent)


def representatives(images: Array, number: int, steps: int) -> Array:
    """Returns the images nearest to the means of groups of alike ones.

    Groups are those of k-means from the first images on; a group that loses all of its
    images keeps its mean.

    Args:
      images: `[N, H, W, C]`.
      number: of groups.
      steps: of k-means.
    """

    def move(means: Array, _: None) -> tuple[Array, None]:
        nearest = jnp.argmin(_distances(images, means), 1)
        members = jax.nn.one_hot(nearest, number)
        counts = jnp.sum(members, 0)
        shape = (number, *[1] * (images.ndim - 1))
        sums = jnp.tensordot(members, images, (0, 0))
        new = sums / jnp.maximum(counts, 1).reshape(shape)
        return jnp.where(counts.reshape(shape) > 0, new, means), None

    means, _ = lax.scan(move, images[:number], length=steps)
    return images[jnp.argmin(_distances(images, means), 0)]


def best_match(true: Array, images: Array) -> Array:
    """Returns how far the nearest of `images [M, ...]` is from each true one, `[N]`."""
    distances = _distances(true, images)
    # The derivative of a minimum divides by how many entries equal it, and these are
    # none where XLA computes the distances twice and rounds them differently.
    nearest = jnp.argmin(distances, 1)[:, None]
    return jnp.take_along_axis(distances, nearest, 1)[:, 0]


def _distances(a: Array, b: Array) -> Array:
    """Mean squared differences of images `[N, ...]` and `[M, ...]`, `[N, M]`."""
    a, b = (x.reshape(len(x), -1) for x in (a, b))
    squares = jnp.mean(a**2, 1)[:, None] + jnp.mean(b**2, 1)[None]
    return jnp.maximum(squares - 2 * a @ b.T / a.shape[1], 0.0)
