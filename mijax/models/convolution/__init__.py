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
rows whose channels are pixels; and next to images, where channels are few, few channels
in are summed by tap and few channels out are one product of all taps and a sum of
shifted maps.

`jax.custom_vjp` is what closes the set, so forward-mode differentiation (`jax.jvp`)
of these operations raises; compose reverse over reverse instead.

Letters: B batch, H W map, C channels in, O channels out. Maps are `[B, H, W, C]`,
kernels `[height, width, C, O]`.
"""

from mijax.models.convolution.geometry import Geometry, Padding, geometry_of
from mijax.models.convolution.operations import (
    convolve,
    convolve_transpose,
    data_gradient,
    depthwise,
    forward,
    weight_gradient,
)

__all__ = [
    "Geometry",
    "Padding",
    "convolve",
    "convolve_transpose",
    "data_gradient",
    "depthwise",
    "forward",
    "geometry_of",
    "weight_gradient",
]
