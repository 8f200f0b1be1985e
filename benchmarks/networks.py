"""The networks that the benchmarks share: the shipped face prior, and two targets."""

from typing import Any, NamedTuple

from flax import linen as nn

import mijax.priors
from benchmarks.problems import varied
from mijax.core import Prior, Target
from mijax.models.face_evolve import FaceEvolve
from mijax.models.vgg import VGG16

CLASSES = 62  # people of LFW with at least 20 images: the demo's private set


class Network(NamedTuple):
    """A module, its variables, and the shape of one example."""

    module: nn.Module
    variables: Any
    example: tuple[int, ...]


def prior() -> Prior:
    """The shipped face prior."""
    return mijax.priors.load("faces64")


def generator() -> Network:
    """The shipped face prior's generator."""
    module, _, latent_size = _modules()
    return Network(module, prior().generator, (latent_size,))


def critic() -> Network:
    """The shipped face prior's critic."""
    _, module, _ = _modules()
    return Network(module, prior().critic, prior().shape)


def targets() -> dict[str, Network]:
    """GMI's VGG16 at a quarter of its width, and the target of `make demo`."""
    modules = {
        "vgg16": VGG16(CLASSES, width=16),
        "face_evolve": FaceEvolve(CLASSES, 8, (1, 1, 1, 1), 128),
    }
    return {name: _initialized(module) for name, module in modules.items()}


def target(network: Network) -> Target:
    """What an attack knows of a network."""
    return Target.from_linen(network.module, network.variables, network.example)


def _modules() -> tuple[nn.Module, nn.Module, int]:
    return mijax.priors.networks(mijax.priors.card("faces64")["networks"])


def _initialized(module: nn.Module) -> Network:
    example = prior().shape
    return Network(module, varied(module, example), example)
