"""Classifiers as people have them: from scratch, or from a public network.

Each trains by `train(run, key, name, known, world)`, states its `provenance` for the
judges to be compared with, and says in words what it is.
"""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.harness import cache, programs
from experiments.harness.run import Run
from mijax import data, fine_tuning, training
from mijax.core import Target
from mijax.data import TrainTest
from mijax.data.roles import World
from mijax.evaluation.judges import Provenance
from mijax.metrics import identity
from mijax.models import mobile_face_net_ms1m


@dataclasses.dataclass(frozen=True)
class Model:
    """A classifier and its training: AdamW, whose rate falls as a cosine.

    Attributes:
      network: from the number of classes.
      steps: of training.
      batch_size: examples a step.
      learning_rate: at the first step.
      weight_decay: of AdamW.
      design: the family of its layers, to be compared with the judges'.
    """

    network: Callable[[int], nn.Module]
    steps: int = 320
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    design: str = "ResNet"

    def train(
        self,
        run: Run,
        key: jax.Array,
        name: str,
        known: TrainTest,
        world: World,
        *,
        variables: Any = None,
    ) -> tuple[Target, np.ndarray]:
        """Returns the classifier, and whether it is right about each test image.

        Variables are the network's own initial ones, unless some are given.
        """
        rate = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        return run.train(
            key,
            name,
            self.network(len(known.train.names)),
            known,
            optimizer=optax.adamw(rate, weight_decay=self.weight_decay),
            steps=self.steps,
            batch_size=self.batch_size,
            augment=training.shift_and_mirror(3, world.mirror),
            variables=variables,
        )

    def provenance(self, *known: str) -> Provenance:
        """Its design, and the data sets that it was trained on."""
        return Provenance(self.design, frozenset(known))

    def about(self, classes: int) -> str:
        """What it is, in words."""
        return f"{type(self.network(classes)).__name__} of {classes}"


@dataclasses.dataclass(frozen=True)
class PublicPeople(Model):
    """A network that has learned public people, then private ones with all its layers.

    Attributes:
      public_steps: of training on public people.
      at_least: images of a public person; of fewer there is little to learn.
    """

    public_steps: int = 640
    at_least: int = 5

    def train(
        self,
        run: Run,
        key: jax.Array,
        name: str,
        known: TrainTest,
        world: World,
        *,
        variables: Any = None,
    ) -> tuple[Target, np.ndarray]:
        """Returns the classifier, and whether it is right about each test image.

        What it learned of public people is the same for each `name`.

        Raises:
          ValueError: if there are no public people.
        """
        if world.public is None:
            raise ValueError(f"{world.name} has no public people: use --dataset=lfw64.")
        people = data.by_count(world.public, at_least=self.at_least).private
        learned, hits = Model.train(
            dataclasses.replace(self, steps=self.public_steps),
            run,
            jax.random.fold_in(run.key, zlib.crc32(b"public_people")),
            "public_people",
            data.train_test(people, test_fraction=0.1, seed=run.seed),
            world,
        )
        print(f"of {len(people.names)} public people: {hits.mean():.2f}", flush=True)
        module = self.network(len(known.train.names))
        fresh = module.init(key, jnp.zeros((1, *known.train.images.shape[1:])))
        start = jax.tree.map(
            lambda own, other: other if own.shape == other.shape else own,
            fresh,
            learned.params,
        )
        return super().train(run, key, name, known, world, variables=start)

    def provenance(self, *known: str) -> Provenance:
        """Its design, and the data sets that it was trained on."""
        return super().provenance("public people", *known)

    def about(self, classes: int) -> str:
        """What it is, in words."""
        return f"{super().about(classes)}, trained on public people before,"


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """The MobileFaceNet of MS-Celeb-1M, frozen, under a linear head that is trained.

    Attributes:
      steps: of Adam.
      batch_size: examples a step.
      learning_rate: of Adam.
    """

    steps: int = 300
    batch_size: int = 256
    learning_rate: float = 0.01

    def train(
        self, run: Run, key: jax.Array, name: str, known: TrainTest, world: World
    ) -> tuple[Target, np.ndarray]:
        """Returns the classifier, and whether it is right about each test image.

        Embeddings are kept by the hash of the images, mirrored ones are not used.
        """
        del world
        print(f"{name}: a linear head of {len(known.train.names)} people", flush=True)
        embed, frozen = mobile_face_net_ms1m.embed, mobile_face_net_ms1m.load()
        embeddings = cache.once(
            run.workdir,
            name="mobile_face_net_ms1m",
            inputs=(frozen, known.train.images),
            compute=lambda: fine_tuning.embeddings(embed, frozen, known.train.images),
        )
        target = fine_tuning.fine_tune(
            key,
            embed,
            frozen,
            jnp.asarray(embeddings),
            known.train.labels,
            classes=len(known.train.names),
            shape=known.train.images.shape[1:],
            **dataclasses.asdict(self),
        )
        logits = programs.batched(lambda x: target.predict(x).logits)(known.test.images)
        return target, identity.top_k(logits, known.test.labels, 1)

    def provenance(self, *known: str) -> Provenance:
        """Its design, and the data sets that it was trained on."""
        return Provenance("MobileFaceNet", frozenset({"MS-Celeb-1M", *known}))

    def about(self, classes: int) -> str:
        """What it is, in words."""
        return f"A linear head on the MobileFaceNet of MS-Celeb-1M, of {classes}"
