"""Two-dimensional convolutions that are fast on every backend.

Three bilinear operations, each the derivative of the other two:

    forward          (x, kernel)   -> y
    data gradient    (y, kernel)   -> x      also the transposed convolution
    weight gradient  (x, y)        -> kernel

They are closed under differentiation, so gradients of gradients (a WGAN penalty, a
gradient-matching attack) stay inside them. On accelerators each is the plain `lax`
convolution. XLA for CPU is fast only for forward convolutions of maps that are larger
than their kernel and have many channels; inside `scan` it never rewrites the
derivatives into that form. So on CPU the data gradient is written as `stride**2`
forward convolutions (one per output phase), the weight gradient as a convolution along
rows whose channels are pixels; forward convolutions of many channels and two or three
taps are Winograd's; and next to images, where channels are few, few channels in are
summed by tap and few channels out are one product of all taps and a sum of shifted
maps.

`jax.custom_vjp` is what closes the set, so forward-mode differentiation (`jax.jvp`)
of these operations raises; compose reverse over reverse instead.

Letters: B batch, H W map, C channels in, O channels out. Maps are `[B, H, W, C]`,
kernels `[height, width, C, O]`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

Padding = str | Sequence[tuple[int, int]]
_Operation = Callable[[Array, Array], Array]
_LAYOUT = ("NHWC", "HWIO", "NHWC")
_HANDFUL = 4  # channels that need no product
_CACHE = 2**20  # bytes of patches that stay near a core
_LARGE = 2**14  # entries of a tap that is transposed in blocks
_BLOCK = 16  # of its columns
_GATHERED = 6 * 2**20  # bytes of patches that stay near all


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


def _geometry(
    size: Sequence[int], kernel: Sequence[int], stride: int, padding: Padding
) -> Geometry:
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


def convolve(
    x: Array, kernel: Array, stride: int = 1, padding: Padding = "SAME"
) -> Array:
    """Convolves `x` with `kernel` (cross-correlation, as in every network).

    Args:
      x: maps `[B, H, W, C]`.
      kernel: `[height, width, C, O]`.
      stride: step in both directions, in pixels.
      padding: `"SAME"`, `"VALID"` or `((top, bottom), (left, right))`.

    Returns:
      Maps `[B, H', W', O]`.

    Raises:
      ValueError: if the channels disagree or the kernel does not fit the map.
    """
    if x.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            f"Maps {x.shape} and kernel {kernel.shape} disagree: expected "
            f"[B, H, W, {kernel.shape[2]}]."
        )
    geometry = _geometry(x.shape[1:3], kernel.shape[:2], stride, padding)
    return _forward(geometry, x, kernel)


def convolve_transpose(
    y: Array, kernel: Array, stride: int = 1, padding: Padding = "SAME"
) -> Array:
    """Transposes `convolve`: from maps of its output to maps of its input.

    Args:
      y: maps `[B, H, W, O]`.
      kernel: `[height, width, C, O]`, the kernel of the convolution transposed.
      stride: the factor by which maps grow.
      padding: the padding of the convolution transposed.

    Returns:
      Maps `[B, stride * H, stride * W, C]`.
    """
    if y.ndim != 4 or y.shape[3] != kernel.shape[3]:
        raise ValueError(
            f"Maps {y.shape} and kernel {kernel.shape} disagree: expected "
            f"[B, H, W, {kernel.shape[3]}]."
        )
    size = y.shape[1] * stride, y.shape[2] * stride
    geometry = _geometry(size, kernel.shape[:2], stride, padding)
    if geometry.output != y.shape[1:3]:
        raise ValueError(
            f"Padding {padding} does not map {size} onto {y.shape[1:3]} with stride "
            f"{stride}: use 'SAME'."
        )
    return _data_gradient(geometry, y, kernel)


def depthwise(
    x: Array, kernel: Array, stride: int = 1, padding: Padding = "SAME"
) -> Array:
    """Convolves each channel of `x` `[B, H, W, C]` with its own `[h, w, 1, C]`."""
    geometry = _geometry(x.shape[1:3], kernel.shape[:2], stride, padding)

    def by_shifts(x: Array, kernel: Array) -> Array:
        # Elementwise sums fuse; XLA's grouped convolution on CPU is a naive loop.
        padded = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
        return sum(
            (
                _shifted(geometry, padded, i, j) * kernel[i : i + 1, j : j + 1]
                for i in range(geometry.kernel[0])
                for j in range(geometry.kernel[1])
            ),
            jnp.zeros((), x.dtype),
        )

    def by_lax(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            geometry.padding,
            dimension_numbers=_LAYOUT,
            feature_group_count=x.shape[3],
        )

    return lax.platform_dependent(x, kernel, cpu=by_shifts, default=by_lax)


# The closed set -----------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _forward(geometry: Geometry, x: Array, kernel: Array) -> Array:
    cpu = functools.partial(_forward_cpu, geometry)
    many_cpu = functools.partial(_forwards_cpu, geometry)
    plain = functools.partial(_plain, geometry)
    return _batchable(cpu, many_cpu, plain, shares_second=True)(x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _data_gradient(geometry: Geometry, y: Array, kernel: Array) -> Array:
    cpu = functools.partial(_data_gradient_cpu, geometry)
    many_cpu = functools.partial(_data_gradients_cpu, geometry)

    def plain(y: Array, kernel: Array) -> Array:
        x = jax.ShapeDtypeStruct((y.shape[0], *geometry.size, kernel.shape[2]), y.dtype)
        (gradient,) = jax.linear_transpose(lambda x: _plain(geometry, x, kernel), x)(y)
        return gradient

    return _batchable(cpu, many_cpu, plain, shares_second=True)(y, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _weight_gradient(geometry: Geometry, x: Array, y: Array) -> Array:
    cpu = functools.partial(_weight_gradient_cpu, geometry)
    many_cpu = functools.partial(_weight_gradients_cpu, geometry)

    def plain(x: Array, y: Array) -> Array:
        kernel = jax.ShapeDtypeStruct(
            (*geometry.kernel, x.shape[3], y.shape[3]), x.dtype
        )
        (gradient,) = jax.linear_transpose(
            lambda kernel: _plain(geometry, x, kernel), kernel
        )(y)
        return gradient

    return _batchable(cpu, many_cpu, plain, shares_second=False)(x, y)


_forward.defvjp(
    lambda geometry, x, kernel: (_forward(geometry, x, kernel), (x, kernel)),
    lambda geometry, saved, y: (
        _data_gradient(geometry, y, saved[1]),
        _weight_gradient(geometry, saved[0], y),
    ),
)
_data_gradient.defvjp(
    lambda geometry, y, kernel: (_data_gradient(geometry, y, kernel), (y, kernel)),
    lambda geometry, saved, x: (
        _forward(geometry, x, saved[1]),
        _weight_gradient(geometry, x, saved[0]),
    ),
)
_weight_gradient.defvjp(
    lambda geometry, x, y: (_weight_gradient(geometry, x, y), (x, y)),
    lambda geometry, saved, kernel: (
        _data_gradient(geometry, saved[1], kernel),
        _forward(geometry, saved[0], kernel),
    ),
)


def _plain(geometry: Geometry, x: Array, kernel: Array) -> Array:
    stride = (geometry.stride, geometry.stride)
    return lax.conv_general_dilated(
        x, kernel, stride, geometry.padding, dimension_numbers=_LAYOUT
    )


# Under vmap -----------------------------------------------------------------------


def _batchable(
    cpu: _Operation, many_cpu: _Operation, plain: _Operation, *, shares_second: bool
) -> _Operation:
    """Returns an operation with its own rules under `vmap`.

    XLA's rule for a batch of kernels is a grouped convolution, a naive loop on CPU.

    Args:
      cpu: the form of one problem that is fast on CPU.
      many_cpu: that of N problems, whose operands start with N.
      plain: of one problem, on accelerators.
      shares_second: whether problems that share the second operand, a kernel, are one
        problem with more maps.
    """

    @jax.custom_batching.custom_vmap
    def one(first: Array, second: Array) -> Array:
        return lax.platform_dependent(first, second, cpu=cpu, default=plain)

    @jax.custom_batching.custom_vmap
    def many(first: Array, second: Array) -> Array:
        if first.shape[0] == 1:
            return one(first[0], second[0])[None]
        return lax.platform_dependent(
            first, second, cpu=many_cpu, default=jax.vmap(plain)
        )

    @one.def_vmap
    def _(size: int, batched: list[bool], first: Array, second: Array) -> Any:
        if shares_second and not batched[1]:
            y = one(first.reshape(-1, *first.shape[2:]), second)
            return y.reshape(size, -1, *y.shape[1:]), True
        return many(*_each(size, batched, first, second)), True

    @many.def_vmap
    def _(size: int, batched: list[bool], first: Array, second: Array) -> Any:
        first, second = _each(size, batched, first, second)
        y = many(
            first.reshape(-1, *first.shape[2:]), second.reshape(-1, *second.shape[2:])
        )
        return y.reshape(size, -1, *y.shape[1:]), True

    return one


def _each(size: int, batched: list[bool], *operands: Array) -> list[Array]:
    return [
        x if is_batched else jnp.broadcast_to(x[None], (size, *x.shape))
        for x, is_batched in zip(operands, batched, strict=True)
    ]


# The forms that are fast on CPU ---------------------------------------------------


def _forward_cpu(geometry: Geometry, x: Array, kernel: Array) -> Array:
    height, width, channels, features = kernel.shape
    if (height, width) == (1, 1):
        return _shifted(geometry, _padded(geometry, x), 0, 0) @ kernel[0, 0]
    if channels <= _HANDFUL and features <= 4 * _HANDFUL:
        return _by_taps(geometry, x, kernel)
    if features <= _HANDFUL:
        return _by_features(geometry, x, kernel)
    larger_than_map = any(
        k > n for k, n in zip(geometry.kernel, geometry.size, strict=True)
    )
    if larger_than_map:
        # XLA would swap the operands and run a naive loop; a product does not.
        padded = _padded(geometry, x)
        patches = [_shifted(geometry, padded, i, j) for i, j in _taps(geometry)]
        return jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, features)
    if _suits_tiles(geometry, x, kernel):
        return _by_tiles(geometry, x, kernel)
    return _plain(geometry, x, kernel)


def _suits_tiles(geometry: Geometry, x: Array, kernel: Array) -> bool:
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


def _by_tiles(geometry: Geometry, x: Array, kernel: Array) -> Array:
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
    few = _few(batch, one, _TILED)
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


def _few(batch: int, one: int, limit: int) -> int:
    """The most images at a time that divide the batch, of `one` bytes each."""
    fit = max(1, limit // one)
    return max(n for n in range(1, batch + 1) if batch % n == 0 and n <= fit)


def _by_taps(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """Sums over taps and channels, elementwise, which XLA fuses into one loop."""
    padded = _padded(geometry, x)
    return sum(
        (
            _shifted(geometry, padded, i, j)[..., c : c + 1]
            * kernel[i : i + 1, j : j + 1, c : c + 1]
            for i, j in _taps(geometry)
            for c in range(kernel.shape[2])
        ),
        jnp.zeros((), x.dtype),
    )


def _by_features(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """One product with every tap of every feature, then sums of shifted maps."""
    batch, rows, columns, channels = x.shape
    maps = jnp.einsum("nc,tc->tn", x.reshape(-1, channels), _rows(kernel))
    maps = maps.reshape(*geometry.kernel, -1, batch, rows, columns)
    maps = jnp.moveaxis(maps, 2, -1)  # [height, width, B, H, W, O]
    pads = ((0, 0), (0, 0), (0, 0), *geometry.padding, (0, 0))
    maps = jnp.pad(maps, pads)
    return sum(
        (_shifted(geometry, maps[i, j], i, j) for i, j in _taps(geometry)),
        jnp.zeros((), x.dtype),
    )


def _rows(kernel: Array) -> Array:
    """A kernel as `[height * width * O, C]`."""
    return jnp.swapaxes(kernel, 2, 3).reshape(-1, kernel.shape[2])


def _taps(geometry: Geometry) -> list[tuple[int, int]]:
    height, width = geometry.kernel
    return [(i, j) for i in range(height) for j in range(width)]


def _padded(geometry: Geometry, x: Array) -> Array:
    return jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))


def _data_gradient_cpu(geometry: Geometry, y: Array, kernel: Array) -> Array:
    stride, (rows, columns) = geometry.stride, geometry.size
    flipped = _flipped(kernel)
    if stride == 1:
        padding = tuple(
            (k - 1 - low, n - m + low)
            for k, n, m, (low, _) in zip(
                geometry.kernel,
                geometry.size,
                geometry.output,
                geometry.padding,
                strict=True,
            )
        )
        return _correlate(y, flipped, padding)

    # Output pixel i meets kernel tap t only where (i + low - t) is a multiple of the
    # stride: each phase of i is a stride-1 convolution with its own taps.
    counts = -(-rows // stride), -(-columns // stride)
    phases = [
        [_phase(geometry, y, flipped, (i, j), counts) for j in range(stride)]
        for i in range(stride)
    ]
    maps = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
    grown = (y.shape[0], counts[0] * stride, counts[1] * stride, kernel.shape[2])
    return maps.reshape(grown)[:, :rows, :columns]


def _flipped(kernel: Array) -> Array:
    """The kernel of the transposed convolution, `[height, width, O, C]`."""
    height, width, channels, features = kernel.shape
    kernel = jnp.flip(kernel, (0, 1))
    if channels * features < _LARGE or features % _BLOCK:
        # The barrier keeps it a plain operand inside loops.
        return lax.optimization_barrier(kernel.transpose(0, 1, 3, 2))
    # By blocks in a loop: where XLA fuses a transposition, it is slow.
    blocks = kernel.reshape(-1, channels, features // _BLOCK, _BLOCK).swapaxes(1, 2)
    blocks = lax.map(jnp.transpose, blocks.reshape(-1, channels, _BLOCK))
    return blocks.reshape(height, width, features, channels)


def _phase(
    geometry: Geometry,
    y: Array,
    flipped: Array,
    offset: tuple[int, int],
    counts: tuple[int, int],
) -> Array:
    """Returns the data gradient at pixels `offset + stride * q`, `[B, q, q, C]`."""
    taps, padding = [], []
    for axis in range(2):
        k, low = geometry.kernel[axis], geometry.padding[axis][0]
        first_q, phase = divmod(offset[axis] + low, geometry.stride)
        number = len(range(phase, k, geometry.stride))
        # Tap t of the kernel is entry k - 1 - t of the flipped one.
        start = (k - 1 - phase) % geometry.stride
        taps.append(slice(start, None, geometry.stride) if number else slice(0, 0))
        before = number - 1 - first_q
        after = counts[axis] - geometry.output[axis] - before + number - 1
        padding.append((before, after))
    kernel = flipped[taps[0], taps[1]]
    if 0 in kernel.shape:
        return jnp.zeros((y.shape[0], *counts, flipped.shape[3]), y.dtype)
    return _correlate(y, kernel, tuple(padding))


def _correlate(x: Array, kernel: Array, padding: tuple[tuple[int, int], ...]) -> Array:
    """A stride-1 forward convolution whose padding may be negative (a crop)."""
    crop = [
        slice(max(-low, 0), n - max(-high, 0))
        for n, (low, high) in zip(x.shape[1:3], padding, strict=True)
    ]
    x = x[:, crop[0], crop[1]]
    pads = [(max(low, 0), max(high, 0)) for low, high in padding]
    return _forward_cpu(_geometry(x.shape[1:3], kernel.shape[:2], 1, pads), x, kernel)


def _weight_gradient_cpu(geometry: Geometry, x: Array, y: Array) -> Array:
    # A few images at a time, so that what is gathered of them stays in the cache.
    batch = x.shape[0]
    few = _few(batch, _patch_bytes(geometry, 1, x.shape[3]), _GATHERED)
    if few == batch:
        return _weight_gradient_of_few(geometry, x, y)
    chunks = [each.reshape(batch // few, few, *each.shape[1:]) for each in (x, y)]

    def add(total: Array, chunk: list[Array]) -> tuple[Array, None]:
        return total + _weight_gradient_of_few(geometry, *chunk), None

    shape = (*geometry.kernel, x.shape[3], y.shape[3])
    return lax.scan(add, jnp.zeros(shape, x.dtype), chunks)[0]


def _weight_gradient_of_few(geometry: Geometry, x: Array, y: Array) -> Array:
    """A convolution along H, whose channels are the pixels of a row of all images."""
    channels, features = x.shape[3], y.shape[3]
    if geometry.kernel == (1, 1):
        seen = _shifted(geometry, _padded(geometry, x), 0, 0).reshape(-1, channels)
        return (seen.T @ y.reshape(-1, features))[None, None]
    height, width = geometry.kernel
    stride, (rows, columns) = geometry.stride, geometry.output
    x = _pixels_last(geometry, x)
    x = jnp.stack(
        [x[j % stride, ..., j // stride :][..., :columns] for j in range(width)]
    )
    kernel = lax.conv_general_dilated(
        x.reshape(width * channels, x.shape[2], -1),
        y.transpose(1, 0, 2, 3).reshape(rows, -1, features),
        (1,),
        "VALID",
        rhs_dilation=(stride,),
        dimension_numbers=("NHC", "HIO", "NHC"),
    )
    return kernel.reshape(width, channels, height, features).transpose(2, 0, 1, 3)


def _pixels_last(geometry: Geometry, x: Array) -> Array:
    """Padded maps by phase of their columns, `[stride, C, H, B, W / stride]`."""
    stride = geometry.stride
    rows = (geometry.output[0] - 1) * stride + geometry.kernel[0]
    columns = geometry.output[1] + (geometry.kernel[1] - 1) // stride
    pads = [
        (low, size - low - n, 0)
        for size, n, (low, _) in zip(
            (rows, columns * stride), geometry.size, geometry.padding, strict=True
        )
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *pads, (0, 0, 0)))
    x = x.reshape(-1, rows, columns, stride, x.shape[3]).swapaxes(0, 1)
    # Row by row in a loop: where XLA fuses a transposition, it is slow.
    x = lax.map(lambda row: row.transpose(2, 3, 0, 1), x)
    return x.transpose(1, 2, 0, 3, 4)


def _forwards_cpu(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """N forward operations: `[N, B, H, W, C]` and `[N, height, width, C, O]`."""
    if _is_large(geometry, x.shape[1], x.shape[4]):
        return lax.map(lambda each: _forward_cpu(geometry, *each), (x, kernel))
    many, batch = x.shape[:2]
    patches = _patches(geometry, x.reshape(-1, *x.shape[2:]))
    y = jnp.matmul(
        patches.reshape(many, -1, patches.shape[-1]),
        kernel.reshape(many, -1, kernel.shape[4]),
    )
    return y.reshape(many, batch, *geometry.output, kernel.shape[4])


def _data_gradients_cpu(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """N data gradients: `[N, B, H', W', O]` and `[N, height, width, C, O]`."""
    many, batch, channels = *y.shape[:2], kernel.shape[3]
    if _is_large(geometry, batch, channels):
        return lax.map(lambda each: _data_gradient_cpu(geometry, *each), (y, kernel))
    parts = jnp.matmul(
        y.reshape(many, -1, y.shape[4]),
        kernel.reshape(many, -1, kernel.shape[4]).swapaxes(1, 2),
    )
    parts = parts.reshape(-1, *geometry.output, *geometry.kernel, channels)
    # Each tap adds its part to the pixels that it saw, along rows and then columns.
    for axis in (1, 0):
        size, k = geometry.size[axis], geometry.kernel[axis]
        low, high = geometry.padding[axis]
        gap = geometry.stride - 1
        padded = size + low + high
        reach = (geometry.output[axis] - 1) * geometry.stride + 1
        total = jnp.zeros((), y.dtype)
        for tap in range(k):
            part = lax.index_in_dim(parts, tap, 3 + axis, keepdims=False)
            pads = [(0, 0, 0)] * part.ndim
            pads[1 + axis] = (tap, padded - reach - tap, gap)
            total = total + lax.pad(part, jnp.zeros((), y.dtype), pads)
        parts = lax.slice_in_dim(total, low, low + size, axis=1 + axis)
    return parts.reshape(many, batch, *geometry.size, channels)


def _weight_gradients_cpu(geometry: Geometry, x: Array, y: Array) -> Array:
    """N weight gradients: `[N, B, H, W, C]` and `[N, B, H', W', O]`."""
    many, channels = x.shape[0], x.shape[4]
    if _is_large(geometry, x.shape[1], channels):
        return lax.map(lambda each: _weight_gradient_cpu(geometry, *each), (x, y))
    patches = _patches(geometry, x.reshape(-1, *x.shape[2:]))
    kernel = jnp.matmul(
        patches.reshape(many, -1, patches.shape[-1]).swapaxes(1, 2),
        y.reshape(many, -1, y.shape[4]),
    )
    return kernel.reshape(many, *geometry.kernel, channels, y.shape[4])


def _is_large(geometry: Geometry, batch: int, channels: int) -> bool:
    """Whether the patches of one problem fill the cache: then one after another."""
    return _patch_bytes(geometry, batch, channels) > _CACHE


def _patch_bytes(geometry: Geometry, batch: int, channels: int) -> int:
    (height, width), (rows, columns) = geometry.kernel, geometry.output
    return 4 * batch * rows * columns * height * width * channels


def _patches(geometry: Geometry, x: Array) -> Array:
    """What the whole kernel sees, `[B, H', W', height * width * C]`.

    Gathered along columns and then rows: few slices, of which the last are long.
    """
    stride, (rows, columns) = geometry.stride, geometry.output
    x = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    for axis, number in ((2, columns), (1, rows)):
        last = stride * (number - 1) + 1
        taps = range(geometry.kernel[axis - 1])
        x = jnp.concatenate(
            [lax.slice_in_dim(x, tap, tap + last, stride, axis) for tap in taps], -1
        )
    return x


def _shifted(geometry: Geometry, padded: Array, i: int, j: int) -> Array:
    """What tap (i, j) of the kernel sees: `[B, H', W', C]`."""
    stride, (rows, columns) = geometry.stride, geometry.output
    return padded[
        :,
        i : i + stride * (rows - 1) + 1 : stride,
        j : j + stride * (columns - 1) + 1 : stride,
    ]


# Flax modules ---------------------------------------------------------------------


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


class Conv(nn.Module):
    """A convolution `[B, H, W, C] -> [B, H', W', features]`."""

    features: int
    kernel_size: int | tuple[int, int] = 3
    stride: int = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the convolution."""
        shape = (*_pair(self.kernel_size), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = convolve(x, kernel, self.stride, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + bias[None, None, None]
        return y


class ConvTranspose(nn.Module):
    """A transposed convolution `[B, H, W, C] -> [B, sH, sW, features]`."""

    features: int
    kernel_size: int | tuple[int, int] = 5
    stride: int = 2
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal(
        in_axis=-1, out_axis=-2
    )

    @nn.compact
    def __call__(self, y: Array) -> Array:
        """Applies the transposed convolution."""
        shape = (*_pair(self.kernel_size), self.features, y.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape)
        x = convolve_transpose(y, kernel, self.stride, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            x = x + bias[None, None, None]
        return x


class DepthwiseConv(nn.Module):
    """A convolution of each channel by itself `[B, H, W, C] -> [B, H', W', C]`."""

    kernel_size: int | tuple[int, int] = 3
    stride: int = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the convolution."""
        shape = (*_pair(self.kernel_size), 1, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape)
        y = depthwise(x, kernel, self.stride, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
            y = y + bias[None, None, None]
        return y
