"""What a convolution does to sizes, and the plain form of it."""

from collections.abc import Sequence
from typing import NamedTuple

from jax import Array, lax

Padding = str | Sequence[tuple[int, int]]
LAYOUT = ("NHWC", "HWIO", "NHWC")


class Geometry(NamedTuple):
    """What a convolution does to sizes; static and hashable."""

    size: tuple[int, int]  # H, W of the forward operation's input
    kernel: tuple[int, int]
    stride: int
    padding: tuple[tuple[int, int], tuple[int, int]]

    @property
    def output(self) -> tuple[int, int]:
        """H, W of the forward operation's output."""
        rows, columns = (
            (n + sum(pad) - k) // self.stride + 1
            for n, k, pad in zip(self.size, self.kernel, self.padding, strict=True)
        )
        return rows, columns


def geometry_of(
    size: Sequence[int], kernel: Sequence[int], stride: int, padding: Padding
) -> Geometry:
    """Resolves the padding of a convolution of maps of `size` (H, W).

    Raises:
      ValueError: if the padding has no such name or the kernel does not fit the map.
    """
    if padding == "SAME":
        pads = []
        for n, k in zip(size, kernel, strict=True):
            total = max((-(-n // stride) - 1) * stride + k - n, 0)
            pads.append((total // 2, total - total // 2))
    elif padding == "VALID":
        pads = [(0, 0), (0, 0)]
    elif isinstance(padding, str):
        raise ValueError(f"padding is {padding!r}: use 'SAME', 'VALID' or two pairs.")
    else:
        pads = [(int(low), int(high)) for low, high in padding]
    geometry = Geometry(
        (size[0], size[1]), (kernel[0], kernel[1]), stride, (pads[0], pads[1])
    )
    if min(geometry.output) < 1:
        raise ValueError(
            f"A {kernel[0]}x{kernel[1]} kernel with padding {pads} does not fit a "
            f"{size[0]}x{size[1]} map: pad more, or give a larger image."
        )
    return geometry


def plain(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """The forward operation as XLA has it."""
    stride = (geometry.stride, geometry.stride)
    return lax.conv_general_dilated(
        x, kernel, stride, geometry.padding, dimension_numbers=LAYOUT
    )


def shifted(geometry: Geometry, padded: Array, i: int, j: int) -> Array:
    """What tap (i, j) of the kernel sees: `[B, H', W', C]`."""
    stride, (rows, columns) = geometry.stride, geometry.output
    return padded[
        :,
        i : i + stride * (rows - 1) + 1 : stride,
        j : j + stride * (columns - 1) + 1 : stride,
    ]
