"""Winograd's minimal filtering."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from mijax.models.convolution.geometry import Geometry, most_at_a_time

_WORTHWHILE = 16  # 1 / (1 / channels in + 1 / channels out), for tiles
_MANY_TILES = 32
_TILED = 24 * 2**20  # bytes of transformed tiles that stay near all cores

_Matrix = Sequence[Sequence[float]]


class _Transform(NamedTuple):
    """Winograd's, of two outputs along one axis."""

    map: _Matrix
    kernel: _Matrix
    product: _Matrix


_TRANSFORMS = {  # by taps
    2: _Transform(
        ((1, -1, 0), (0, 1, 0), (0, -1, 1)),
        ((1, 0), (1, 1), (0, 1)),
        ((1, 1, 0), (0, 1, 1)),
    ),
    3: _Transform(
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
        ((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
}


def suits(geometry: Geometry, x: Array, kernel: Array) -> bool:
    """Whether the products saved are worth the sums before and after them."""
    channels, features = kernel.shape[2:]
    return (
        geometry.stride == 1
        and set(geometry.kernel) <= set(_TRANSFORMS)
        and channels * features >= _WORTHWHILE * (channels + features)
        and x.shape[0] * math.prod(_tiles(geometry)) >= _MANY_TILES
        and jnp.finfo(x.dtype).bits >= 32
    )


def _tiles(geometry: Geometry) -> tuple[int, int]:
    rows, columns = geometry.output
    return -(-rows // 2), -(-columns // 2)


def convolve(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """Winograd's minimal filtering: 2x2 outputs of a 3x3 kernel by 16 products, not 36.

    Sums of a tile times sums of the kernel, summed again. Rounding errors are those of
    the plain form (within a factor of 1.5).

    References:
      Lavin, Gray. Fast algorithms for convolutional neural networks. CVPR 2016.
      arXiv:1509.09308.
    """
    (batch, _, _, channels), features = x.shape, kernel.shape[3]
    rows, columns = _tiles(geometry)
    by_row, by_column = (_TRANSFORMS[k] for k in geometry.kernel)
    pads = [
        (low, 2 * (tiles + 1) - n - low, 0)
        for tiles, n, (low, _) in zip(
            (rows, columns), geometry.size, geometry.padding, strict=True
        )
    ]
    kernel = jnp.stack(_sums(by_row.kernel, list(kernel)))
    kernel = jnp.stack(_sums(by_column.kernel, list(kernel.swapaxes(0, 1))))
    across, down = kernel.shape[:2]

    def of_few(x: Array) -> Array:
        x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *pads, (0, 0, 0)))
        seen = [x[:, :, j : j + 2 * columns : 2] for j in range(across)]
        x = jnp.stack(_sums(by_column.map, seen))
        seen = [x[:, :, i : i + 2 * rows : 2] for i in range(down)]
        x = jnp.stack(_sums(by_row.map, seen), 1)  # [across, down, B, rows, columns, C]
        y = jnp.matmul(
            x.reshape(across * down, -1, channels),
            kernel.reshape(across * down, channels, features),
        )
        y = y.reshape(across, down, -1, rows, columns, features)
        y = jnp.stack(_sums(by_column.product, list(y)), 4)
        y = y.reshape(down, -1, rows, 2 * columns, features)
        y = jnp.stack(_sums(by_row.product, list(y)), 2)
        return y.reshape(-1, 2 * rows, 2 * columns, features)

    one = 4 * across * down * rows * columns * (channels + features)
    few = most_at_a_time(batch, one, _TILED)
    if few == batch:
        y = of_few(x)
    else:
        y = lax.map(of_few, x.reshape(batch // few, few, *x.shape[1:]))
        y = y.reshape(batch, *y.shape[2:])
    return y[:, : geometry.output[0], : geometry.output[1]]


def _sums(matrix: _Matrix, parts: Sequence[Array]) -> list[Array]:
    """A product by a small matrix, elementwise, which fuses."""
    zero = jnp.zeros((), parts[0].dtype)
    return [
        sum((w * part for w, part in zip(weights, parts, strict=True) if w), zero)
        for weights in matrix
    ]
