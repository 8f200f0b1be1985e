"""What an adversary may hold beside the model: a prior, a decoder, a glimpse, paths."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from mijax.core.networks import Linen
from mijax.core.pytrees import pytree, static


@pytree
class Prior:
    """A generator of images from public data, and the critic it was trained with.

    A conditional prior's functions take labels `[B]` as a last argument.

    Attributes:
      generator: the parameters of `generate`.
      critic: the parameters of `criticize`.
      generate: `(generator, z [B, Z]) -> images [B, H, W, C]`.
      criticize: `(critic, images) -> [B]`, higher where more like public data.
      latent_size: Z.
      shape: of one image.
      draw: the law of the latents, `(generator, key, n) -> z [n, Z]`; None for a
        standard normal.
    """

    generator: Any
    critic: Any
    generate: Callable[..., Any] = static()
    criticize: Callable[..., Any] = static()
    latent_size: int = static()
    shape: tuple[int, ...] = static()
    draw: Callable[[Any, Array, int], Array] | None = static(default=None)

    @classmethod
    def from_linen(
        cls,
        generator: linen.Module,
        generator_variables: Any,
        critic: linen.Module,
        critic_variables: Any,
        latent_size: int,
    ) -> "Prior":
        """Makes a prior of two Linen modules and their variables."""
        z = jax.ShapeDtypeStruct((2, latent_size), jnp.float32)
        images = jax.eval_shape(Linen(generator), generator_variables, z)
        return cls(
            generator_variables,
            critic_variables,
            Linen(generator),
            Linen(critic),
            latent_size,
            images.shape[1:],
        )

    def sample(self, key: Array, n: int) -> Array:
        """Draws latents `[n, Z]` from the prior's own law. The key is consumed."""
        if self.draw is None:
            return jax.random.normal(key, (n, self.latent_size))
        return self.draw(self.generator, key, n)

    def images(self, z: Array, labels: Array | None = None) -> Array:
        """Generates `[B, H, W, C]` from latents `[B, Z]`, of classes `[B]` if given."""
        return self.generate(self.generator, z, *_given(labels))

    def score(self, x: Array, labels: Array | None = None) -> Array:
        """Returns the critic's score of images, `[B]`, as of classes `[B]` if given."""
        return self.criticize(self.critic, x, *_given(labels))

    def resized(self, height: int, width: int) -> "Prior":
        """Returns the prior of images `[height, width, C]`, resized linearly.

        The critic sees them resized back, as it was trained.
        """
        return dataclasses.replace(
            self,
            generate=_ResizedOutput(self.generate, height, width),
            criticize=_ResizedInput(self.criticize, *self.shape[:2]),
            shape=(height, width, *self.shape[2:]),
        )


def _given(labels: Array | None) -> tuple[Array, ...]:
    return () if labels is None else (labels,)


@dataclasses.dataclass(frozen=True)
class _ResizedOutput:
    """A generator and what becomes of its images."""

    generate: Callable[..., Any]
    height: int
    width: int

    def __call__(self, parameters: Any, z: Array, *labels: Array) -> Array:
        return _resize(self.generate(parameters, z, *labels), self.height, self.width)


@dataclasses.dataclass(frozen=True)
class _ResizedInput:
    """A critic and what becomes of images before it sees them."""

    criticize: Callable[..., Any]
    height: int
    width: int

    def __call__(self, parameters: Any, x: Array, *labels: Array) -> Array:
        return self.criticize(parameters, _resize(x, self.height, self.width), *labels)


def _resize(x: Array, height: int, width: int) -> Array:
    shape = x.shape[0], height, width, x.shape[3]
    return x if x.shape == shape else jax.image.resize(x, shape, "linear")


@pytree
class TemplateDecoder:
    """Images from a public network's embeddings (templates), learned on public images.

    Attributes:
      variables: the parameters of `decode`.
      center: the mean of public embeddings of unit length, `[F]`.
      spread: the square root of their covariance, `[F, F]`.
      decode: `(variables, embeddings [B, F]) -> images [B, H, W, C]`.
    """

    variables: Any
    center: Array
    spread: Array
    decode: Callable[[Any, Array], Array] = static()

    def images(self, templates: Array) -> Array:
        """Returns images `[B, H, W, C]` in [0, 1] of templates `[B, F]`."""
        return self.decode(self.variables, templates)

    def templates(self, weights: Array) -> Array:
        """Returns where a head's classes lie among embeddings of unit length.

        A head's training starts at random. Where embeddings hardly vary it learns
        nothing, and its weights stay noise: `spread` damps these directions.

        Args:
          weights: of a linear head on embeddings, `[K, F]`.

        Returns:
          Templates of unit length, `[K, F]`.
        """
        directions = _unit(
            (weights - jnp.mean(weights, 0, keepdims=True)) @ self.spread
        )
        radius = jnp.sqrt(jnp.maximum(1 - self.center @ self.center, 0))
        return _unit(self.center[None] + radius * directions)


def _unit(vectors: Array) -> Array:
    lengths = jnp.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / jnp.maximum(lengths, 1e-6)


@pytree
class Glimpse:
    """What is seen of a victim's private image: blurred, or a part of it.

    Attributes:
      image: what is seen, `[V, H, W, C]`.
      see: `images [B, H, W, C] -> what would be seen of them`; a pytree, such as a
        `jax.tree_util.Partial` of a function and its mask.
    """

    image: Array
    see: Callable[[Array], Array]


@pytree
class Paths:
    """A decision tree as its paths, each a box, and who took them in training.

    Attributes:
      low: a record takes a path where `low < x <= high` in every column, `[P, D]`.
      high: `[P, D]`.
      counts: training examples that took each path, by class, `[P, K]`.
    """

    low: Array
    high: Array
    counts: Array
