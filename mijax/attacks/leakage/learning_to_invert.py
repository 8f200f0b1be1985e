"""Learning to Invert: a network is trained to turn updates back into images.

Wu, Chen, Guo, Weinberger (2023). The adversary has images like the victims', computes
what clients would share of them, through the very defense that clients use, and trains
a perceptron from those updates to the images by their squared error; a batch's images
count in the order that fits best. So it knows of every defense, and needs no search.

Departures from the paper:
- images are drawn from the knowledge's prior, without end, where there is one;
- labels of the images are drawn at random, as an adversary's images are of nobody whom
  the model knows;
- features are standardized by a batch of updates, and clipped to 10 deviations; they
  are hashed to `features` numbers where the update is longer (the authors do so for
  large models);
- the network is as wide as 512 by default, for a CPU; theirs is 3,000.

References:
  Wu et al. Learning to invert: simple adaptive attacks for gradient inversion in
  federated learning. UAI 2023. arXiv:2210.10880.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array

from mijax import core
from mijax.attacks.leakage import gradient_distance
from mijax.core import Defense, hyper_parameters, pytree, static
from mijax.federation import client_update
from mijax.knowledge import SharedUpdate
from mijax.training import Training

_MOST = 4  # images of a batch: 24 orders
_CLIP = 10.0


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      steps: of training.
      batch_size: updates a step.
      width: of the two hidden layers.
      features: numbers that an update is hashed to, at most.
      seed: of the training, which is the same for all victims.
      learning_rate: of Adam.
      defense: which the clients use, as the adversary knows.
    """

    steps: int = static(default=2_000)
    batch_size: int = static(default=64)
    width: int = static(default=512)
    features: int = static(default=4_096)
    seed: int = static(default=0)
    learning_rate: float | Array = 1e-3
    defense: Defense = Defense()


class Inverter(nn.Module):
    """A perceptron from an update's features to a batch of images in [0, 1].

    Attributes:
      shape: of the images, `[B, H, W, C]`.
      width: of the two hidden layers.
    """

    shape: tuple[int, ...]
    width: int

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Returns images `[N, B, H, W, C]` of features `[N, F]`."""
        h = nn.relu(nn.Dense(self.width)(features))
        h = nn.relu(nn.Dense(self.width)(h))
        images = nn.sigmoid(nn.Dense(int(np.prod(self.shape)))(h))
        return images.reshape(-1, *self.shape)


@pytree
class _State:
    variables: Any
    optimizer: Any
    mean: Array
    deviation: Array


def training(
    knowledge: SharedUpdate, config: Config = Config()
) -> Training[_State, Callable[[Any], Array]]:
    """Returns the training of the inverter, whose batches are images `[N * B, *shape]`.

    Its product maps updates, leaves `[V, ...]`, to images `[V, B, *shape]`.

    Raises:
      ValueError: if the batch is larger than 4, whose orders are too many.
    """
    knowledge = knowledge.checked()
    _refuse_config(config)
    target, batch, recipe = knowledge.target, knowledge.batch_size, knowledge.recipe
    if batch > _MOST:
        raise ValueError(
            f"batch_size is {batch}: the inverter is trained on every order of a "
            f"batch, which has {_MOST} images at most."
        )
    module = Inverter((batch, *target.shape), config.width)
    adam = optax.adam(config.learning_rate)
    orders = np.array(list(itertools.permutations(range(batch))))
    like = jax.tree.map(lambda leaf: leaf[0], knowledge.update)

    def shared(key: Array, x: Array) -> Any:
        """What clients share of images `[N, B, *shape]`, leaves `[N, ...]`."""
        label_key, share_key = jax.random.split(key)
        labels = jax.random.randint(label_key, x.shape[:2], 0, target.num_classes)

        def one(key: Array, x: Array, labels: Array) -> Any:
            update = client_update(recipe, target, x, labels, config.defense, key)
            return gradient_distance.as_shared(update.change, like)

        return jax.vmap(one)(jax.random.split(share_key, len(x)), x, labels)

    def hashed(update: Any) -> Array:
        """An update's numbers, signed and summed at random where they are many."""
        leaves = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(update)]
        numbers = jnp.concatenate(leaves, 1).astype(jnp.float32)
        length = numbers.shape[1]
        if length <= config.features:
            return numbers
        rng = np.random.default_rng(config.seed)
        sign = rng.choice([-1.0, 1.0], length).astype(np.float32)
        spare = -length % config.features
        numbers = jnp.pad(numbers * sign[None], ((0, 0), (0, spare)))
        order = rng.permutation(length + spare)  # A scatter is slow on CPU.
        groups = numbers[:, order].reshape(len(numbers), config.features, -1)
        return jnp.sum(groups, 2)

    def standardized(state: _State, update: Any) -> Array:
        centered = hashed(update) - state.mean[None]
        return jnp.clip(centered / state.deviation[None], -_CLIP, _CLIP)

    def images(key: Array, known: Array) -> Array:
        if knowledge.prior is not None:
            known = knowledge.prior.images(knowledge.prior.sample(key, len(known)))
        return known.reshape(-1, batch, *target.shape)

    def init(key: Array) -> _State:
        image_key, share_key, key = jax.random.split(key, 3)
        number = config.batch_size * batch
        known = jnp.zeros((number, *target.shape))
        if knowledge.public is not None:
            known = knowledge.public[np.arange(number) % len(knowledge.public)]
        first = hashed(shared(share_key, images(image_key, known)))
        deviation = jnp.std(first, 0)
        variables = module.init(key, first)
        least = 1e-3 * jnp.max(deviation) + 1e-12
        return _State(
            variables,
            adam.init(variables),
            jnp.mean(first, 0),
            jnp.maximum(deviation, least),
        )

    def step(key: Array, state: _State, known: Array) -> tuple[_State, Any]:
        image_key, share_key = jax.random.split(key)
        x = images(image_key, known)
        features = standardized(state, shared(share_key, x))

        def loss(variables: Any) -> Array:
            guess = module.apply(variables, features)
            assert isinstance(guess, Array)
            pairs = (guess[:, :, None] - x[:, None]) ** 2  # [N, B, B, *shape]
            costs = jnp.mean(pairs, range(3, pairs.ndim))
            ordered = jnp.mean(costs[:, np.arange(batch)[None], orders], 2)
            # By its index: where XLA computes costs twice and rounds them differently,
            # none may equal the minimum, and the derivative of that divides by 0.
            best = jnp.argmin(ordered, 1)[:, None]  # [N, 1] of [N, orders]
            return jnp.mean(jnp.take_along_axis(ordered, best, 1))

        value, gradient = jax.value_and_grad(loss)(state.variables)
        updates, optimizer = adam.update(gradient, state.optimizer)
        variables = optax.apply_updates(state.variables, updates)
        after = _State(variables, optimizer, state.mean, state.deviation)
        return after, {"loss": value}

    def finish(state: _State) -> Callable[[Any], Array]:
        def invert(update: Any) -> Array:
            found = module.apply(state.variables, standardized(state, update))
            assert isinstance(found, Array)
            return found

        return invert

    return Training(init, step, finish)


def _refuse_config(config: Config) -> None:
    """Raises ValueError if sizes are not positive, or the defense is none."""
    for name in ("batch_size", "width", "features"):
        if getattr(config, name) < 1:
            raise ValueError(
                f"{name} is {getattr(config, name)}: it must be 1 or more."
            )
    if not isinstance(config.defense, Defense):
        raise ValueError(
            f"defense is {config.defense!r}: give what the clients use, or Defense() "
            "for none."
        )


def attack(
    key: Array, knowledge: SharedUpdate, config: Config = Config()
) -> core.Reconstruction:
    """Recovers batches by a network that is trained through the clients' defense.

    Args:
      key: not used, as the training draws from `config.seed`, so that victims that are
        attacked apart meet the same network; the key is consumed.
      knowledge: of V victims with batches of 4 or fewer, and a `prior` or `public`
        images, as many as `config.batch_size` batches or more.
      config: hyper-parameters.

    Returns:
      Images `[V, B, *shape]` in [0, 1]; the trace, and the loss, are the training's.

    Raises:
      ValueError: if there are no such images, if batches are larger, if the update is
        not the target's, or if a number is out of its range.
    """
    del key
    learning, checked = training(knowledge, config), knowledge.checked()
    number, known = config.batch_size * checked.batch_size, checked.public
    if checked.prior is None and known is None:
        raise ValueError(
            "Learning to Invert trains on images like the victims': give the knowledge "
            "a prior, or public images."
        )
    if checked.prior is not None:
        known = jnp.zeros((number, *checked.target.shape))
    known = jnp.asarray(known)
    if len(known) < number:
        raise ValueError(
            f"There are {len(known)} public images, but a step takes {number}: "
            f"{config.batch_size} batches of {checked.batch_size}. Give more, or "
            "choose a smaller batch_size."
        )
    invert, metrics = learning.fit(
        jax.random.key(config.seed), known, batch_size=number, steps=config.steps
    )
    x = invert(checked.update)[:, None]
    last = metrics["loss"][-1:] if config.steps else jnp.full((1,), jnp.inf)
    trace = jnp.concatenate([metrics["loss"], last])
    rows = jnp.broadcast_to(trace[None, None], (checked.victims, 1, trace.size))
    return core.choose(x, rows[:, :, -1], rows)
