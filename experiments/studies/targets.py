"""Classifiers as people have them: from scratch, or from a public network.

Each trains by `train(run, key, name, known, world)`, states its `provenance` for the
judges to be compared with, and says in words what it is.
"""

import dataclasses
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.harness import cache, programs, resumable
from experiments.harness.run import Run
from mijax import data, fine_tuning, training
from mijax.attacks import lomma
from mijax.core import Target
from mijax.data import TrainTest
from mijax.data.roles import World
from mijax.evaluation.judges import Provenance
from mijax.knowledge import WhiteBox
from mijax.metrics import identity
from mijax.models import face_students, mobile_face_net, mobile_face_net_ms1m


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
    ) -> tuple[Target, np.ndarray]:
        """Returns the classifier, and whether it is right about each test image."""
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
            variables=self.start(run, key, known, world),
        )

    def start(self, run: Run, key: jax.Array, known: TrainTest, world: World) -> Any:
        """The variables that training starts from; None for the network's own."""
        del run, key, known, world

    def distill(
        self,
        run: Run,
        key: jax.Array,
        name: str,
        knowledge: WhiteBox,
        images: np.ndarray,
    ) -> Target:
        """Distills the attacked target into this network, on public images."""
        student = self.network(knowledge.target.num_classes)
        training_ = lomma.student(knowledge, student, learning_rate=self.learning_rate)
        known = lomma.examples(knowledge, images)
        return fitted(run, key, name, training_, known, self.batch_size, self.steps)

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

    def start(self, run: Run, key: jax.Array, known: TrainTest, world: World) -> Any:
        """What was learned of public people, the same for each target.

        Raises:
          ValueError: if there are no public people.
        """
        if world.public is None:
            raise ValueError(f"{world.name} has no public people: use --dataset=lfw64.")
        people = data.by_count(world.public, at_least=self.at_least).private
        own: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(Model)
        }
        own["steps"] = self.public_steps
        learned, hits = Model(**own).train(
            run,
            jax.random.fold_in(run.key, zlib.crc32(b"public_people")),
            "public_people",
            data.train_test(people, test_fraction=0.1, seed=run.seed),
            world,
        )
        print(f"of {len(people.names)} public people: {hits.mean():.2f}", flush=True)
        module = self.network(len(known.train.names))
        fresh = module.init(key, jnp.zeros((1, *known.train.images.shape[1:])))
        return jax.tree.map(
            lambda own, other: other if own.shape == other.shape else own,
            fresh,
            learned.params,
        )

    def provenance(self, *known: str) -> Provenance:
        """Its design, and the data sets that it was trained on."""
        return super().provenance("public people", *known)

    def about(self, classes: int) -> str:
        """What it is, in words."""
        return f"{super().about(classes)}, trained on public people before,"


@dataclasses.dataclass(frozen=True)
class Headed:
    """A public face network, frozen, under a linear head that is trained.

    Attributes:
      steps: of Adam.
      batch_size: examples a step.
      learning_rate: of Adam.
    """

    steps: int = 300
    batch_size: int = 256
    learning_rate: float = 0.01

    def under_head(
        self,
        run: Run,
        key: jax.Array,
        network: tuple[fine_tuning.Embed, Any],
        images: np.ndarray,
        labels: Any,
        classes: int,
    ) -> Target:
        """Trains the head; the network's embeddings are kept by the images' hash."""
        embed, frozen = network
        embeddings = cache.once(
            run.workdir,
            name=embed.__module__.rpartition(".")[2],
            inputs=(frozen, images),
            compute=lambda: fine_tuning.embeddings(embed, frozen, images),
        )
        return fine_tuning.fine_tune(
            key,
            embed,
            frozen,
            jnp.asarray(embeddings),
            labels,
            classes=classes,
            shape=images.shape[1:],
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )


@dataclasses.dataclass(frozen=True)
class FineTuned(Headed):
    """The MobileFaceNet of MS-Celeb-1M under a head, frozen unless it is tuned.

    Attributes:
      tuned_steps: of Adam on all layers, once the head is trained.
      tuned_batch: examples of such a step.
      tuned_rate: of Adam then.
    """

    tuned_steps: int = 0
    tuned_batch: int = 32
    tuned_rate: float = 1e-4

    def train(
        self, run: Run, key: jax.Array, name: str, known: TrainTest, world: World
    ) -> tuple[Target, np.ndarray]:
        """Returns the classifier, and whether it is right about each test image.

        Mirrored images are not used.
        """
        del world
        classes, train = len(known.train.names), known.train
        print(f"{name}: a linear head of {classes} people", flush=True)
        network = mobile_face_net_ms1m.embed, mobile_face_net_ms1m.load()
        target = self.under_head(run, key, network, train.images, train.labels, classes)
        if self.tuned_steps:
            target = fine_tuning.tune(
                jax.random.fold_in(key, 1),
                target,
                (train.images, train.labels),
                steps=self.tuned_steps,
                batch_size=self.tuned_batch,
                learning_rate=self.tuned_rate,
            )
        logits = programs.batched(lambda x: target.predict(x).logits)(known.test.images)
        return target, identity.top_k(logits, known.test.labels, 1)

    def provenance(self, *known: str) -> Provenance:
        """Its design, and the data sets that it was trained on."""
        return Provenance("MobileFaceNet", frozenset({"MS-Celeb-1M", *known}))

    def about(self, classes: int) -> str:
        """What it is, in words."""
        layers = ", all layers tuned," if self.tuned_steps else ","
        return f"A linear head on the MobileFaceNet of MS-Celeb-1M{layers} of {classes}"


@dataclasses.dataclass(frozen=True)
class CasiaHead(Headed):
    """A surrogate: CASIA's MobileFaceNet, frozen, under a head that is distilled.

    Attributes:
      images: public ones that it is distilled on, the first.
    """

    images: int = 2000

    def distill(
        self,
        run: Run,
        key: jax.Array,
        name: str,
        knowledge: WhiteBox,
        images: np.ndarray,
    ) -> Target:
        """Distills the attacked target into a head, on public images."""
        print(f"{name}: a head on CASIA's MobileFaceNet is distilled", flush=True)
        weights = pathlib.Path(run.data_dir or ".") / "weights" / "mobilefacenet.npz"
        network = mobile_face_net.embed, mobile_face_net.load(weights)
        x, confidences = lomma.examples(knowledge, images[: self.images])
        classes = knowledge.target.num_classes
        return self.under_head(run, key, network, np.asarray(x), confidences, classes)

    def provenance(self) -> Provenance:
        """Its design, and the data sets that it was trained on."""
        return Provenance("MobileFaceNet", frozenset({"CASIA-WebFace"}))


@dataclasses.dataclass(frozen=True)
class PublicStudent:
    """A surrogate: a student of the target's public network, under the target's head.

    Where the adversary holds a decoder of templates, they take the head's place.

    Attributes:
      name: of `mijax.models.face_students`.
    """

    name: str

    def distill(
        self,
        run: Run,
        key: jax.Array,
        name: str,
        knowledge: WhiteBox,
        images: np.ndarray,
    ) -> Target:
        """Returns it: the student ships, so that nothing is trained."""
        del run, key, name, images
        embed, frozen = face_students.load(self.name)
        target = knowledge.target
        if knowledge.decoder is not None:
            target = fine_tuning.under_templates(target, knowledge.decoder)
        return fine_tuning.under_head(target, embed, frozen)

    def provenance(self) -> Provenance:
        """Its design, and whose answers it learned."""
        return Provenance("plain convolutions", frozenset({"MS-Celeb-1M"}))


def fitted(
    run: Run,
    key: jax.Array,
    name: str,
    training_: training.Training[Any, Any],
    known: Any,
    batch_size: int,
    steps: int,
) -> Any:
    """Trains what an attack needs first, from its last checkpoint."""
    init_key, fit_key = jax.random.split(key)
    state = resumable.train(
        fit_key,
        training_.init(init_key),
        training_.step,
        known,
        name=name,
        folder=run.workdir / "checkpoints" / name,
        batch_size=batch_size,
        steps=steps,
        chunk=100,
    )
    return training_.finish(state)
