"""The networks that servers of Inverting Gradients' experiments send, untrained."""

import pathlib
from typing import Any

import flax.linen as nn

from experiments.studies.leakage import Model
from mijax.models import cifar_resnet, resnet
from mijax.models.conv_net import ConvNet
from mijax.models.standardized import Standardized
from mijax.models.strided import StridedConvNet, dlg_lenet


def published(folder: str | None) -> Any:
    """Published weights of ResNet-20, where they are at hand."""
    path = pathlib.Path(folder or ".") / "weights" / "cifar_resnet20.npz"
    if not path.is_file():
        return None
    loaded = cifar_resnet.load(path, 20)
    return {kind: {"network": tree} for kind, tree in loaded.items()}


MODELS = {
    "lenet": Model(dlg_lenet, reach=0.5, stream=0),
    "convnet": Model(
        lambda classes: StridedConvNet(classes, (16, 32), (2, 2), 3, nn.relu), stream=1
    ),
    "resnet20": Model(
        lambda classes: Standardized(cifar_resnet.CifarResNet(classes)),
        stream=2,
        published=published,
    ),
    "resnet18": Model(lambda classes: Standardized(resnet.resnet18(classes)), stream=3),
    "convnet64": Model(lambda classes: Standardized(ConvNet(classes)), stream=4),
    "resnet20_4": Model(
        lambda classes: Standardized(cifar_resnet.CifarResNet(classes, width=64)),
        stream=5,
    ),
}
