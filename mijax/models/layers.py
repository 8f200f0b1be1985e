"""The layers that several families share."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class PReLU(nn.Module):
    """A leaky ReLU whose slope is learned for each channel (the last axis).

    References:
        He et al., 2015, Delving Deep into Rectifiers, arXiv:1502.01852.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `x` where it is positive and `slope * x` elsewhere, `[..., C]`."""
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],))
        slope = jnp.expand_dims(slope, range(x.ndim - 1))
        return jnp.where(x > 0, x, slope * x)


def batch_norm(
    train: bool, *, use_bias: bool = True, name: str | None = None
) -> nn.BatchNorm:
    """Returns the batch normalization that every family uses.

    With `train` it normalizes by the batch and updates the running statistics, else
    it applies the running statistics. Call it inside a compact `__call__`.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        use_bias=use_bias,
        name=name,
    )


def centered(kernel_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the padding that is alike on all four sides.

    At stride 2 it samples another grid than "SAME" does; the networks of the
    literature, and their published weights, are padded this way.
    """
    side = kernel_size // 2
    return (side, side), (side, side)


def max_pool(x: jax.Array) -> jax.Array:
    """Returns the maximum over non-overlapping 2x2 windows, `[B, H//2, W//2, C]`.

    A last odd row or column is left out. Written as elementwise maxima because their
    gradient is 2.5 times as fast on CPU as a window reduction's. Where values tie,
    they share the gradient.

    Raises:
        ValueError: if the maps are smaller than a window.
    """
    if min(x.shape[1:3]) < 2:
        raise ValueError(
            f"Maps of {x.shape[1]}x{x.shape[2]} cannot be pooled by 2x2: give larger "
            "images, or pool fewer times."
        )
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    rows = jnp.maximum(x[:, 0:height:2], x[:, 1:height:2])
    return jnp.maximum(rows[:, :, 0:width:2], rows[:, :, 1:width:2])
