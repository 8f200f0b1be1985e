"""Distributed selective SGD: participants download and upload a part of the model.

Each participant keeps a copy of its own. In its turn it downloads the `download` share
of the parameters that all have uploaded most often, trains, and uploads the `upload`
share of its changes that are largest, clipped, thresholded and with noise.

Departures from the paper: the participants of a round act in parallel, and the server
takes the mean of what they upload (`server_rate` times it); in the paper they take
turns, and the server adds. With both shares 1 a round is federated averaging. The noise
is added to what was selected without noise, so that it guarantees nothing; the paper's
selection is private too.

References:
  Shokri, Shmatikov. Privacy-preserving deep learning. CCS 2015.
  doi:10.1145/2810103.2813687.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from mijax.core import concrete, hyper_parameters, static


@hyper_parameters
class Selective:
    """What is exchanged; fractions are sizes, the others numbers.

    Attributes:
      download: the share of the l parameters that a participant downloads, in (0, 1];
        `ceil(download * l)` of them.
      upload: the share of its changes that it uploads, in (0, 1].
      clip: the largest absolute value of a change that is uploaded; None for no bound.
      threshold: changes smaller than this are not uploaded.
      noise: scale of the Laplace noise on each number that is uploaded; None for none.
    """

    download: float = static(default=1.0)
    upload: float = static(default=0.1)
    clip: float | Array | None = None
    threshold: float | Array = 0.0
    noise: float | Array | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if a number is out of its range."""
        for name in ("download", "upload"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ValueError(
                    f"{name} is {value}: it is a share of the parameters, above 0 and "
                    "at most 1."
                )
        for name, least in (("clip", "positive"), ("threshold", ""), ("noise", "")):
            value = concrete(getattr(self, name))
            if value is not None and (value.min() < 0 or (least and value.min() == 0)):
                raise ValueError(
                    f"{name} is {value}: it must be {least or '0 or more'}."
                )


def number_of(share: float, length: int) -> int:
    """Returns `ceil(share * length)`, free of the product's rounding."""
    return math.ceil(round(share * length, 6))


def largest(x: Array, number: int) -> Array:
    """Returns which `number` of `x [l]` are the largest, the first of equal ones."""
    if number == x.size:
        return jnp.ones(x.size, bool)
    return jnp.zeros(x.size, bool).at[lax.top_k(x, number)[1]].set(True)


def download(
    key: Array, exchange: Selective, target: Array, local: Array, uploads: Array
) -> Array:
    """Returns a participant's copy `[l]` after its download.

    Args:
      key: decides between parameters that were uploaded as often; it is consumed.
      exchange: how much is downloaded.
      target: the server's parameters, `[l]`.
      local: the participant's copy, `[l]`.
      uploads: how often each parameter was uploaded, `[l]`.
    """
    number = number_of(exchange.download, target.size)
    if number == target.size:
        return target
    # Counts are integers: less than 1 added to each changes no order but of equals.
    order = uploads + jax.random.uniform(key, uploads.shape, maxval=0.5)
    return jnp.where(largest(order, number), target, local)


def upload(key: Array, exchange: Selective, change: Array) -> tuple[Array, Array]:
    """Returns what a participant uploads of its change `[l]`, and which, both `[l]`."""
    size = jnp.abs(change)
    chosen = largest(size, number_of(exchange.upload, change.size))
    chosen &= size >= exchange.threshold
    if exchange.clip is not None:
        change = jnp.clip(change, -exchange.clip, exchange.clip)
    if exchange.noise is not None:
        noise = jax.random.laplace(key, change.shape, change.dtype)
        change = change + exchange.noise * noise
    return jnp.where(chosen, change, 0), chosen
