"""The forms that are fast on CPU, of one problem and of many at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from mijax.models.convolution.geometry import (
    Geometry,
    geometry_of,
    plain,
    shifted,
)

_HANDFUL = 4  # channels that need no product
_CACHE = 2**20  # bytes of patches that stay near a core
_LARGE = 2**14  # entries of a tap that is transposed in blocks
_BLOCK = 16  # of its columns
_GATHERED = 6 * 2**20  # bytes of patches that stay near all
_MAPS = 2**21  # bytes of maps that are convolved channel by channel at a time


def forward(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """Maps `[B, H, W, C]` and a kernel to maps `[B, H', W', O]`."""
    height, width, channels, features = kernel.shape
    if (height, width) == (1, 1):
        return shifted(geometry, _padded(geometry, x), 0, 0) @ kernel[0, 0]
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
        patches = [shifted(geometry, padded, i, j) for i, j in _taps(geometry)]
        return jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, features)
    return plain(geometry, x, kernel)


def _by_taps(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """Sums over taps and channels, elementwise, which XLA fuses into one loop."""
    padded = _padded(geometry, x)
    return sum(
        (
            shifted(geometry, padded, i, j)[..., c : c + 1]
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
        (shifted(geometry, maps[i, j], i, j) for i, j in _taps(geometry)),
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


def depthwise(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """Maps `[B, H, W, C]` and a kernel `[height, width, 1, C]` to `[B, H', W', C]`.

    XLA's grouped convolution on CPU is a naive loop; elementwise sums fuse. They are
    made of a few images at a time, in a loop: XLA recomputes what is elementwise for
    each of its readers, and to the gradient each tap is a reader.
    """
    return _few_at_a_time(lambda x: _by_shifts(geometry, x, kernel), x)


def depthwise_gradients(
    geometry: Geometry, x: Array, kernel: Array, y: Array
) -> tuple[Array, Array]:
    """Maps `[B, H', W', C]` to the gradients of the maps and of the kernel."""

    def of_maps(y: Array) -> Array:
        shape = jax.ShapeDtypeStruct((len(y), *x.shape[1:]), x.dtype)
        convolve = jax.linear_transpose(
            lambda x: _by_shifts(geometry, x, kernel), shape
        )
        return convolve(y)[0]

    of_kernel = jax.linear_transpose(lambda k: _by_shifts(geometry, x, k), kernel)
    return _few_at_a_time(of_maps, y), of_kernel(y)[0]


def _by_shifts(geometry: Geometry, x: Array, kernel: Array) -> Array:
    padded = _padded(geometry, x)
    return sum(
        (
            shifted(geometry, padded, i, j) * kernel[i : i + 1, j : j + 1]
            for i, j in _taps(geometry)
        ),
        jnp.zeros((), x.dtype),
    )


def _few_at_a_time(convolve: Callable[[Array], Array], x: Array) -> Array:
    batch = x.shape[0]
    few = _most_at_a_time(batch, x[0].size * x.dtype.itemsize, _MAPS)
    if few == batch:
        return convolve(x)
    y = lax.map(convolve, x.reshape(batch // few, few, *x.shape[1:]))
    return y.reshape(batch, *y.shape[2:])


def data_gradient(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """Maps `[B, H', W', O]` and a kernel to maps `[B, H, W, C]`."""
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
    return forward(geometry_of(x.shape[1:3], kernel.shape[:2], 1, pads), x, kernel)


def weight_gradient(geometry: Geometry, x: Array, y: Array) -> Array:
    """Maps `[B, H, W, C]` and `[B, H', W', O]` to a kernel."""
    # A few images at a time, so that what is gathered of them stays in the cache.
    batch = x.shape[0]
    few = _most_at_a_time(batch, _patch_bytes(geometry, 1, x.shape[3]), _GATHERED)
    if few == batch:
        return _weight_gradient_of_few(geometry, x, y)
    chunks = [each.reshape(batch // few, few, *each.shape[1:]) for each in (x, y)]

    def add(total: Array, chunk: list[Array]) -> tuple[Array, None]:
        return total + _weight_gradient_of_few(geometry, *chunk), None

    shape = (*geometry.kernel, x.shape[3], y.shape[3])
    return lax.scan(add, jnp.zeros(shape, x.dtype), chunks)[0]


def _most_at_a_time(batch: int, one: int, limit: int) -> int:
    """The most images at a time that divide the batch, of `one` bytes each."""
    fit = max(1, limit // one)
    return max(n for n in range(1, batch + 1) if batch % n == 0 and n <= fit)


def _weight_gradient_of_few(geometry: Geometry, x: Array, y: Array) -> Array:
    """A convolution along H, whose channels are the pixels of a row of all images."""
    channels, features = x.shape[3], y.shape[3]
    if geometry.kernel == (1, 1):
        seen = shifted(geometry, _padded(geometry, x), 0, 0).reshape(-1, channels)
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


def forwards(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """N forward operations: `[N, B, H, W, C]` and `[N, height, width, C, O]`."""
    if _is_large(geometry, x.shape[1], x.shape[4]):
        return lax.map(lambda each: forward(geometry, *each), (x, kernel))
    many, batch = x.shape[:2]
    patches = _patches(geometry, x.reshape(-1, *x.shape[2:]))
    y = jnp.matmul(
        patches.reshape(many, -1, patches.shape[-1]),
        kernel.reshape(many, -1, kernel.shape[4]),
    )
    return y.reshape(many, batch, *geometry.output, kernel.shape[4])


def data_gradients(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """N data gradients: `[N, B, H', W', O]` and `[N, height, width, C, O]`."""
    many, batch, channels = *y.shape[:2], kernel.shape[3]
    if _is_large(geometry, batch, channels):
        return lax.map(lambda each: data_gradient(geometry, *each), (y, kernel))
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


def weight_gradients(geometry: Geometry, x: Array, y: Array) -> Array:
    """N weight gradients: `[N, B, H, W, C]` and `[N, B, H', W', O]`."""
    many, channels = x.shape[0], x.shape[4]
    if _is_large(geometry, x.shape[1], channels):
        return lax.map(lambda each: weight_gradient(geometry, *each), (x, y))
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
