"""What every test file shares: strict shapes, the data folder, and tiny networks."""

import os
import pathlib

# Tests run most programs once, so they compile them quickly; child processes too.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax.core import Prior, Target
from mijax.models.dcgan import Critic, Generator
from mijax.models.mlp import MLP

jax.config.update("jax_numpy_rank_promotion", "raise")

_BESIDE = pathlib.Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def optimized(monkeypatch):
    """Compiles as a user's run does: for what is promised bit for bit."""
    before = jax.config.read("jax_disable_most_optimizations")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    jax.clear_caches()


@pytest.fixture(scope="session")
def data_dir():
    """The folder of the real data; the test is skipped where there is none."""
    folder = pathlib.Path(os.environ.get("MIJAX_DATA_DIR", _BESIDE))
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}: set MIJAX_DATA_DIR to the data folder")
    return folder


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


@pytest.fixture(scope="session")
def classifier():
    """A Linen module for 8x8x1 images of 3 classes."""
    return MLP(3, widths=(6,))


@pytest.fixture(scope="session")
def variables(classifier):
    """Two sets of the classifier's variables."""
    return [drawn(classifier, seed, (1, 8, 8, 1)) for seed in (1, 2)]


@pytest.fixture(scope="session")
def target(classifier, variables):
    """The classifier as a target."""
    return Target.from_linen(classifier, variables[0], (8, 8, 1))


@pytest.fixture(scope="session")
def prior():
    """A generator and a critic of 8x8x1 images, of random weights."""
    generator, critic = Generator(8, width=2), Critic(8, width=2)
    return Prior.from_linen(
        generator,
        drawn(generator, 3, (1, 4)),
        critic,
        drawn(critic, 4, (1, 8, 8, 1)),
        latent_size=4,
    )
