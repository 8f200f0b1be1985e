"""DLG and Inverting Gradients in PyTorch eager, one victim after the other.

The loops of the authors' published settings: `torch.optim.LBFGS` with its defaults
(learning rate 1, 20 inner iterations, history 100, no line search) on images and soft
labels together; signed Adam on the cosine and total variation, boxed. Networks are ours
with the same weights.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.torch_networks import Layers, Tensor, functional, torch


def strided(network: Layers, x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """`mijax.models.strided.StridedConvNet` with sigmoids: the logits."""
    for index, stride in enumerate(strides):
        layer = network[f"conv_{index}"]
        padding = layer["kernel"].shape[-1] // 2
        x = functional.conv2d(x, layer["kernel"], layer["bias"], stride, padding)
        x = torch.sigmoid(x)
    layer = network["logits"]
    return functional.linear(_flatten(x), layer["kernel"], layer["bias"])


def conv_net(network: Layers, x: Tensor) -> Tensor:
    """`mijax.models.conv_net.ConvNet` by its running statistics: the logits."""
    for index in range(8):
        layer, norm = network[f"conv_{index}"], network[f"norm_{index}"]
        x = functional.conv2d(x, layer["kernel"], layer["bias"], 1, 1)
        x = functional.batch_norm(
            x, norm["mean"], norm["var"], norm["scale"], norm["bias"], eps=1e-5
        )
        x = functional.relu(x)
        if index in (5, 7):
            x = functional.max_pool2d(x, 3)
    layer = network["logits"]
    return functional.linear(_flatten(x), layer["kernel"], layer["bias"])


def weights(network: Layers) -> list[Tensor]:
    """The trained parameters, which gradients are taken of."""
    return [
        tensor.requires_grad_()
        for layer in network.values()
        for name, tensor in layer.items()
        if name not in ("mean", "var")
    ]


def gradient(loss: Tensor, parameters: list[Tensor], **options: Any) -> list[Tensor]:
    """The gradient that a client shares, or one that can be differentiated again."""
    return torch.autograd.grad(loss, parameters, **options)


def dlg(
    logits: Callable[[Tensor], Tensor],
    parameters: list[Tensor],
    observed: list[Tensor],
    x: Tensor,
    labels: Tensor,
    steps: int,
    inner: int,
) -> list[float]:
    """The authors' loop for one victim; the loss before each step and at the end.

    Args:
      logits: of images `[1, C, H, W]`.
      parameters: of the network.
      observed: their gradient.
      x: first image.
      labels: first logits of the soft label, `[1, K]`.
      steps: calls of the optimizer.
      inner: iterations of each, at most.
    """

    def distance(x: Tensor, labels: Tensor) -> Tensor:
        soft = torch.softmax(labels, -1)
        loss = -(soft * torch.log_softmax(logits(x), -1)).sum(-1).mean()
        found = gradient(loss, parameters, create_graph=True)
        return sum(((f - o) ** 2).sum() for f, o in zip(found, observed, strict=True))

    return lbfgs(distance, x, labels, steps, inner)


def lbfgs(
    distance: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    labels: Tensor,
    steps: int,
    inner: int,
) -> list[float]:
    """L-BFGS on images and soft labels; the loss before each step and at the end."""
    x, labels = (start.clone().requires_grad_() for start in (x, labels))
    optimizer = torch.optim.LBFGS([x, labels], max_iter=inner)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = distance(x, labels)
        loss.backward(inputs=[x, labels])
        return loss

    losses = [float(optimizer.step(closure).detach()) for _ in range(steps)]
    return [*losses, float(distance(x, labels).detach())]


def inverting_gradients(
    logits: Callable[[Tensor], Tensor],
    parameters: list[Tensor],
    observed: list[Tensor],
    x: Tensor,
    labels: Tensor,
    steps: int,
    rate: float,
    tv_weight: float,
) -> list[float]:
    """The authors' loop for one victim; the loss before each step.

    Args:
      logits: of images `[1, C, H, W]`.
      parameters: of the network.
      observed: their gradient.
      x: first image.
      labels: `[1]`.
      steps: iterations.
      rate: of Adam, in pixels.
      tv_weight: of the mean total variation.
    """

    def objective(x: Tensor) -> Tensor:
        loss = functional.cross_entropy(logits(x), labels)
        found = gradient(loss, parameters, create_graph=True)
        return cosine_and_variation(found, observed, x, tv_weight)

    return signed_adam(objective, x, steps, rate)


def cosine_and_variation(
    found: list[Tensor], observed: list[Tensor], x: Tensor, tv_weight: float
) -> Tensor:
    """The authors' loss: one less the cosine, and the weighted mean variation."""
    length = torch.stack([(o**2).sum() for o in observed]).sum().sqrt()
    product = sum((f * o).sum() for f, o in zip(found, observed, strict=True))
    norm = torch.stack([(f**2).sum() for f in found]).sum().sqrt()
    variation = (x[:, :, 1:] - x[:, :, :-1]).abs().mean()
    variation = variation + (x[:, :, :, 1:] - x[:, :, :, :-1]).abs().mean()
    return 1 - product / (norm * length) + tv_weight * variation


def signed_adam(
    objective: Callable[[Tensor], Tensor], x: Tensor, steps: int, rate: float
) -> list[float]:
    """Adam on the sign of the gradient, in a box; the loss before each step."""
    x = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=rate)
    milestones = [steps * eighths // 8 for eighths in (3, 5, 7)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        total = objective(x)
        total.backward(inputs=[x])
        losses.append(float(total.detach()))
        x.grad.sign_()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    return losses


def _flatten(x: Tensor) -> Tensor:
    # In Flax's order, [H, W, C].
    return x.permute(0, 2, 3, 1).flatten(1)
