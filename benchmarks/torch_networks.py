"""The same networks and the same GMI step in PyTorch eager, with the same weights.

Weights are frozen (`requires_grad_(False)`), so that PyTorch, like XLA, computes no
weight gradient. PyTorch is needed by the benchmarks alone and is not a dependency.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from benchmarks import peers
from mijax.attacks import gmi

torch = peers.required("torch", "pip install torch")
functional = torch.nn.functional

Tensor = Any
Layer = dict[str, Tensor]
Layers = Mapping[str, Layer]  # by Flax's path, such as stage_0_0/conv_1


def layers(variables: Any, device: str, channels_last: bool) -> dict[str, Layer]:
    """Flax variables as frozen tensors: convolutions OIHW, dense layers OI."""
    found: dict[str, Layer] = {}
    for path, leaf in traverse_util.flatten_dict(variables).items():
        tensor = torch.tensor(np.asarray(leaf), device=device)
        if tensor.ndim == 4:
            tensor = tensor.permute(3, 2, 0, 1).contiguous()
            if channels_last:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
        elif tensor.ndim == 2:
            tensor = tensor.T.contiguous()
        found.setdefault("/".join(path[1:-1]), {})[path[-1]] = tensor
    return found


def _convolve(layer: Layer, x: Tensor, stride: int, padding: int) -> Tensor:
    return functional.conv2d(x, layer["kernel"], layer.get("bias"), stride, padding)


def _normalize(layer: Layer, x: Tensor, train: bool = False) -> Tensor:
    moments = layer["mean"], layer["var"]
    affine = layer["scale"], layer.get("bias")
    return functional.batch_norm(x, *moments, *affine, train, eps=1e-5)


def _dense(layer: Layer, x: Tensor) -> Tensor:
    return functional.linear(x, layer["kernel"], layer.get("bias"))


def _flatten(x: Tensor) -> Tensor:
    # In Flax's order, [H, W, C]; the last maps are small.
    return x.permute(0, 2, 3, 1).flatten(1)


def generate(
    generator: Layers,
    z: Tensor,
    channels_last: bool,
    train: bool = False,
    labels: Tensor | None = None,
) -> Tensor:
    """`mijax.models.dcgan.Generator` with kernels of 4x4.

    With `train` it normalizes by the batch and updates the running statistics.
    """

    def normalize(index: int, x: Tensor) -> Tensor:
        x = _normalize(generator[f"BatchNorm_{index}"], x, train)
        if labels is None:
            return x
        own = generator[f"Embed_{index}"]["embedding"].T[labels][:, :, None, None]
        scale, shift = own.chunk(2, 1)
        return x * (1 + scale) + shift

    width = generator["BatchNorm_0"]["mean"].shape[0]
    x = _dense(generator["Dense_0"], z).reshape(len(z), 4, 4, width)
    x = x.permute(0, 3, 1, 2)
    if not channels_last:
        x = x.contiguous()
    x = functional.relu(normalize(0, x))
    number = sum(name.startswith("ConvTranspose") for name in generator)
    for i in range(number):
        layer = generator[f"ConvTranspose_{i}"]
        x = functional.conv_transpose2d(x, layer["kernel"], layer.get("bias"), 2, 1)
        if i < number - 1:
            x = functional.relu(normalize(i + 1, x))
    return torch.sigmoid(x)


def criticize(critic: Layers, x: Tensor) -> Tensor:
    """`mijax.models.dcgan.Critic` with kernels of 4x4."""
    x = 2 * x - 1
    for i in range(sum(name.startswith("Conv") for name in critic)):
        x = functional.leaky_relu(_convolve(critic[f"Conv_{i}"], x, 2, 1), 0.2)
    return _dense(critic["Dense_0"], _flatten(x))[:, 0]


def vgg16(network: Layers, x: Tensor) -> Tensor:
    """`mijax.models.vgg.VGG16`: the logits."""
    for stage, depth in enumerate((2, 2, 3, 3, 3)):
        for i in range(depth):
            x = _convolve(network[f"conv_{stage}_{i}"], x, 1, 1)
            x = functional.relu(_normalize(network[f"norm_{stage}_{i}"], x))
        x = functional.max_pool2d(x, 2)
    return _dense(network["logits"], _normalize(network["feature_norm"], _flatten(x)))


def _residual(network: Layers, name: str, x: Tensor, stride: int) -> Tensor:
    layer: dict[str, Any] = {part: network.get(f"{name}/{part}") for part in _RESIDUAL}
    y = _normalize(layer["norm_0"], x)
    y = functional.prelu(_convolve(layer["conv_0"], y, 1, 1), layer["prelu"]["slope"])
    y = _normalize(layer["norm_1"], _convolve(layer["conv_1"], y, stride, 1))
    if layer["shortcut"] is None:
        return x[:, :, ::stride, ::stride] + y
    shortcut = _convolve(layer["shortcut"], x, stride, 0)
    return _normalize(layer["shortcut_norm"], shortcut) + y


_RESIDUAL = (
    "norm_0",
    "conv_0",
    "prelu",
    "conv_1",
    "norm_1",
    "shortcut",
    "shortcut_norm",
)


def face_evolve(network: Layers, x: Tensor) -> Tensor:
    """`mijax.models.face_evolve.FaceEvolve`: the logits."""
    x = _normalize(network["stem_norm"], _convolve(network["stem"], x, 1, 1))
    x = functional.prelu(x, network["stem_prelu"]["slope"])
    for stage in range(4):
        for index in itertools.count():
            if f"stage_{stage}_{index}/conv_0" not in network:
                break
            x = _residual(network, f"stage_{stage}_{index}", x, 1 if index else 2)
    x = _dense(network["embedding"], _flatten(_normalize(network["map_norm"], x)))
    return _dense(network["logits"], _normalize(network["embedding_norm"], x))


TARGETS: dict[str, Callable[[Layers, Tensor], Tensor]] = {
    "vgg16": vgg16,
    "face_evolve": face_evolve,
}


def descend(
    objective: Callable[[Tensor], Tensor], z: Tensor, config: gmi.Config, steps: int
) -> Tensor:
    """Nesterov momentum on the objective `z -> losses [N]`; the losses, `[steps, N]`.

    Less than the attack does: it keeps no best iterate.
    """
    rate, momentum, clip = config.learning_rate / 100, config.momentum, config.clip
    velocity, losses = torch.zeros_like(z), []
    for _ in range(steps):
        z = z.detach().requires_grad_()
        loss = objective(z)
        (gradient,) = torch.autograd.grad(loss.sum(), z)
        with torch.no_grad():
            velocity = momentum * velocity + gradient
            z = (z - rate * (gradient + momentum * velocity)).clamp(-clip, clip)
        losses.append(loss.detach())
    return torch.stack(losses)
