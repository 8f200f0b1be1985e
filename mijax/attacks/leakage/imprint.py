"""Robbing the Fed: a malicious server plants a layer that sorts examples into bins.

Fowl, Geiping, Czaja, Goldblum, Goldstein (2022). Before the honest model comes a layer
of k units, all of the same weights (the mean brightness of an image) and of biases at
the k quantiles of that brightness. A unit is active for the images that are brighter
than its quantile, so that the difference of neighboring units' gradients is that of the
images in one bin; where a bin holds one image, the ratio of its weight's and bias's
gradient is that image, exactly, however large the batch.

The server sends `plant(target, public, bins)` in place of the model.

Departures from the paper: quantiles are those of the public images, where the paper
fits a normal distribution; units feed back into all pixels with one fixed gain in place
of a second layer with equal weights.

References:
  Fowl et al. Robbing the Fed: directly obtaining private data in federated learning
  with modified models. ICLR 2022. arXiv:2110.13057.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mijax import core
from mijax.core import Network, Target, pytree
from mijax.knowledge import SharedUpdate, standardized

_ROUNDING = 1e-6  # gradients of bins that differ by less, as a share, hold nobody


@dataclasses.dataclass(frozen=True)
class _Planted(Network):
    """A network behind an imprint layer; parameters are `{"imprint", "model"}`."""

    network: Network
    gain: float

    def _imprinted(self, params: Any, x: Array) -> Array:
        layer = params["imprint"]
        units = x.reshape(x.shape[0], -1) @ layer["kernel"] + layer["bias"][None]
        seen = jnp.mean(jax.nn.relu(units), 1)
        return x + self.gain * seen.reshape(-1, *[1] * (x.ndim - 1))

    def __call__(self, params: Any, x: Array) -> Any:
        return self.network(params["model"], self._imprinted(params, x))

    def split(self, params: Any) -> tuple[Any, Any]:
        trained, rest = self.network.split(params["model"])
        return {"imprint": params["imprint"], "model": trained}, rest

    def join(self, trained: Any, rest: Any) -> Any:
        model = self.network.join(trained["model"], rest)
        return {"imprint": trained["imprint"], "model": model}

    def running(self, params: Any) -> Any:
        return self.network.running(params["model"])

    def observe(self, params: Any, x: Array, train: bool) -> tuple[Any, Any]:
        x = self._imprinted(params, x)
        return self.network.observe(params["model"], x, train)


def plant(target: Target, public: Array, bins: int, gain: float = 1.0) -> Target:
    """Returns the model that a malicious server sends in place of another.

    Args:
      target: the honest model.
      public: images from which brightness is learned, `[M, *shape]`.
      bins: units, and parts of equal probability that brightness is divided into.
      gain: how much of the units' mean is added to every pixel.

    Raises:
      ValueError: if there are fewer than two bins, or more than public images, or if
        those are of another shape.
    """
    pixels = int(np.prod(target.shape))
    if public.shape[1:] != target.shape:
        raise ValueError(
            f"The public images are {public.shape[1:]} but the target takes "
            f"{target.shape}: resize or convert them first."
        )
    if bins < 2:
        raise ValueError(f"bins is {bins}: it must be 2 or more.")
    if bins > len(public):
        raise ValueError(
            f"bins is {bins} but there are {len(public)} public images to learn their "
            "edges from: give more images, or fewer bins."
        )
    brightness = jnp.mean(public.reshape(len(public), -1), 1)
    edges = jnp.quantile(brightness, jnp.arange(bins) / bins)
    edges = edges.at[0].add(-1.0)  # Also darker images than any public one.
    layer = {"kernel": jnp.full((pixels, bins), 1 / pixels), "bias": -edges}
    planted = _Planted(target.network, gain)
    params = {"imprint": layer, "model": target.params}
    return Target(params, planted, target.shape, target.num_classes)


def expected_rate(bins: int, batch_size: int) -> float:
    """Returns the share of a batch that is expected to be alone in its bin.

    If all bins are equally probable: `(1 - 1 / bins) ** (batch_size - 1)`.
    """
    return (1 - 1 / bins) ** (batch_size - 1)


@pytree
class Config:
    """There is nothing to choose: the layer was chosen when it was planted."""


def attack(
    key: Array, knowledge: SharedUpdate, config: Config = Config()
) -> core.Reconstruction:
    """Recovers most images of a large batch exactly, through a planted layer.

    Args:
      key: not used, as nothing is drawn; the key is consumed.
      knowledge: of V victims, whose target was made by `plant`.
      config: empty.

    Returns:
      Images `[V, B, *shape]`, first those of which the gradient holds most; a bin of
      several images gives their mixture, and where there are fewer bins than images the
      mean of the batch fills the rest. The loss is the share of such rest.

    Raises:
      ValueError: if the target holds no planted layer, or if the clients took more than
        one local step.
    """
    del key, config
    mean, deviation = knowledge.mean, knowledge.deviation
    if not isinstance(knowledge.target.function, _Planted):
        raise ValueError(
            "The target holds no imprint layer: the server must have sent "
            "mijax.attacks.imprint.plant(target, public, bins)."
        )
    knowledge = knowledge.checked()
    if knowledge.recipe.local_steps > 1:
        raise ValueError(
            f"local_steps is {knowledge.recipe.local_steps}: bins tell images apart "
            "after one step at most."
        )
    layer, batch = knowledge.update["imprint"], knowledge.batch_size

    def of_victim(weight: Array, bias: Array) -> tuple[Array, Array]:
        # From images brighter than an edge to those between it and the next one.
        mixed = jnp.diff(weight.T, axis=0, append=0)  # [k, F]
        mass = jnp.diff(bias, append=0)  # [k]
        slots = jnp.argsort(-jnp.abs(mass))[jnp.arange(batch) % len(bias)]
        held = jnp.abs(mass[slots]) > _ROUNDING * jnp.max(jnp.abs(bias))
        held &= jnp.arange(batch) < len(bias)
        images = mixed[slots] / jnp.where(held, mass[slots], 1)[:, None]
        mixture = weight[:, 0] / bias[0]
        images = jnp.where(held[:, None], images, mixture[None])
        images = images.reshape(batch, *knowledge.target.shape)
        pixels = standardized.to_pixels(images, mean, deviation)
        return jnp.clip(pixels, 0, 1), 1 - jnp.mean(held)

    images, loss = jax.vmap(of_victim)(layer["kernel"], layer["bias"])
    return core.choose(images[:, None], loss[:, None], loss[:, None, None])
