"""A small training with a checkpoint every few steps, run to be killed."""

import pathlib
import sys

import jax
import numpy as np
import optax

from experiments.harness import resumable
from mijax import training
from mijax.core import Target
from mijax.federation import Clients, Federation, Recipe, Selective
from mijax.models.mlp import MLP

SHAPE = (8, 8, 1)


def train(folder, steps=100_000, chunk=4):
    """Trains a classifier of noise, from the last checkpoint in `folder`."""
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(50, *SHAPE)).astype(np.float32)
    labels = rng.integers(0, 3, 50).astype(np.int32)
    module, optimizer = MLP(3, widths=(16,)), optax.adam(1e-3)
    start = training.train_state(jax.random.key(0), module, SHAPE, optimizer)
    return resumable.train(
        jax.random.key(1),
        start,
        training.supervised(module, optimizer, augment=training.shift_and_mirror(1)),
        (images, labels),
        name="noise",
        folder=pathlib.Path(folder),
        batch_size=16,
        steps=steps,
        chunk=chunk,
    )


def federate(folder, rounds=100_000, chunk=4):
    """Trains three clients of noise by selective exchange, from the last checkpoint."""
    rng = np.random.default_rng(0)
    parts = [
        (rng.uniform(size=(9, *SHAPE)).astype(np.float32), rng.integers(0, 3, 9))
        for _ in range(3)
    ]
    module = MLP(3, widths=(16,))
    variables = module.init(jax.random.key(0), np.zeros((1, *SHAPE)))
    begun = Federation.of(
        Recipe(local_steps=2, learning_rate=0.05),
        Target.from_linen(module, variables, SHAPE),
        Clients.of(parts),
        batch_size=4,
        participants=2,
        exchange=Selective(download=0.5, upload=0.2),
    )
    return resumable.rounds(
        jax.random.key(1),
        begun,
        name="noise",
        folder=pathlib.Path(folder),
        rounds=rounds,
        chunk=chunk,
    )


if __name__ == "__main__":
    {"train": train, "federate": federate}[sys.argv[1]](sys.argv[2])
