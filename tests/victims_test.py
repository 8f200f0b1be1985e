"""Chunks and devices change no result."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from mijax import batching, federation
from mijax.attacks import inverting_gradients, mi_face
from mijax.federation import Recipe
from mijax.knowledge import Scores, SharedUpdate, WhiteBox

KEY = jax.random.key(0)
CONFIG = inverting_gradients.Config(steps=2, restarts=2, tv_weight=1e-2)


def shared(number):
    x = jax.random.uniform(KEY, (number, 1, *tiny.SHAPE))
    labels = jnp.arange(number)[:, None] % tiny.CLASSES
    update = jax.jit(federation.share)(KEY, Recipe(), tiny.target(), x, labels)
    return SharedUpdate(tiny.target(), update.change, labels=labels)


def same(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected
    )


def test_chunks_change_no_result():
    whole = jax.jit(inverting_gradients.attack)(KEY, shared(5), CONFIG)
    chunked = batching.in_chunks(inverting_gradients.attack, 2)
    same(jax.jit(chunked)(KEY, shared(5), CONFIG), whole)


def on_devices():
    """Run by a process of as many devices as the test says."""
    assert jax.device_count() == int(os.environ["EXPECTED_DEVICES"])
    attack = batching.in_chunks(inverting_gradients.attack, 2)
    spread = batching.across(attack, batching.over_devices())
    whole = jax.jit(inverting_gradients.attack)(KEY, shared(5), CONFIG)
    same(jax.jit(spread)(KEY, shared(5), CONFIG), whole)


@pytest.mark.process
@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_devices_change_no_result(devices):
    environment = {
        **os.environ,
        "EXPECTED_DEVICES": str(devices),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.path.dirname(__file__),
    }
    code = "import conftest, victims_test; victims_test.on_devices()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_keys_do_not_depend_on_their_number():
    few, many = batching.keys_of(KEY, 2), batching.keys_of(KEY, 5)
    assert np.array_equal(jax.random.key_data(few), jax.random.key_data(many)[:2])
    assert batching.keys_of(many, 5) is many
    with pytest.raises(ValueError, match=r"\(5,\) keys for 2 victims"):
        batching.keys_of(many, 2)


def test_a_black_box_is_not_divided():
    box = Scores.of(tiny.target(), jnp.array([0, 1]))
    for divided in (
        batching.in_chunks(mi_face.attack, 1),
        batching.across(mi_face.attack, batching.over_devices()),
    ):
        with pytest.raises(ValueError, match="Scores cannot be divided"):
            divided(KEY, box, mi_face.Config(steps=1))


def test_a_method_without_randomness_is_divided_too():
    box = WhiteBox(tiny.target(), jnp.array([0, 1, 2]))
    config = mi_face.Config(steps=2)
    whole = jax.jit(mi_face.attack)(KEY, box, config)
    chunked = batching.in_chunks(mi_face.attack, 2)
    for divided in (chunked, batching.across(chunked, batching.over_devices())):
        same(jax.jit(divided)(KEY, box, config), whole)


def test_a_chunk_of_none_is_refused():
    with pytest.raises(ValueError, match="size is 0"):
        batching.in_chunks(inverting_gradients.attack, 0)
