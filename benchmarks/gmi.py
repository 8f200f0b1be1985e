"""One GMI step against PyTorch eager: same networks, weights, latents and losses.

A step is the generator, the identity loss, the critic, the way back to the latents,
Nesterov momentum and the clip. Ours runs twice: as the attack's own `scan`, and as a
loop in Python of one compiled step. PyTorch runs with frozen weights at its best of
one thread and all, and of both memory layouts. Losses must agree before anything is
timed: of every victim at the first step, of the median victim at the later ones, where
rounding takes some across a kink of a ReLU. Contenders take turns; compilation is
apart.

    python -m benchmarks.gmi
    python -m benchmarks.gmi --batches=60 --targets=vgg16 --output=gmi.json

Then every convolution's share of sgemm in a loop (see `benchmarks.convolution`), and
the memory of the compiled attack, which must not grow with the iterations.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from jax import Array

from benchmarks import convolution, networks, timing
from benchmarks import torch_networks as peer
from experiments.harness import flags as common
from mijax import search
from mijax.attacks import gmi
from mijax.batching import keys_of
from mijax.core import Prior, Target
from mijax.knowledge import WhiteBox

_TARGETS = flags.DEFINE_multi_enum(
    "targets", list(peer.TARGETS), list(peer.TARGETS), "Networks to attack."
)
_STEPS = flags.DEFINE_integer(
    "steps", 10, "Steps between two looks at the clock.", lower_bound=2
)
_CONVOLUTIONS = flags.DEFINE_bool(
    "convolutions", True, "Measure each convolution as well, at the largest batch."
)
_TOLERANCE = 1e-4  # of losses, relative
_PRECISION = "float32"  # no TensorFloat-32 on either side


def attack(
    target: Target, prior: Prior, batch: int, steps: int
) -> tuple[Callable[..., Array], tuple[Any, ...]]:
    """The attack itself, `steps` iterations in one `scan`: its losses, `[steps, B]`."""
    config = gmi.Config(steps=steps - 1, restarts=1)

    def run(key: Array, knowledge: WhiteBox) -> Array:
        return gmi.attack(key, knowledge, config).trace[:, 0].T

    return run, (jax.random.key(0), WhiteBox(target, _labels(batch), prior))


def one_step(
    latents: tuple[Array, Any], labels: Array, target: Target, prior: Prior
) -> tuple[tuple[Array, Any], Array]:
    """The same step by itself, from latents and velocity to both and the losses."""
    config, optimizer = gmi.Config(), _optimizer()

    def objective(z: Array) -> Array:
        x = prior.images(z)
        identity = config.identity_loss(target.predict(x), labels, None)
        return config.identity_weight * identity - prior.score(x)

    z, velocity = latents
    losses, gradient, _ = search.gradient_of(objective)(z, None)
    updates, velocity = optimizer.update(gradient, velocity)
    moved: Any = optax.apply_updates(z, updates)
    z = jnp.clip(moved, -config.clip, config.clip)
    return (z, velocity), losses


def _optimizer() -> optax.GradientTransformation:
    config = gmi.Config()
    return optax.sgd(config.learning_rate / 100, config.momentum, nesterov=True)


def _labels(batch: int) -> Array:
    return jnp.arange(batch, dtype=jnp.int32) % networks.CLASSES


def start(batch: int, prior: Prior) -> Array:
    """The latents that `gmi.attack` draws from key 0."""
    limit, keys = gmi.Config().clip, keys_of(jax.random.key(0), batch)
    drawn = jax.vmap(lambda key: prior.sample(key, 1)[0])(keys)
    return jnp.clip(drawn, -limit, limit)


def torch_runs(
    name: str, network: networks.Network, prior: Prior, z: Array, steps: int
) -> dict[str, Callable[[], Any]]:
    """PyTorch in each number of threads and each memory layout."""
    torch, config = peer.torch, gmi.Config()
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    latents = torch.tensor(np.asarray(z), device=device)
    labels = torch.tensor(np.asarray(_labels(len(z))), device=device).long()

    def make(threads: int, channels_last: bool) -> Callable[[], Any]:
        generator, critic, target = (
            peer.layers(variables, device, channels_last)
            for variables in (prior.generator, prior.critic, network.variables)
        )

        def objective(z: Any) -> Any:
            x = peer.generate(generator, z, channels_last)
            identity = peer.functional.cross_entropy(
                peer.TARGETS[name](target, x), labels, reduction="none"
            )
            return config.identity_weight * identity - peer.criticize(critic, x)

        def run() -> Any:
            torch.set_num_threads(threads)
            return peer.descend(objective, latents, config, steps).cpu().numpy()

        return run

    return {
        f"torch {device}, {threads} threads, {layout}": make(threads, layout == "NHWC")
        for threads in sorted({1, timing.cores()})
        for layout in ("NCHW", "NHWC")
    }


def agree(losses: dict[str, np.ndarray]) -> float:
    """The largest relative difference of losses `[steps, B]` to the first contender's.

    Raises:
      ValueError: if it is above the tolerance: a comparison would mean nothing.
    """
    (first, reference), *others = losses.items()
    scale = np.mean(np.abs(reference), 1)
    worst, difference = first, 0.0
    for name, values in others:
        away = np.abs(values - reference)
        away = np.append(np.max(away[0]), np.median(away[1:], 1)) / scale
        if not np.max(away) <= difference:
            worst, difference = name, float(np.max(away))
    if not difference <= _TOLERANCE:
        raise ValueError(
            f"Losses of {worst!r} differ from those of {first!r} by "
            f"{difference:.1e} of their size, more than {_TOLERANCE:.0e}: "
            "the networks or the weights are not the same."
        )
    return difference


def flops(network: networks.Network, batch: int) -> float:
    """Floating-point operations of the convolutions of one step, there and back."""
    every = [networks.generator(), networks.critic(), network]
    return 2 * sum(
        shape.flops(batch) for each in every for shape in convolution.shapes(*each)
    )


def compare(
    name: str, network: networks.Network, batch: int, steps: int, repeats: int
) -> list[dict[str, Any]]:
    """Checks the losses of all contenders, then times them in turn."""
    target, prior = networks.target(network), networks.prior()
    z = start(batch, prior)
    run, operands = attack(target, prior, batch, steps)
    scan, scan_compiled = timing.compiled(run, *operands)
    latents = z, _optimizer().init(z)
    step, step_compiled = timing.compiled(
        one_step, latents, _labels(batch), target, prior
    )

    def loop() -> np.ndarray:
        state, labels, losses = latents, _labels(batch), []
        for _ in range(steps):
            state, loss = step(state, labels, target, prior)
            losses.append(loss)
        return np.stack(jax.device_get(losses))

    ours = {"mijax scan": lambda: np.asarray(scan(*operands)), "mijax loop": loop}
    theirs = torch_runs(name, network, prior, z, steps)
    difference = agree({label: run() for label, run in (ours | theirs).items()})
    trial = timing.in_turn(theirs, 2)
    best = min(theirs, key=lambda label: min(t.wall for t in trial[label]))
    sgemm, sgemm_flops = timing.sgemm()
    runs = ours | {best: theirs[best], "sgemm": sgemm}
    times = timing.in_turn(runs, repeats)
    reached = sgemm_flops / timing.median(times.pop("sgemm")).wall
    peak = timing.device()["peak"]
    compile_seconds = {"mijax scan": scan_compiled, "mijax loop": step_compiled}
    rows = []
    for label, samples in times.items():
        seconds = timing.median(samples, steps)
        faster = timing.ratio(times[best], samples)
        speed = flops(network, batch) / seconds.wall
        rows.append(
            {
                "contender": label,
                "target": name,
                "batch": batch,
                "wall ms/step": 1e3 * seconds.wall,
                "cpu ms/step": 1e3 * seconds.cpu,
                "wall speed-up": faster.wall,
                "cpu speed-up": faster.cpu,
                "GFLOP/s": speed / 1e9,
                "of sgemm": speed / reached,
                "of peak": speed / (1e12 * peak[0]) if peak else "unknown",
                "compile s": compile_seconds.get(label, 0.0),
                "loss difference": difference,
            }
        )
    return rows


def memory(network: networks.Network, batch: int) -> list[dict[str, Any]]:
    """What the compiled attack needs beside its arguments and results."""
    target, prior = networks.target(network), networks.prior()
    rows = []
    for steps in (10, 1000):
        run, operands = attack(target, prior, batch, steps)
        program, _ = timing.compiled(run, *operands)
        analysis = program.memory_analysis()
        rows.append(
            {
                "iterations": steps,
                "batch": batch,
                "temporary MiB": analysis.temp_size_in_bytes / 2**20,
                "result MiB": analysis.output_size_in_bytes / 2**20,
            }
        )
    return rows


def main() -> None:
    """Compares, then measures the convolutions and the memory."""
    batches, repeats = timing.checked_flags()
    jax.config.update("jax_default_matmul_precision", _PRECISION)
    chosen = {
        name: network
        for name, network in networks.targets().items()
        if name in _TARGETS.value
    }
    results: dict[str, Any] = {"torch": peer.torch.__version__}
    print(timing.device() | results)
    print(f"\nGMI: medians of {repeats} turns of {_STEPS.value} steps; speed-ups over")
    print("the best PyTorch, medians of the turns")
    results["steps"] = [
        row
        for name, network in chosen.items()
        for batch in batches
        for row in compare(name, network, batch, _STEPS.value, repeats)
    ]
    print(timing.table(results["steps"]), flush=True)
    largest = max(batches)
    results["memory"] = memory(next(iter(chosen.values())), largest)
    print(f"\nmemory of the compiled attack, target {next(iter(chosen))}")
    print(timing.table(results["memory"]), flush=True)
    if _CONVOLUTIONS.value:
        every = [networks.generator(), networks.critic(), *chosen.values()]
        shapes = [shape for each in every for shape in convolution.shapes(*each)]
        results["convolutions"] = convolution.report(shapes, largest, repeats)
    timing.write(results)


if __name__ == "__main__":
    common.run(main)
