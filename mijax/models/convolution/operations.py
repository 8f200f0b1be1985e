"""The three operations, closed under differentiation, and what networks call."""

import functools

import jax
from jax import Array, lax

from mijax.models.convolution import cpu
from mijax.models.convolution.batching import batchable
from mijax.models.convolution.geometry import (
    LAYOUT,
    Geometry,
    Padding,
    geometry_of,
    plain,
)


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
    geometry = geometry_of(x.shape[1:3], kernel.shape[:2], stride, padding)
    return forward(geometry, x, kernel)


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
    geometry = geometry_of(size, kernel.shape[:2], stride, padding)
    if geometry.output != y.shape[1:3]:
        raise ValueError(
            f"Padding {padding} does not map {size} onto {y.shape[1:3]} with stride "
            f"{stride}: use 'SAME'."
        )
    return data_gradient(geometry, y, kernel)


def depthwise(
    x: Array, kernel: Array, stride: int = 1, padding: Padding = "SAME"
) -> Array:
    """Convolves each channel of `x` `[B, H, W, C]` with its own `[h, w, 1, C]`."""
    geometry = geometry_of(x.shape[1:3], kernel.shape[:2], stride, padding)
    return _depthwise(geometry, x, kernel)


def _grouped(geometry: Geometry, x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (geometry.stride, geometry.stride),
        geometry.padding,
        dimension_numbers=LAYOUT,
        feature_group_count=x.shape[3],
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _depthwise(geometry: Geometry, x: Array, kernel: Array) -> Array:
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(cpu.depthwise, geometry),
        default=functools.partial(_grouped, geometry),
    )


def _depthwise_gradients(
    geometry: Geometry, saved: tuple[Array, Array], y: Array
) -> tuple[Array, Array]:
    def transposed(x: Array, kernel: Array, y: Array) -> tuple[Array, Array]:
        return jax.vjp(functools.partial(_grouped, geometry), x, kernel)[1](y)

    return lax.platform_dependent(
        *saved,
        y,
        cpu=functools.partial(cpu.depthwise_gradients, geometry),
        default=transposed,
    )


_depthwise.defvjp(
    lambda geometry, x, kernel: (_depthwise(geometry, x, kernel), (x, kernel)),
    _depthwise_gradients,
)


# Each is the derivative of the other two -----------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def forward(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """Maps `[B, H, W, C]` and a kernel to maps `[B, H', W', O]`."""
    return batchable(
        functools.partial(cpu.forward, geometry),
        functools.partial(cpu.forwards, geometry),
        functools.partial(plain, geometry),
        shares_second=True,
    )(x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def data_gradient(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """Maps `[B, H', W', O]` and a kernel to maps `[B, H, W, C]`."""

    def transposed(y: Array, kernel: Array) -> Array:
        x = jax.ShapeDtypeStruct((y.shape[0], *geometry.size, kernel.shape[2]), y.dtype)
        (gradient,) = jax.linear_transpose(lambda x: plain(geometry, x, kernel), x)(y)
        return gradient

    return batchable(
        functools.partial(cpu.data_gradient, geometry),
        functools.partial(cpu.data_gradients, geometry),
        transposed,
        shares_second=True,
    )(y, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def weight_gradient(geometry: Geometry, x: Array, y: Array) -> Array:
    """Maps `[B, H, W, C]` and `[B, H', W', O]` to a kernel."""

    def transposed(x: Array, y: Array) -> Array:
        kernel = jax.ShapeDtypeStruct(
            (*geometry.kernel, x.shape[3], y.shape[3]), x.dtype
        )
        (gradient,) = jax.linear_transpose(
            lambda kernel: plain(geometry, x, kernel), kernel
        )(y)
        return gradient

    return batchable(
        functools.partial(cpu.weight_gradient, geometry),
        functools.partial(cpu.weight_gradients, geometry),
        transposed,
        shares_second=False,
    )(x, y)


forward.defvjp(
    lambda geometry, x, kernel: (forward(geometry, x, kernel), (x, kernel)),
    lambda geometry, saved, y: (
        data_gradient(geometry, y, saved[1]),
        weight_gradient(geometry, saved[0], y),
    ),
)
data_gradient.defvjp(
    lambda geometry, y, kernel: (data_gradient(geometry, y, kernel), (y, kernel)),
    lambda geometry, saved, x: (
        forward(geometry, x, saved[1]),
        weight_gradient(geometry, x, saved[0]),
    ),
)
weight_gradient.defvjp(
    lambda geometry, x, y: (weight_gradient(geometry, x, y), (x, y)),
    lambda geometry, saved, kernel: (
        data_gradient(geometry, saved[1], kernel),
        forward(geometry, saved[0], kernel),
    ),
)
