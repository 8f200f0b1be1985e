"""A malicious participant's GAN: the shared model is its discriminator.

Hitaj, Ateniese, Perez-Cruz (2017). Others have examples of a class that the adversary
has none of. Each round it trains a generator until the model that the server sent takes
its samples for that class, adds such samples to its own data under an artificial class,
and trains and shares as all do. The others then must tell their class from the samples,
and teach the model, hence the generator, more of what it looks like.

The artificial class is the model's last, which no one else uses. What is recovered
looks like the class; it is a training image only as far as all images of the class are
alike.

Departures from the paper: the generator is a perceptron, trained by Adam; participants
act in parallel, not in turns. The round that is returned is the one whose samples have
the lowest loss under the next round's model, which was taught against them.

References:
  Hitaj, Ateniese, Perez-Cruz. Deep models under the GAN: information leakage from
  collaborative deep learning. CCS 2017. arXiv:1702.07464.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array, lax

from mijax import core
from mijax.core import Reconstruction, Target, hyper_parameters, static
from mijax.federation import batch_losses, client_update
from mijax.knowledge import FederationSeat
from mijax.models.decoders import perceptron


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      rounds: of the training that the adversary takes part in.
      steps: of the generator in each round.
      batch_size: samples a step.
      injected: samples in each local batch of the adversary; the rest is its own data.
      samples: how many are kept of each round, B.
      latent_size: of the generator, whose latents are uniform in [-1, 1].
      generator: from the shape of an image.
      learning_rate: of Adam, with a momentum of 0.5.
    """

    rounds: int = static(default=80)
    steps: int = static(default=40)
    batch_size: int = static(default=32)
    injected: int = static(default=8)
    samples: int = static(default=16)
    latent_size: int = static(default=32)
    generator: Callable[[tuple[int, ...]], nn.Module] = static(default=perceptron)
    learning_rate: float | Array = 2e-4

    def __post_init__(self) -> None:
        """Raises a ValueError if a number is out of its range."""
        for name in ("rounds", "steps", "batch_size", "samples", "latent_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}: it must be 1 or more."
                )
        if self.injected < 0:
            raise ValueError(f"injected is {self.injected}: it must be 0 or more.")


def attack(
    key: Array, knowledge: FederationSeat, config: Config = Config()
) -> Reconstruction:
    """Recovers typical images of a class that only other participants have.

    Args:
      key: of the generator and of the adversary's batches; the key is consumed.
      knowledge: with the class `wanted`.
      config: hyper-parameters.

    Returns:
      Of one victim, the class, with B samples in place of a batch: `x`
      `[1, B, *shape]`. The candidates are the rounds, `[1, rounds, B, *shape]`; their
      losses are cross-entropies at the next round's model, and `trace` holds the
      generator's own, `[1, rounds, steps + 1]`.

    Raises:
      ValueError: if no class is wanted, or more samples are injected than a local batch
        has examples.
    """
    return take_part(key, knowledge, config)[1]


def take_part(
    key: Array, knowledge: FederationSeat, config: Config = Config()
) -> tuple[FederationSeat, Reconstruction]:
    """Returns the seat after the last round as well; takes what `attack` takes."""
    recipe, wanted = knowledge.recipe, knowledge.wanted
    if wanted is None:
        raise ValueError("No class is wanted: give the seat one that others have.")
    size = recipe.local_batch or knowledge.batch_size
    if config.injected > size:
        raise ValueError(
            f"injected is {config.injected}, more than the {size} examples of a local "
            "batch."
        )
    module = config.generator(knowledge.target.shape)
    adam = optax.adam(config.learning_rate, b1=0.5)

    def generate(params: Any, key: Array, number: int) -> Array:
        z = jax.random.uniform(key, (number, config.latent_size), minval=-1)
        return module.apply(params, z)  # type: ignore[return-value]

    def loss(params: Any, key: Array, target: Target, number: int) -> Array:
        labels = jnp.full(number, wanted)
        x = generate(params, key, number)
        return jnp.mean(batch_losses(recipe, target.predict(x), labels))

    def own_change(key: Array, seat: FederationSeat, params: Any) -> Any:
        rows_key, z_key = jax.random.split(key)
        batches, own = knowledge.batch_size // size, size - config.injected
        rows = jax.random.randint(rows_key, (batches, own), 0, seat.x.shape[0])
        fakes = generate(params, z_key, batches * config.injected)
        fakes = fakes.reshape(batches, config.injected, *fakes.shape[1:])
        artificial = jnp.full(fakes.shape[:2], seat.target.num_classes - 1)
        x = jnp.concatenate([seat.x[rows], fakes], 1)
        labels = jnp.concatenate([seat.labels[rows], artificial], 1)
        x, labels = x.reshape(-1, *x.shape[2:]), labels.reshape(-1)
        return client_update(recipe, seat.target, x, labels).change

    def play(state: Any, key: Array) -> tuple[Any, Any]:
        params, opt_state, seat = state
        step_key, own_key, sample_key = jax.random.split(key, 3)

        def step(state: Any, key: Array) -> tuple[Any, Array]:
            params, opt_state = state
            value, slope = jax.value_and_grad(loss)(
                params, key, seat.target, config.batch_size
            )
            updates, opt_state = adam.update(slope, opt_state)
            return (optax.apply_updates(params, updates), opt_state), value

        (params, opt_state), trace = lax.scan(
            step, (params, opt_state), jax.random.split(step_key, config.steps)
        )
        end = loss(params, sample_key, seat.target, config.samples)
        seat = seat.act(own_change(own_key, seat, params))
        told = loss(params, sample_key, seat.target, config.samples)
        images = generate(params, sample_key, config.samples)
        return (params, opt_state, seat), (images, told, jnp.append(trace, end))

    init_key, rounds_key = jax.random.split(key)
    params = module.init(init_key, jnp.zeros((1, config.latent_size)))
    state = params, adam.init(params), knowledge
    (_, _, seat), (images, losses, trace) = lax.scan(
        play, state, jax.random.split(rounds_key, config.rounds)
    )
    return seat, core.choose(images[None], losses[None], trace[None])
