"""Inverting Gradients as `breaching` runs it, the library of that paper's authors.

Its attacker, settings and loop as they come, one client after the other; the network is
`torch_leakage`'s, with the same weights. Where it is not installed, it is left out.
"""

import types
import warnings
from collections.abc import Callable

from benchmarks import peers
from benchmarks.torch_networks import Layers, Tensor, torch

# Its import scripts functions and reads its settings by ways that newer releases of
# PyTorch and Hydra warn of.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    breaching = peers.optional("breaching")


class Network(torch.nn.Module):
    """Our layers as the module that it expects: trained parameters, and buffers.

    Attributes:
      logits: of the layers and images `[B, C, H, W]`.
    """

    def __init__(self, layers: Layers, logits: Callable[[Layers, Tensor], Tensor]):
        super().__init__()
        self.logits = logits
        self.names = [(name, leaf) for name, layer in layers.items() for leaf in layer]
        for index, (name, leaf) in enumerate(self.names):
            tensor = layers[name][leaf].detach()
            if leaf in ("mean", "var"):
                self.register_buffer(f"n{index}", tensor)
            else:
                setattr(self, f"n{index}", torch.nn.Parameter(tensor))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits of images."""
        layers: dict[str, dict[str, Tensor]] = {}
        for index, (name, leaf) in enumerate(self.names):
            layers.setdefault(name, {})[leaf] = getattr(self, f"n{index}")
        return self.logits(layers, x)


def inverting_gradients(
    network: Network,
    observed: list[Tensor],
    x: Tensor,
    labels: Tensor,
    steps: int,
    rate: float,
    tv_weight: float,
) -> list[float]:
    """Its attack on one client; the loss before each step.

    Args:
      network: what the client was sent.
      observed: the gradient of its parameters, in their order.
      x: first image, `[1, C, H, W]`.
      labels: `[1]`.
      steps: iterations.
      rate: of Adam, in pixels.
      tv_weight: of its total variation, which has a frame of zeros around the image.
    """
    changes = [
        f"optim.max_iterations={steps}",
        f"optim.step_size={rate}",
        f"regularization.total_variation.scale={tv_weight}",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = breaching.get_attack_config("invertinggradients", changes)
    setup = {"dtype": torch.float, "device": torch.device("cpu")}
    attacker = breaching.attacks.prepare_attack(
        network, torch.nn.CrossEntropyLoss(), config, setup
    )
    about = types.SimpleNamespace(shape=tuple(x.shape[1:]), modality="vision")
    sent = {
        "parameters": list(network.parameters()),
        "buffers": list(network.buffers()),
        "metadata": about,
    }
    known = {"num_data_points": 1, "labels": labels, "local_hyperparams": None}
    shared = {"gradients": observed, "buffers": None, "metadata": known}
    _, told = attacker.reconstruct([sent], [shared], {}, initial_data=x)
    return told["Trial_0_Val"]


def available() -> bool:
    """Whether it is installed."""
    return breaching is not None
