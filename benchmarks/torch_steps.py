"""The accelerator's cases in PyTorch: eager, and by `torch.compile`.

Each function returns a run of some steps on arrays that are already on the device, and
ends with its losses on the host. Compiled, the function that a step differentiates is
one graph; where a step differentiates twice, `torch.func.grad` is traced into it,
because `torch.compile` does not differentiate its own graphs twice.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks import torch_leakage, torch_networks
from benchmarks.torch_networks import Layers, Tensor, functional, torch
from mijax.attacks import dlg, gmi, inverting_gradients
from mijax.core import Prior, Target
from mijax.knowledge import PartialRecord, SharedUpdate
from mijax.priors import wgan_gp

Run = Callable[[], np.ndarray]


def device() -> str:
    """The device that JAX computes on, as PyTorch calls it.

    Raises:
      RuntimeError: if JAX computes on an accelerator that this PyTorch cannot use.
    """
    if jax.default_backend() == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch has no access to the device")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return "cuda"


def _tensor(x: Any) -> Tensor:
    return torch.tensor(np.asarray(x), device=device())


def _layers(variables: Any) -> dict[str, torch_networks.Layer]:
    return torch_networks.layers(variables, device(), channels_last=False)


def _maybe(function: Callable[..., Any], compiled: bool) -> Callable[..., Any]:
    if not compiled:
        return function
    torch._dynamo.reset()
    return torch.compile(function)


def gmi_steps(
    network: str,
    target: Target,
    prior: Prior,
    z: Any,
    labels: Any,
    steps: int,
    compiled: bool,
) -> Run:
    """GMI's steps with frozen weights; losses `[steps, V]`."""
    generator, critic, classifier = (
        _layers(variables)
        for variables in (prior.generator, prior.critic, target.params)
    )
    latents, named = _tensor(z), _tensor(labels).long()
    config = gmi.Config()

    def objective(z: Tensor) -> Tensor:
        x = torch_networks.generate(generator, z, channels_last=False)
        logits = torch_networks.TARGETS[network](classifier, x)
        identity = functional.cross_entropy(logits, named, reduction="none")
        realism = torch_networks.criticize(critic, x)
        return config.identity_weight * identity - realism

    descended = _maybe(objective, compiled)
    return lambda: (
        torch_networks.descend(descended, latents, config, steps).cpu().numpy()
    )


def max_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """PLG-MI's loss."""
    sought = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - sought[:, 0]


def poincare(logits: Tensor, labels: Tensor) -> Tensor:
    """PPA's loss."""
    u = logits / logits.abs().sum(1, keepdim=True)
    v = (1 - 1e-4) * functional.one_hot(labels, logits.shape[1])
    room = (1 - (u**2).sum(1)) * (1 - (v**2).sum(1))
    return torch.acosh(1 + 2 * ((u - v) ** 2).sum(1) / room)


def viewed_steps(
    network: str,
    target: Target,
    prior: Prior,
    z: Any,
    labels: Any,
    weights: tuple[Any, Any],
    identity_loss: Callable[[Tensor, Tensor], Tensor],
    adam: tuple[float, float, float],
    compiled: bool,
) -> Run:
    """PPA's or PLG-MI's steps with frozen weights; losses `[steps, V]`.

    Args:
      network: of `torch_networks.TARGETS`.
      target: the model.
      prior: conditional if its generator was made for labels.
      z: the first latents, `[V, Z]`.
      labels: `[V]`.
      weights: of rows and of columns of each view, `[steps, views, V, H, H]`. Drawing
        them is not timed.
      identity_loss: `(logits, labels) -> [V]`.
      adam: its learning rate and decays.
      compiled: by `torch.compile`.
    """
    generator, classifier = _layers(prior.generator), _layers(target.params)
    start, named = _tensor(z), _tensor(labels).long()
    given = named if "Embed_0" in generator else None
    rows, columns = (_tensor(each)[:, :, :, None] for each in weights)
    rate, *betas = adam

    def objective(z: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        x = torch_networks.generate(generator, z, channels_last=False, labels=given)
        losses = 0
        for left, right in zip(rows, columns, strict=True):
            seen = left @ x @ right.mT
            logits = torch_networks.TARGETS[network](classifier, seen)
            losses = losses + identity_loss(logits, named)
        return losses / len(rows)

    descended = _maybe(objective, compiled)

    def run() -> np.ndarray:
        latents = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([latents], rate, betas)
        losses = []
        for step in range(len(rows)):
            optimizer.zero_grad()
            loss = descended(latents, rows[step], columns[step])
            loss.sum().backward(inputs=[latents])
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).cpu().numpy()

    return run


def _gradients(
    logits: Callable[[Layers, Tensor], Tensor],
    network: dict[str, torch_networks.Layer],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    compiled: bool,
) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """A client's gradient as a function of images and labels, differentiable again."""
    fixed, names = {}, []
    for name, layer in network.items():
        for leaf, tensor in layer.items():
            if leaf in ("mean", "var"):
                fixed[name, leaf] = tensor
            else:
                names.append((name, leaf))
    weights = [network[name][leaf].requires_grad_() for name, leaf in names]

    def loss(weights: list[Tensor], x: Tensor, labels: Tensor) -> Tensor:
        layers: dict[str, torch_networks.Layer] = {}
        for (name, leaf), tensor in [
            *fixed.items(),
            *zip(names, weights, strict=True),
        ]:
            layers.setdefault(name, {})[leaf] = tensor
        return loss_of(logits(layers, x), labels)

    def gradients(x: Tensor, labels: Tensor) -> list[Tensor]:
        if compiled:
            return list(torch.func.grad(loss)(weights, x, labels))
        value = loss(weights, x, labels)
        return torch_leakage.gradient(value, weights, create_graph=True)

    return gradients


def _observed(
    known: SharedUpdate, victim: int, network: Mapping[str, torch_networks.Layer]
) -> list[Tensor]:
    update = jax.tree.map(lambda leaf: leaf[victim], known.update)
    layers = _layers({"params": update})
    return [
        layers[name][leaf]
        for name, layer in network.items()
        for leaf in layer
        if leaf not in ("mean", "var")
    ]


def _images(x: Any) -> Tensor:
    """Images `[V, 1, H, W, C]` as PyTorch's, `[V, 1, C, H, W]`."""
    return _tensor(np.moveaxis(np.asarray(x), -1, 2).copy())


def inverting_gradients_steps(
    known: SharedUpdate,
    x: Any,
    victims: int,
    config: inverting_gradients.Config,
    compiled: bool,
) -> Run:
    """The authors' loop for one victim after the other; losses `[steps, victims]`."""
    network = _layers(known.target.params)
    gradients = _gradients(
        torch_leakage.conv_net, network, functional.cross_entropy, compiled
    )
    starts, labels = _images(x), _tensor(known.labels).long()
    tv_weight = np.asarray(config.tv_weight).item()

    def objective(x: Tensor, labels: Tensor, observed: list[Tensor]) -> Tensor:
        return torch_leakage.cosine_and_variation(
            gradients(x, labels), observed, x, tv_weight
        )

    total = _maybe(objective, compiled)
    everyone = [_observed(known, victim, network) for victim in range(victims)]

    def run() -> np.ndarray:
        losses = [
            torch_leakage.signed_adam(
                lambda x, v=v: total(x, labels[v], everyone[v]),
                starts[v],
                config.steps,
                float(config.learning_rate),
            )
            for v in range(victims)
        ]
        return np.array(losses).T

    return run


def dlg_steps(
    known: SharedUpdate,
    x: Any,
    logits: Any,
    victims: int,
    config: dlg.Config,
    compiled: bool,
) -> Run:
    """The authors' loop for one victim after the other; losses `[steps, victims]`."""
    network = _layers(known.target.params)

    def soft_cross_entropy(predicted: Tensor, labels: Tensor) -> Tensor:
        soft = torch.softmax(labels, -1)
        return -(soft * torch.log_softmax(predicted, -1)).sum(-1).mean()

    gradients = _gradients(
        lambda layers, x: torch_leakage.strided(layers, x, (2, 2, 1)),
        network,
        soft_cross_entropy,
        compiled,
    )

    def objective(x: Tensor, labels: Tensor, observed: list[Tensor]) -> Tensor:
        pairs = zip(gradients(x, labels), observed, strict=True)
        return sum(((ours - theirs) ** 2).sum() for ours, theirs in pairs)

    distance = _maybe(objective, compiled)
    starts, soft = _images(x), _tensor(logits)
    everyone = [_observed(known, victim, network) for victim in range(victims)]

    def run() -> np.ndarray:
        losses = [
            torch_leakage.lbfgs(
                lambda x, labels, v=v: distance(x, labels, everyone[v]),
                starts[v],
                soft[v],
                config.steps,
                config.inner,
            )[:-1]
            for v in range(victims)
        ]
        return np.array(losses).T

    return run


def map_inference_posteriors(known: PartialRecord, layers: Any, compiled: bool) -> Run:
    """Log-posteriors `[K, V]` of a one-hot field in the first columns, deviation 1.

    One candidate after the other, in place, which needs no copy of the records.

    Args:
      known: of the attack.
      layers: kernel and bias of each dense layer of the regressor.
      compiled: by `torch.compile`.
    """
    records, outcome = _tensor(known.record), _tensor(known.outcome)
    encodings = _tensor(known.candidates.encodings)
    dense = [(_tensor(np.asarray(kernel).T), _tensor(bias)) for kernel, bias in layers]

    def predict(x: Tensor) -> Tensor:
        for kernel, bias in dense[:-1]:
            x = functional.relu(functional.linear(x, kernel, bias))
        return functional.linear(x, *dense[-1])[:, 0]

    predicted = _maybe(predict, compiled)

    @torch.inference_mode()
    def run() -> np.ndarray:
        x, errors = records.clone(), []
        for encoding in encodings:
            x[:, : len(encoding)] = encoding
            errors.append(predicted(x) - outcome)
        return torch.log_softmax(-0.5 * torch.stack(errors) ** 2, 0).cpu().numpy()

    return run


def prior_steps(
    state: wgan_gp.State,
    config: wgan_gp.Config,
    images: Any,
    noise: Mapping[str, Any],
    compiled: bool,
) -> Run:
    """Steps of a WGAN-GP; the Wasserstein distances of the critic, `[steps, 1]`.

    Args:
      state: before the first step.
      config: with one critic step for each of the generator.
      images: `[batch, H, W, C]`, the batch of every step.
      noise: latents `critic` and `generator` `[steps, batch, Z]`, and `mix`
        `[steps, penalty_examples, 1, 1, 1]`.
      compiled: by `torch.compile`.
    """
    real = _tensor(np.moveaxis(np.asarray(images), -1, 1).copy())
    drawn = {name: _tensor(value) for name, value in noise.items()}
    examples = config.penalty_examples

    def score_sum(x: Tensor, critic: Layers) -> Tensor:
        return torch_networks.criticize(critic, x).sum()

    def critic_loss(
        critic: Layers, generator: Layers, z: Tensor, mix: Tensor
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            fake = torch_networks.generate(generator, z, False, train=True)
        between = mix * real[:examples] + (1 - mix) * fake[:examples]
        if compiled:
            slopes = torch.func.grad(score_sum)(between, critic)
        else:
            between.requires_grad_()
            (slopes,) = torch.autograd.grad(
                score_sum(between, critic), between, create_graph=True
            )
        norms = torch.sqrt((slopes**2).sum((1, 2, 3)) + 1e-12)
        both = torch_networks.criticize(critic, torch.cat([real, fake]))
        distance = both[: len(real)].mean() - both[len(real) :].mean()
        return config.penalty * ((norms - 1) ** 2).mean() - distance, distance

    def generator_loss(generator: Layers, critic: Layers, z: Tensor) -> Tensor:
        fake = torch_networks.generate(generator, z, False, train=True)
        return -torch_networks.criticize(critic, fake).mean()

    both = _maybe(critic_loss, compiled)
    backwards = torch.compile(generator_loss) if compiled else generator_loss

    def optimizer(weights: list[Tensor], rate: Any) -> Any:
        betas = float(config.momentum), float(config.second_momentum)
        return torch.optim.Adam(weights, float(rate), betas)

    def run() -> np.ndarray:
        generator, critic = _layers(state.generator), _layers(state.critic)
        weights = torch_leakage.weights(generator)
        critic_weights = torch_leakage.weights(critic)
        average = [weight.detach().clone() for weight in weights]
        updates = optimizer(weights, config.learning_rate)
        critic_updates = optimizer(critic_weights, config.critic_learning_rate)
        distances = []
        for z, mix, z_generator in zip(
            drawn["critic"], drawn["mix"], drawn["generator"], strict=True
        ):
            loss, distance = both(critic, generator, z, mix)
            critic_updates.zero_grad()
            loss.backward(inputs=critic_weights)
            critic_updates.step()
            updates.zero_grad()
            backwards(generator, critic, z_generator).backward(inputs=weights)
            updates.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, weights, 1 - float(config.average))
            distances.append(distance.detach())
        return torch.stack(distances)[:, None].cpu().numpy()

    return run
