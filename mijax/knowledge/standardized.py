"""A model of standardized images, as one of images in [0, 1]."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from mijax.core import Network, Target, concrete


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


def refuse_numbers(shape: tuple[int, ...], mean: Any, deviation: Any) -> None:
    """Refuses means and deviations that standardize no image of `shape`.

    Raises:
      ValueError: if one is not finite, is a deviation of 0 or less, or if they are of
        another number of channels.
    """
    for name, given, least in (("mean", mean, -np.inf), ("deviation", deviation, 0)):
        if np.shape(given) not in ((), shape[-1:]):
            raise ValueError(
                f"{name} is {np.shape(given)}: give a number, or one a channel, "
                f"{shape[-1:]}."
            )
        numbers = concrete(jnp.asarray(given))
        if numbers is None:
            continue
        wrong = np.flatnonzero(~(np.isfinite(numbers) & (numbers > least)))
        if wrong.size:
            channel = f" of channel {wrong[0]}" if numbers.ndim else ""
            raise ValueError(
                f"{name}{channel} is {numbers.flat[wrong[0]]:g}: it must be finite"
                f"{' and above 0' if name == 'deviation' else ''}, as it standardized "
                "the images."
            )


def to_pixels(x: Array, mean: Any, deviation: Any) -> Array:
    """Returns standardized images `[..., C]` in [0, 1]; as they are if mean is None."""
    if mean is None:
        return x
    return x * jnp.broadcast_to(deviation, x.shape) + jnp.broadcast_to(mean, x.shape)
