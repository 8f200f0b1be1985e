"""mGAN-AI: the server generates what one client's data look like, and no one else's.

Wang et al. (2019). From each client's update of each round the server reconstructs
representatives of its batch,

    |update of the guess - update observed|^2 + tv_weight * total variation,

by L-BFGS, with labels that the update gives away. Then it trains a GAN. The
discriminator starts as the shared model and has three heads: real or generated, the
class, and the identity, the victim's or another's. Its real images are the clients'
representatives. The generator is told a class, and rewarded where all three heads take
its image for a real one of that class and of the victim.

`identity=False` leaves the third head out of the generator's reward: the baseline,
which learns what all clients have in common. A server that isolates its victim (the
paper's active attack) is a `ServerSeat.of(..., isolated=True)`.

Departures from the paper: the generator is a perceptron and both are trained by Adam;
the server has no public images of its own; total variation is that of
`mijax.attacks.leakage`.

References:
  Wang, Song, Zhang, Song, Wang, Qi. Beyond inferring class representatives: user-level
  privacy leakage from federated learning. INFOCOM 2019. arXiv:1812.00535.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array, lax

from mijax import core
from mijax.attacks.leakage import (
    gradient_distance,
    image_search,
    initial_images,
    label_rules,
)
from mijax.attacks.leakage.gradient_distance import Distance
from mijax.attacks.leakage.initial_images import Seed
from mijax.attacks.leakage.label_rules import Rule
from mijax.attacks.leakage.total_variation import refuse_flat, total_variation
from mijax.core import Target, hyper_parameters, static
from mijax.knowledge import ServerSeat, SharedUpdate
from mijax.models.decoders import perceptron


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      rounds: that are observed, T.
      steps: calls of L-BFGS for the representatives of each round.
      inner: iterations a call.
      history: pairs that L-BFGS remembers.
      restarts: first guesses of each batch.
      seed: first images, one of `mijax.attacks.leakage.initial_images`.
      distance: one of `mijax.attacks.leakage.gradient_distance`.
      label_rule: one of `mijax.attacks.leakage.label_rules`.
      learning_rate: of L-BFGS.
      tv_weight: of total variation.
      identity: whether the generator is rewarded for the victim's identity.
      generator_steps: of generator and discriminator in turn.
      batch_size: images a step, generated and real.
      samples: that are returned, S.
      latent_size: of the generator, whose latents are uniform in [-1, 1].
      generator: from the shape of an image.
      generator_rate: of Adam for both, with a momentum of 0.5.
    """

    rounds: int = static(default=15)
    steps: int = static(default=15)
    inner: int = static(default=20)
    history: int = static(default=20)
    restarts: int = static(default=1)
    seed: Seed = static(default=initial_images.uniform)
    distance: Distance = static(default=gradient_distance.squared)
    label_rule: Rule = static(default=label_rules.bias_corrected)
    learning_rate: float | Array = 1.0
    tv_weight: float | Array = 1e-6
    identity: bool = static(default=True)
    generator_steps: int = static(default=1_500)
    batch_size: int = static(default=32)
    samples: int = static(default=64)
    latent_size: int = static(default=16)
    generator: Callable[[tuple[int, ...]], nn.Module] = static(default=perceptron)
    generator_rate: float | Array = 1e-3

    def __post_init__(self) -> None:
        """Raises a ValueError if a number is out of its range."""
        for name in ("rounds", "generator_steps", "batch_size", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}: it must be 1 or more."
                )
        if self.latent_size < 1:
            raise ValueError(
                f"latent_size is {self.latent_size}: it must be 1 or more."
            )


class Representatives(NamedTuple):
    """What the server reconstructed in each of T rounds; of V clients the victim first.

    Attributes:
      x: `[T, V, B, *shape]`.
      labels: `[T, V, B]`.
      loss: of each batch, `[T, V]`.
    """

    x: Array
    labels: Array
    loss: Array


class Discriminator(NamedTuple):
    """The shared model with two more heads.

    Attributes:
      trunk: as `Target.trained`; its own head tells the class.
      heads: of features, one for real images and one for the victim's, `[F + 1, 2]`.
    """

    trunk: Any
    heads: Array

    def judge(self, target: Target, x: Array) -> tuple[Array, Array, Array]:
        """Returns logits of real `[B]`, class `[B, K]` and the victim `[B]`."""
        logits, features = target.with_trained(self.trunk).predict(x)
        features = logits if features is None else features
        real, victim = (features @ self.heads[:-1] + self.heads[-1:]).T
        return real, logits, victim


def attack(
    key: Array, knowledge: ServerSeat, config: Config = Config()
) -> core.Reconstruction:
    """Recovers what a client's images look like, class by class.

    Args:
      key: of first guesses, and of the GAN; the key is consumed.
      knowledge: a server's.
      config: hyper-parameters.

    Returns:
      Of one victim, S samples in place of a batch: `x` `[1, S, *shape]` and `labels`
      `[1, S]`, the classes asked for; there is one candidate. `trace` holds the
      generator's loss, `[1, 1, generator_steps + 1]`.

    Raises:
      ValueError: if the target takes no images, or if a rule of labels finds nothing to
        read.
    """
    watch_key, gan_key = jax.random.split(key)
    target, found = represent(watch_key, knowledge, config)
    return generate(gan_key, target, found, config)[0]


def represent(
    key: Array, knowledge: ServerSeat, config: Config = Config()
) -> tuple[Target, Representatives]:
    """Watches the training; returns the last model too. Takes what `attack` takes."""
    refuse_flat(knowledge.target.shape)

    def one(key: Array, shared: SharedUpdate) -> core.Reconstruction:
        shared, x, labels = image_search.begin(key, shared, config, config.label_rule)

        def objective(x: Array) -> Array:
            away, _ = gradient_distance.between(shared, x, labels, config.distance)
            return away + config.tv_weight * jnp.mean(total_variation(x), 2)

        found = image_search.lbfgs(objective, x, config)
        return image_search.end(found, found.best, labels)

    def watch(seat: ServerSeat, key: Array) -> tuple[ServerSeat, Representatives]:
        after, shared = seat.act()
        clients = jax.tree.leaves(shared.update)[0].shape[0]
        found = jax.vmap(one)(jax.random.split(key, clients), shared)
        labels = jnp.asarray(found.labels)[:, 0]
        return after, Representatives(found.x[:, 0], labels, found.loss[:, 0])

    keys = jax.random.split(key, config.rounds)
    seat, found = lax.scan(watch, knowledge, keys)
    return seat.target, found


def generate(
    key: Array, target: Target, known: Representatives, config: Config = Config()
) -> tuple[core.Reconstruction, Discriminator]:
    """Trains the GAN on representatives.

    Args:
      key: is consumed.
      target: where the discriminator starts.
      known: of `represent`.
      config: hyper-parameters.

    Returns:
      What `attack` does, and the discriminator.
    """
    victims = jnp.broadcast_to(
        (jnp.arange(known.x.shape[1]) == 0)[:, None], known.labels.shape
    ).reshape(-1)
    x = known.x.reshape(-1, *target.shape)
    labels, own = known.labels.reshape(-1), known.labels[:, 0].reshape(-1)
    module = config.generator(target.shape)
    adam = optax.adam(config.generator_rate, b1=0.5)

    def draw(params: Any, key: Array, number: int) -> tuple[Array, Array]:
        """Images, and the classes that were asked for: those that the victim has."""
        z_key, class_key = jax.random.split(key)
        wanted = jax.random.choice(class_key, own, (number,))
        z = jax.random.uniform(z_key, (number, config.latent_size), minval=-1)
        one_hot = jax.nn.one_hot(wanted, target.num_classes)
        return module.apply(params, jnp.concatenate([z, one_hot], 1)), wanted  # type: ignore[return-value]

    def reward(judge: Discriminator, images: Array, wanted: Array) -> Array:
        real, logits, victim = judge.judge(target, images)
        losses = jax.nn.softplus(-real) + _entropy(logits, wanted)
        if config.identity:
            losses += jax.nn.softplus(-victim)
        return jnp.mean(losses)

    def generator_loss(params: Any, judge: Discriminator, key: Array) -> Array:
        return reward(judge, *draw(params, key, config.batch_size))

    def judge_loss(judge: Discriminator, params: Any, key: Array) -> Array:
        rows_key, draw_key = jax.random.split(key)
        rows = jax.random.randint(rows_key, (config.batch_size,), 0, x.shape[0])
        real, logits, victim = judge.judge(target, x[rows])
        fake, _, _ = judge.judge(target, draw(params, draw_key, config.batch_size)[0])
        sign = jnp.where(victims[rows], -1, 1)
        losses = jax.nn.softplus(-real) + jax.nn.softplus(fake)
        losses += _entropy(logits, labels[rows]) + jax.nn.softplus(sign * victim)
        return jnp.mean(losses)

    def step(state: Any, key: Array) -> tuple[Any, Array]:
        params, judge, states = state
        judge_key, generator_key = jax.random.split(key)
        slope = jax.grad(judge_loss)(judge, params, judge_key)
        change, judge_state = adam.update(slope, states[1])
        judge = optax.apply_updates(judge, change)
        loss, slope = jax.value_and_grad(generator_loss)(params, judge, generator_key)
        change, generator_state = adam.update(slope, states[0])
        params = optax.apply_updates(params, change)
        return (params, judge, (generator_state, judge_state)), loss

    init_key, steps_key, sample_key = jax.random.split(key, 3)
    width = config.latent_size + target.num_classes
    params = module.init(init_key, jnp.zeros((1, width)))
    logits, features = target.predict(x[:1])
    size = (logits if features is None else features).shape[1]
    judge = Discriminator(target.trained, jnp.zeros((size + 1, 2)))
    state = params, judge, (adam.init(params), adam.init(judge))  # type: ignore[arg-type]
    (params, judge, _), trace = lax.scan(
        step, state, jax.random.split(steps_key, config.generator_steps)
    )
    images, wanted = draw(params, sample_key, config.samples)
    loss = reward(judge, images, wanted)
    found = core.choose(
        images[None, None],
        loss[None, None],
        jnp.append(trace, loss)[None, None],
        labels=wanted[None, None],
    )
    return found, judge


def _entropy(logits: Array, labels: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
