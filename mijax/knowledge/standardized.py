"""A model of standardized images, as one of images in [0, 1]."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import Array

from mijax.core import Network, Target


@dataclasses.dataclass(frozen=True)
class _Standardized(Network):
    """A network behind `(x - mean) / deviation`, neither of which is trained."""

    network: Network

    def __call__(self, params: Any, x: Array) -> Any:
        return self.network(params["model"], _standardize(params, x))

    def split(self, params: Any) -> tuple[Any, Any]:
        trained, rest = self.network.split(params["model"])
        return trained, {**params, "model": rest}

    def join(self, trained: Any, rest: Any) -> Any:
        return {**rest, "model": self.network.join(trained, rest["model"])}

    def running(self, params: Any) -> Any:
        return self.network.running(params["model"])

    def observe(self, params: Any, x: Array, train: bool) -> tuple[Any, Any]:
        x = _standardize(params, x)
        return self.network.observe(params["model"], x, train)


def _standardize(params: Any, x: Array) -> Array:
    mean, deviation = (
        jnp.broadcast_to(params[name], x.shape) for name in ("mean", "deviation")
    )
    return (x - mean) / deviation


def of_pixels(target: Target, mean: Any, deviation: Any) -> Target:
    """Returns the target as one that takes images in [0, 1].

    Its gradients are those of the target for the standardized images.

    Args:
      target: of images `(x - mean) / deviation`.
      mean: a number, or one a channel, `[C]`.
      deviation: as `mean`.
    """
    params = {
        "model": target.params,
        "mean": jnp.asarray(mean),
        "deviation": jnp.asarray(deviation),
    }
    return Target(
        params, _Standardized(target.network), target.shape, target.num_classes
    )


def to_pixels(x: Array, mean: Any, deviation: Any) -> Array:
    """Returns standardized images `[..., C]` in [0, 1]; as they are if mean is None."""
    if mean is None:
        return x
    return x * jnp.broadcast_to(deviation, x.shape) + jnp.broadcast_to(mean, x.shape)
