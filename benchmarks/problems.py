"""What the benchmarks attack: random networks, and what their clients share."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mijax import federation
from mijax.core import Prior, Target
from mijax.knowledge import SharedUpdate
from mijax.models.conv_net import ConvNet
from mijax.models.dcgan import Critic, Generator
from mijax.models.strided import dlg_lenet

CIFAR = (32, 32, 3)  # the shape of a client's image


def lenet() -> Target:
    """DLG's network, of weights and biases uniform in +-0.5."""
    network, rng = dlg_lenet(100), np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(-0.5, 0.5, leaf.shape), jnp.float32),
        _shapes(network, CIFAR),
    )
    return Target.from_linen(network, variables, CIFAR)


def conv_net(width: int = 64) -> Target:
    """Inverting Gradients' ConvNet, untrained."""
    network = ConvNet(10, width)
    return Target.from_linen(network, varied(network, CIFAR), CIFAR)


def shared_updates(target: Target, victims: int) -> SharedUpdate:
    """The gradients that clients share, of one random image each, and their labels."""
    x_key, label_key, key = jax.random.split(jax.random.key(1), 3)
    x = jax.random.uniform(x_key, (victims, 1, *CIFAR))
    labels = jax.random.randint(label_key, (victims, 1), 0, target.num_classes)
    recipe = federation.Recipe()
    shared = jax.jit(federation.share)(key, recipe, target, x, labels)
    return SharedUpdate(target, shared.change, 1, recipe, labels=labels)


def varied(
    module: nn.Module, example: tuple[int, ...], conditional: bool = False
) -> Any:
    """Variables much as at the start of training, but that no two layers are alike.

    A conditional module takes labels too.

    Drawn by NumPy: compiling an initialization takes longer than many of the kernels.
    """
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> jax.Array:
        if leaf.ndim > 1:
            fan_in = math.prod(leaf.shape[:-1])
            drawn = rng.normal(0, math.sqrt(2 / fan_in), leaf.shape)
        elif path[-1].key in ("scale", "var"):
            drawn = rng.uniform(0.8, 1.25, leaf.shape)
        else:
            drawn = rng.normal(0, 0.05, leaf.shape)
        return jnp.asarray(drawn, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, _shapes(module, example, conditional))


def _shapes(
    module: nn.Module, example: tuple[int, ...], conditional: bool = False
) -> Any:
    x = jax.ShapeDtypeStruct((1, *example), jnp.float32)
    labels = [jax.ShapeDtypeStruct((1,), jnp.int32)] if conditional else []
    return jax.eval_shape(module.init, jax.random.key(0), x, *labels)


def dcgan(image_size: int, channels: int, width: int) -> tuple[Generator, Critic]:
    """A generator and a critic with kernels of 4x4."""
    return (
        Generator(image_size, channels, width, kernel_size=4),
        Critic(image_size, width, kernel_size=4),
    )


def random_prior(generator: Generator, critic: Critic, latent_size: int) -> Prior:
    """A prior of random weights; a conditional one if its generator has classes."""
    size = generator.image_size
    return Prior.from_linen(
        generator,
        varied(generator, (latent_size,), conditional=generator.classes > 0),
        critic,
        varied(critic, (size, size, generator.channels)),
        latent_size,
    )
