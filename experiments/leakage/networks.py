"""The models that clients are sent, untrained and trained, with their test accuracy."""

import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import judging, worlds
from experiments.harness import resumable
from mijax import training
from mijax.core import Prediction, Target
from mijax.data import Dataset
from mijax.metrics import identity
from mijax.models import cifar_resnet, initialization, resnet
from mijax.models.strided import StridedConvNet, dlg_lenet

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ADAM = optax.adam(1e-3)
_BATCH, _CHUNK = 64, 500


class Sent(NamedTuple):
    """A model that the server sends, and whether it is right about each test image."""

    target: Target
    hits: np.ndarray | None = None


class Standardized(nn.Module):
    """A network that standardizes its images first, by ImageNet's mean and deviation.

    Attributes:
      network: any of `mijax.models`, for color images.
    """

    network: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns the network's prediction."""
        mean, deviation = (
            jnp.asarray(each)[None, None, None] for each in (_MEAN, _DEVIATION)
        )
        return self.network((x - mean) / deviation, train)


MODULES: dict[str, nn.Module] = {
    "lenet": dlg_lenet(10),
    "convnet": StridedConvNet(10, (16, 32), (2, 2), 3, nn.relu),
    "resnet20": Standardized(cifar_resnet.CifarResNet()),
    "resnet18": Standardized(resnet.resnet18(10)),
}
TITLES = {
    "lenet": "DLG's LeNet",
    "convnet": "two ReLU convolutions",
    "resnet20": "ResNet-20",
    "resnet18": "ResNet-18",
}


def untrained(key: jax.Array, name: str, shape: tuple[int, ...]) -> Sent:
    """A model with its first weights: DLG's wide ones for its LeNet."""
    module = MODULES[name]
    if name == "lenet":
        variables = initialization.uniform(key, module, shape, 0.5)
    else:
        variables = initialization.initialize(key, module, shape)
    return Sent(Target.from_linen(module, variables, shape))


def trained(
    key: jax.Array,
    name: str,
    train: Dataset,
    test: Dataset,
    *,
    steps: int,
    workdir: pathlib.Path,
    data_dir: str | None,
) -> Sent:
    """A model that has learned the task: published weights of ResNet-20, or our own."""
    module, shape = MODULES[name], train.images.shape[1:]
    weights = pathlib.Path(worlds.data_folder(data_dir) or ".") / "weights"
    if name == "resnet20" and weights.is_dir():
        loaded = cifar_resnet.load(weights / "cifar_resnet20.npz", 20)
        variables: Any = {kind: {"network": tree} for kind, tree in loaded.items()}
    else:
        start_key, fit_key = jax.random.split(key)
        variables = resumable.train(
            fit_key,
            training.train_state(start_key, module, shape, _ADAM),
            training.supervised(module, _ADAM),
            (train.images, train.labels),
            name=name,
            folder=workdir / "checkpoints" / name,
            batch_size=_BATCH,
            steps=steps,
            chunk=_CHUNK,
        ).variables
    target = Target.from_linen(module, variables, shape)
    logits = judging.batched(lambda x: target.predict(x).logits)(test.images)
    return Sent(target, identity.top_k(logits, test.labels, 1))
