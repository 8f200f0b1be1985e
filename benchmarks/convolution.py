"""How near every convolution of GMI's networks comes to a matrix product, in a loop.

For each shape that occurs in the shipped face prior and in the targets: GFLOP/s of the
forward operation, of the data gradient and of the weight gradient, inside `scan`, and
their share of what sgemm reaches in the same run. Taps that fall on padding count.

    python -m benchmarks.convolution --batches=60
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from benchmarks import networks, timing
from experiments.harness import flags as common
from mijax.models.convolution import Padding, convolve, convolve_transpose
from mijax.models.layers import Conv, ConvTranspose

OPERATIONS = ("forward", "data_gradient", "weight_gradient")


class Shape(NamedTuple):
    """One convolution of a network, but for the batch.

    Attributes:
      size: H, W of its input.
      channels: of its input.
      features: channels of its output.
      kernel: height, width.
      stride: in both directions.
      padding: as in `convolve`.
      transposed: whether it is a transposed convolution.
    """

    size: tuple[int, int]
    channels: int
    features: int
    kernel: tuple[int, int]
    stride: int
    padding: Padding
    transposed: bool

    def __str__(self) -> str:
        """Such as `64x64x1 -> 32x32x32, 4x4`."""
        high, wide = self.output
        name = (
            f"{self.size[0]}x{self.size[1]}x{self.channels} -> "
            f"{high}x{wide}x{self.features}, {self.kernel[0]}x{self.kernel[1]}"
        )
        return name + (" transposed" if self.transposed else "")

    @property
    def output(self) -> tuple[int, int]:
        """H, W of its output."""
        _, high, wide, _ = jax.eval_shape(self.apply, *self.operands(1)).shape
        return high, wide

    def apply(self, x: Array, kernel: Array) -> Array:
        """The operation: `[B, H, W, C] -> [B, H', W', O]`."""
        operation = convolve_transpose if self.transposed else convolve
        return operation(x, kernel, self.stride, self.padding)

    def operands(self, batch: int) -> tuple[jax.ShapeDtypeStruct, ...]:
        """The shapes of its input and of its kernel."""
        between = (
            (self.features, self.channels)
            if self.transposed
            else (self.channels, self.features)
        )
        return (
            jax.ShapeDtypeStruct((batch, *self.size, self.channels), jnp.float32),
            jax.ShapeDtypeStruct((*self.kernel, *between), jnp.float32),
        )

    def flops(self, batch: int) -> float:
        """Floating-point operations: the same for all three directions."""
        high, wide = self.size if self.transposed else self.output
        taps = self.kernel[0] * self.kernel[1] * self.channels * self.features
        return 2.0 * batch * high * wide * taps


def shapes(module: nn.Module, variables: Any, example: tuple[int, ...]) -> list[Shape]:
    """Every convolution of a module, in order, of one example of that shape."""
    found = []

    def record(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, context: Any
    ) -> Any:
        layer = context.module
        if isinstance(layer, Conv | ConvTranspose):
            k = layer.kernel_size
            found.append(
                Shape(
                    args[0].shape[1:3],
                    args[0].shape[3],
                    layer.features,
                    (k, k) if isinstance(k, int) else k,
                    layer.stride,
                    layer.padding,
                    isinstance(layer, ConvTranspose),
                )
            )
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        one = jax.ShapeDtypeStruct((1, *example), jnp.float32)
        jax.eval_shape(module.apply, variables, one)
    return found


def measure(shape: Shape, batch: int, repeats: int) -> dict[str, Any]:
    """Times the three operations of a convolution in turn with sgemm."""
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = (
        jax.random.normal(key, operand.shape)
        for key, operand in zip(keys[:2], shape.operands(batch), strict=True)
    )
    y = jax.random.normal(keys[2], (batch, *shape.output, shape.features))

    def data_gradient(y: Array, kernel: Array) -> Array:
        return jax.vjp(lambda x: shape.apply(x, kernel), jnp.zeros(x.shape))[1](y)[0]

    def weight_gradient(x: Array, y: Array) -> Array:
        zeros = jnp.zeros(kernel.shape)
        return jax.vjp(lambda kernel: shape.apply(x, kernel), zeros)[1](y)[0]

    flops = shape.flops(batch)
    operands = {
        "forward": (shape.apply, (x, kernel)),
        "data_gradient": (data_gradient, (y, kernel)),
        "weight_gradient": (weight_gradient, (x, y)),
    }
    runs, work = {}, {}
    runs["sgemm"], work["sgemm"] = timing.sgemm()
    for name, (operation, arguments) in operands.items():
        runs[name], iterations = timing.repeated(operation, arguments, flops)
        work[name] = flops * iterations
    times = timing.in_turn(runs, repeats)
    speed = {name: work[name] / timing.median(times[name]).wall / 1e9 for name in runs}
    shares = {f"{name}_share": speed[name] / speed["sgemm"] for name in OPERATIONS}
    return {"convolution": str(shape), "batch": batch} | speed | shares


def report(
    convolutions: Sequence[Shape], batch: int, repeats: int
) -> list[dict[str, Any]]:
    """Measures each distinct convolution, and prints the table."""
    rows = [measure(shape, batch, repeats) for shape in dict.fromkeys(convolutions)]
    print(f"\nconvolutions in a scan, batch {batch}: GFLOP/s, and share of sgemm")
    print(timing.table(rows))
    return rows


def main() -> None:
    """Measures the convolutions of the prior and of every target."""
    batches, repeats = timing.checked_flags()
    pairs = [networks.generator(), networks.critic(), *networks.targets().values()]
    every = [shape for network in pairs for shape in shapes(*network)]
    rows = [row for batch in batches for row in report(every, batch, repeats)]
    timing.write({"convolutions": rows})


if __name__ == "__main__":
    common.run(main)
