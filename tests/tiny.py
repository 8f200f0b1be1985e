"""Networks small enough that a test compiles them in a moment."""

import functools
import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import linen as nn

from mijax.core import Prior, Target
from mijax.models.mlp import MLP

SHAPE = (8, 8, 1)
CLASSES = 3
CLASSIFIER = MLP(CLASSES, widths=(6,))


def drawn(module, seed, x):
    """Random variables of a module for inputs like `x`, without compiling anything."""
    rng = np.random.default_rng(seed)
    x = jax.ShapeDtypeStruct(x, jnp.float32)
    return jax.tree.map(
        lambda leaf: jnp.asarray(
            rng.normal(0, 0.3, leaf.shape)
            if len(leaf.shape) > 1
            else np.full(leaf.shape, 0.5),
            jnp.float32,
        ),
        jax.eval_shape(module.init, jax.random.key(0), x),
    )


@functools.cache
def variables(seed):
    """One set of `CLASSIFIER`'s variables a seed."""
    return drawn(CLASSIFIER, seed, (1, *SHAPE))


def classify(variables, x):
    """`CLASSIFIER` as one function, so that `jit` knows it again."""
    return CLASSIFIER.apply(variables, x)


@functools.cache
def target(seed=1):
    """A classifier of random weights."""
    return Target.from_linen(CLASSIFIER, variables(seed), SHAPE)


class _Generator(nn.Module):
    """One dense layer: what is searched through it compiles in a moment."""

    @nn.compact
    def __call__(self, z):
        return nn.sigmoid(nn.Dense(math.prod(SHAPE))(z)).reshape(-1, *SHAPE)


class _Critic(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x.reshape(x.shape[0], -1))[:, 0]


@functools.cache
def prior():
    """A generator and a critic of random weights, for images of `SHAPE`."""
    generator, critic = _Generator(), _Critic()
    return Prior.from_linen(
        generator,
        drawn(generator, 3, (1, 4)),
        critic,
        drawn(critic, 4, (1, *SHAPE)),
        latent_size=4,
    )


@functools.cache
def paper(name):
    """The module `experiments.NAME`, without the flags that it defines.

    Papers share names of flags, so that a process can hold those of one alone.
    """
    before = set(flags.FLAGS)
    module = importlib.import_module(f"experiments.{name}")
    flags.FLAGS.remove_flag_values(set(flags.FLAGS) - before)
    return module
