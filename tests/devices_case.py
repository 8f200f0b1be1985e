"""Attacks 13 victims on all devices of all processes; the first writes what was found.

Run as `python devices_case.py FILE [distributed]`.
"""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from jax.experimental import multihost_utils

from experiments.harness import programs
from mijax.attacks import gmi
from mijax.core import Prior
from mijax.knowledge import WhiteBox, glimpses
from mijax.models.dcgan import Critic, Generator

VICTIMS = 13


def attack(program, seen=True):
    """GMI with a glimpse or without, by `program`."""
    labels = jnp.arange(VICTIMS, dtype=jnp.int32) % tiny.CLASSES
    images = jax.random.uniform(jax.random.key(5), (VICTIMS, *tiny.SHAPE))
    mask = jnp.zeros(tiny.SHAPE).at[:4].set(1)
    glimpse = glimpses.masked(images, mask) if seen else None
    knowledge = WhiteBox(tiny.target(), labels, _prior(), glimpse=glimpse)
    config = gmi.Config(steps=20, restarts=3, learning_rate=1.0)
    return program(gmi.attack, VICTIMS)(jax.random.key(3), knowledge, config)[0]


def _prior():
    """A DCGAN, so that a victim more needs memory that can be told."""
    generator, critic = Generator(8, width=2), Critic(8, width=2)
    return Prior.from_linen(
        generator,
        tiny.drawn(generator, 3, (1, 4)),
        critic,
        tiny.drawn(critic, 4, (1, *tiny.SHAPE)),
        latent_size=4,
    )


def main(path, distributed):
    if distributed:
        jax.distributed.initialize()
    result, found = attack(programs.over_victims), {}
    for name in ("x", "losses", "trace", "candidates"):
        whole = multihost_utils.process_allgather(getattr(result, name), tiled=True)
        found[name] = np.asarray(whole)
    if jax.process_index() == 0:
        sizes = {"devices": jax.device_count(), "processes": jax.process_count()}
        np.savez(path, **found, **sizes)
    print(f"process {jax.process_index()} of {jax.process_count()}", os.getpid())


if __name__ == "__main__":
    main(sys.argv[1], "distributed" in sys.argv)
