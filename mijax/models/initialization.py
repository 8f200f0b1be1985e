"""Making a network's first variables, quickly."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# An initialization runs once, so XLA's optimizations cost more than they save: without
# them a ResNet-18 starts in a fifth of the CPU time.
_COMPILE_QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def initialize(key: jax.Array, module: nn.Module, image_shape: tuple[int, ...]) -> Any:
    """Returns the variables that `module.init` makes, compiled as one program.

    Args:
        key: The key is consumed.
        module: any Linen module that takes one batch of images.
        image_shape: the shape of one image, `[H, W, C]`.
    """
    init = jax.jit(
        lambda key: module.init(key, jnp.zeros((1, *image_shape))),
        compiler_options=_COMPILE_QUICKLY,
    )
    return init(key)


def uniform(
    key: jax.Array, module: nn.Module, image_shape: tuple[int, ...], reach: float
) -> Any:
    """Returns variables whose weights and biases are uniform in +-`reach`.

    DLG and CPL attack networks of reach 0.5, which is wide, and why they succeed. Other
    variables, such as running statistics, are those of `initialize`.

    Args:
        key: The key is consumed.
        module: any Linen module that takes one batch of images.
        image_shape: the shape of one image, `[H, W, C]`.
        reach: the largest absolute value.
    """
    variables = initialize(key, module, image_shape)
    leaves, tree = jax.tree.flatten(variables["params"])
    drawn = [
        jax.random.uniform(key, leaf.shape, leaf.dtype, -reach, reach)
        for key, leaf in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
    ]
    return {**variables, "params": jax.tree.unflatten(tree, drawn)}
