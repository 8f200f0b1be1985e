"""First guesses of a batch of images.

Each is `(key, shape [B, H, W, C], similar) -> images`, where `similar` are images of
the same classes, of that shape, or None where the adversary has none.

References:
  Wei et al. A framework for evaluating gradient leakage attacks in federated learning
  (CPL). ESORICS 2020. arXiv:2004.10397.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from mijax.batching import keys_of
from mijax.knowledge import SharedUpdate

Seed = Callable[[Array, tuple[int, ...], Array | None], Array]


def normal(key: Array, shape: tuple[int, ...], similar: Array | None) -> Array:
    """Standard normal pixels, DLG's."""
    del similar
    return jax.random.normal(key, shape)


def uniform(key: Array, shape: tuple[int, ...], similar: Array | None) -> Array:
    """Uniform pixels in [0, 1]."""
    del similar
    return jax.random.uniform(key, shape)


def gray_noise(key: Array, shape: tuple[int, ...], similar: Array | None) -> Array:
    """Normal pixels of mean 1/2 and deviation 1/4: normal for standardized images."""
    del similar
    return 0.5 + 0.25 * jax.random.normal(key, shape)


@dataclasses.dataclass(frozen=True)
class Patterned:
    """A random square of uniform pixels, tiled over the image.

    Attributes:
      side: of the square, in pixels; a last tile that does not fit is cut.
    """

    side: int = 8

    def __post_init__(self) -> None:
        """Refuses a square that is none."""
        if self.side < 1:
            raise ValueError(f"side is {self.side}: it must be 1 or more.")

    def __call__(
        self, key: Array, shape: tuple[int, ...], similar: Array | None
    ) -> Array:
        """Draws a square for each image."""
        del similar
        if len(shape) != 4:
            raise ValueError(
                f"Examples are of shape {shape[1:]}, but a square is tiled over images "
                "(H, W, C): choose another seed, such as initial_images.uniform."
            )
        batch, height, width, channels = shape
        square = jax.random.uniform(key, (batch, self.side, self.side, channels))
        times = 1, -(-height // self.side), -(-width // self.side), 1
        return jnp.tile(square, times)[:, :height, :width]


@dataclasses.dataclass(frozen=True)
class Constant:
    """One color everywhere.

    Attributes:
      color: one number for all channels, or one for each.
    """

    color: tuple[float, ...] = (0.5,)

    def __call__(
        self, key: Array, shape: tuple[int, ...], similar: Array | None
    ) -> Array:
        """Returns the same images for any key."""
        del key, similar
        color = jnp.asarray(self.color, jnp.float32)
        return jnp.broadcast_to(color[None, None, None], shape)


def same_class(key: Array, shape: tuple[int, ...], similar: Array | None) -> Array:
    """The image of the same class that the adversary has.

    Raises:
      ValueError: if there is none.
    """
    del key, shape
    if similar is None:
        raise ValueError(
            "The seed is an image of the same class: give the knowledge `similar` ones."
        )
    return similar


DARK = Constant((0.0,))
LIGHT = Constant((1.0,))
RED = Constant((1.0, 0.0, 0.0))
GREEN = Constant((0.0, 1.0, 0.0))
BLUE = Constant((0.0, 0.0, 1.0))


def sown(seed: Seed, key: Array, knowledge: SharedUpdate, restarts: int) -> Array:
    """Draws the first guesses of all victims and restarts, `[V, R, B, *shape]`.

    Args:
      seed: one of this module.
      key: one key, or one a victim; it is consumed.
      knowledge: of V victims.
      restarts: R.

    Raises:
      ValueError: if `restarts` is not positive.
    """
    if restarts < 1:
        raise ValueError(f"restarts is {restarts}: it must be 1 or more.")
    keys = jax.vmap(lambda key: jax.random.split(key, restarts))(
        keys_of(key, knowledge.victims)
    )
    shape = knowledge.batch_size, *knowledge.target.shape

    def of_victim(keys: Array, similar: Array | None) -> Array:
        return jax.vmap(lambda key: seed(key, shape, similar))(keys)

    return jax.vmap(of_victim)(keys, knowledge.similar)
