"""The fast forms equal plain lax convolutions, up to second order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mijax.models import convolution
from mijax.models.convolution import cpu

# size, channels in, kernel, channels out, stride, padding
GEOMETRIES = [
    (9, 3, 3, 4, 1, "SAME"),
    (8, 3, 5, 4, 2, "SAME"),
    (9, 2, 5, 3, 2, "SAME"),
    (8, 9, 4, 3, 2, "SAME"),
    (7, 3, 3, 2, 1, "VALID"),
    (9, 3, 3, 2, 3, "VALID"),
    (4, 3, 5, 2, 2, "SAME"),
    (2, 3, 3, 2, 1, "SAME"),
    (3, 2, 5, 2, 1, "SAME"),
    (8, 3, 1, 2, 2, "VALID"),
    (8, 3, 7, 2, 2, ((3, 3), (2, 4))),
    (8, 5, 3, 20, 1, "SAME"),  # many channels
    (8, 32, 3, 32, 1, ((0, 1), (2, 0))),
    (8, 6, 4, 3, 2, "SAME"),  # few channels out
    (2, 6, 5, 9, 1, "SAME"),  # a kernel larger than the map
    (8, 6, 1, 9, 2, "SAME"),
    (5, 512, 2, 32, 1, "VALID"),  # a large kernel
]


def plain(x, kernel, stride, padding):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )


def operands(geometry, seed=0):
    size, channels, k, out, *_ = geometry
    keys = jax.random.split(jax.random.key(seed), 2)
    x = jax.random.normal(keys[0], (2, size, size + 1, channels))
    kernel = jax.random.normal(keys[1], (k, k, channels, out))
    return x, kernel / (k * channels**0.5)


def close(a, b, atol=1e-5):
    scale = float(jnp.max(jnp.abs(b))) + 1.0
    np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=atol)


def close_to_lax_up_to_second_order(geometry, x, kernel, atol=1e-5):
    stride, padding = geometry[4:]

    def loss(convolve, x, kernel):
        return jnp.sum(jnp.sin(convolve(x, kernel, stride, padding)))

    def penalty(convolve, x, kernel):
        gradients = jax.grad(loss, (1, 2))(convolve, x, kernel)
        return sum(jnp.sum(jnp.tanh(g) ** 2) for g in gradients)

    ours, lax_ = convolution.convolve, plain
    close(ours(x, kernel, stride, padding), lax_(x, kernel, stride, padding), atol)
    for scalar in (loss, penalty):
        gradient = jax.jit(jax.grad(scalar, (1, 2)), static_argnums=0)
        for a, b in zip(
            gradient(ours, x, kernel), gradient(lax_, x, kernel), strict=True
        ):
            close(a, b, atol)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_equals_lax_up_to_second_order(geometry):
    close_to_lax_up_to_second_order(geometry, *operands(geometry))


def test_weight_gradient_of_a_few_images_at_a_time(monkeypatch):
    x, y = jnp.ones((6, 8, 8, 2)), jax.random.normal(jax.random.key(0), (6, 8, 8, 3))
    x = x * jax.random.normal(jax.random.key(1), x.shape)
    geometry = convolution.geometry_of((8, 8), (3, 3), 1, "SAME")
    whole = cpu.weight_gradient(geometry, x, y)
    monkeypatch.setattr(cpu, "_GATHERED", 3 * 9 * x[0].nbytes)
    close(cpu.weight_gradient(geometry, x, y), whole)


@pytest.mark.parametrize(("stride", "k"), [(1, 3), (2, 5), (2, 4), (2, 3), (3, 5)])
def test_transpose_is_the_adjoint(stride, k):
    y = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    x = jax.random.normal(jax.random.key(1), (2, 4 * stride, 4 * stride, 2))
    kernel = jax.random.normal(jax.random.key(2), (k, k, 2, 3))
    forward = jnp.vdot(plain(x, kernel, stride, "SAME"), y)
    adjoint = jnp.vdot(x, convolution.convolve_transpose(y, kernel, stride))
    np.testing.assert_allclose(forward, adjoint, rtol=1e-4)


@pytest.mark.parametrize("at_a_time", ["all", "one"])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_and_its_gradients_equal_lax(monkeypatch, stride, at_a_time):
    if at_a_time == "one":
        monkeypatch.setattr(cpu, "_MAPS", 1)
    x = jax.random.normal(jax.random.key(0), (2, 8, 7, 5))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 5))

    def by_lax(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=5,
        )

    def ours(x, kernel):
        return convolution.depthwise(x, kernel, stride)

    close(ours(x, kernel), by_lax(x, kernel))
    for argument in (0, 1):
        gradients = [
            jax.grad(lambda *a, f=f: jnp.sum(f(*a) ** 2), argument)(x, kernel)
            for f in (ours, by_lax)
        ]
        close(*gradients)


def test_vmap_and_scan_change_nothing():
    x, kernel = operands(GEOMETRIES[1])
    stacked = jnp.stack([kernel, 2 * kernel])

    def gradient(kernel):
        return jax.grad(lambda k: jnp.sum(convolution.convolve(x, k, 2) ** 2))(kernel)

    singles = jnp.stack([gradient(k) for k in stacked])
    close(jax.vmap(gradient)(stacked), singles)
    _, scanned = lax.scan(lambda c, k: (c, gradient(k)), None, stacked)
    close(scanned, singles)


def test_refuses_what_does_not_fit():
    x = jnp.zeros((1, 4, 4, 3))
    with pytest.raises(ValueError, match=r"\[B, H, W, 2\]"):
        convolution.convolve(x, jnp.zeros((3, 3, 2, 1)))
    with pytest.raises(ValueError, match="does not fit"):
        convolution.convolve(x, jnp.zeros((5, 5, 3, 1)), padding="VALID")
    with pytest.raises(ValueError, match="SAME"):
        convolution.convolve(x, jnp.zeros((3, 3, 3, 1)), padding="same")


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((8, 7), (3, 5), 1, "SAME"),
        ((8, 9), (5, 4), 2, ((2, 1), (0, 2))),
    ],
)
def test_many_kernels_are_as_one_after_another(size, kernel, stride, padding):
    geometry = convolution.geometry_of(size, kernel, stride, padding)
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (3, 2, *size, 3))
    w = jax.random.normal(keys[1], (3, *kernel, 3, 4))
    y = jax.random.normal(keys[2], (3, 2, *geometry.output, 4))
    for operation, a, b in [
        (convolution.forward, x, w),
        (convolution.data_gradient, y, w),
        (convolution.weight_gradient, x, y),
    ]:
        one = jax.jit(functools.partial(operation, geometry))
        pairs = jnp.stack([jnp.stack([one(m, n) for n in b]) for m in a])  # [3, 3, ...]
        close(jax.vmap(one)(a, b), pairs[jnp.arange(3), jnp.arange(3)])
        close(jax.vmap(one, (0, None))(a, b[0]), pairs[:, 0])
        close(jax.vmap(jax.vmap(one, (None, 0)), (0, None))(a, b), pairs)
