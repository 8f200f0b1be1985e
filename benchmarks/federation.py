"""Times whole federated trainings: one program beside a loop in PyTorch.

    pip install torch==2.13.0
    python -m benchmarks.federation --output=federation.json
    python -m benchmarks.federation --clients=20 --rounds=20

Each of the clients trains a small convolutional network on 28x28 digits of its own and
shares the change of its weights; the server takes the mean. Both contenders begin with
the same weights and draw batches of the same size; what they draw differs. The time of
compilation is reported beside that of a run, and the ratio with it included.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import timing, torch_networks
from benchmarks.torch_networks import functional, torch
from experiments.harness import flags as common
from mijax.core import Target
from mijax.federation import Clients, Federation, Recipe, simulate
from mijax.models.lenet import LeNet

_SIDE, _EXAMPLES, _RATE = 28, 50, 0.05
CLIENTS = flags.DEFINE_integer("clients", 100, "How many take part.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 200, "Of the training.", lower_bound=1)
STEPS = flags.DEFINE_integer("local_steps", 2, "Of each client.", lower_bound=1)
BATCH = flags.DEFINE_integer("local_batch", 5, "Examples a step.", lower_bound=1)


def problem() -> tuple[Target, np.ndarray, np.ndarray]:
    """A network, and each client's images `[V, N, H, W, 1]` and labels `[V, N]`."""
    rng = np.random.default_rng(0)
    shape = (CLIENTS.value, _EXAMPLES, _SIDE, _SIDE, 1)
    x = rng.uniform(size=shape).astype(np.float32)
    labels = rng.integers(0, 10, shape[:2])
    module = LeNet(10, (8, 16), (5, 5), (True, True), (64,), "VALID")
    variables = module.init(jax.random.key(0), jnp.zeros((1, *shape[2:])))
    return Target.from_linen(module, variables, shape[2:]), x, labels


def of_mijax(target: Target, x: np.ndarray, labels: np.ndarray) -> Any:
    """A run of the whole training as one program, and its seconds of compilation."""
    federation = Federation.of(
        Recipe(local_steps=STEPS.value, local_batch=BATCH.value, learning_rate=_RATE),
        target,
        Clients.of(list(zip(x, labels, strict=True))),
        batch_size=STEPS.value * BATCH.value,
    )

    def train(key: jax.Array, federation: Federation) -> Any:
        return simulate(key, federation, rounds=ROUNDS.value)[0].target.params

    program, seconds = timing.compiled(train, jax.random.key(1), federation)
    return (
        lambda: jax.block_until_ready(program(jax.random.key(1), federation)),
        seconds,
    )


def of_torch(target: Target, x: np.ndarray, labels: np.ndarray) -> Any:
    """A run of the same training as a loop over rounds, clients and steps."""
    network = torch_networks.layers(target.params, "cpu", channels_last=False)
    places = [(name, part) for name, layer in network.items() for part in layer]
    start = [network[name][part] for name, part in places]
    images = torch.tensor(x).permute(0, 1, 4, 2, 3).contiguous()
    classes = torch.tensor(labels)

    def loss(weights: list[Any], x: Any, labels: Any) -> Any:
        own = dict(zip(places, weights, strict=True))

        def of(name: str) -> tuple[Any, Any]:
            return own[name, "kernel"], own[name, "bias"]

        for name in ("conv_0", "conv_1"):
            x = functional.max_pool2d(
                functional.relu(functional.conv2d(x, *of(name))), 2
            )
        x = functional.relu(
            functional.linear(x.permute(0, 2, 3, 1).flatten(1), *of("dense_0"))
        )
        return functional.cross_entropy(functional.linear(x, *of("logits")), labels)

    def run() -> list[Any]:
        generator = torch.Generator().manual_seed(1)
        server = [tensor.clone() for tensor in start]
        for _ in range(ROUNDS.value):
            total = [torch.zeros_like(tensor) for tensor in server]
            for own, own_classes in zip(images, classes, strict=True):
                weights = [tensor.clone().requires_grad_() for tensor in server]
                for _ in range(STEPS.value):
                    rows = torch.randint(len(own), (BATCH.value,), generator=generator)
                    value = loss(weights, own[rows], own_classes[rows])
                    slopes = torch.autograd.grad(value, weights)
                    with torch.no_grad():
                        for weight, slope in zip(weights, slopes, strict=True):
                            weight -= _RATE * slope
                with torch.no_grad():
                    for sum_, weight in zip(total, weights, strict=True):
                        sum_ += weight.detach()
            server = [sum_ / len(images) for sum_ in total]
        return server

    return run


def main() -> None:
    """Prints the table, and writes it to `--output`."""
    _, repeats = timing.checked_flags()
    torch.set_num_threads(timing.cores())
    arguments = problem()
    one_program, compiling = of_mijax(*arguments)
    contenders = {"mijax simulate": one_program, "torch loop": of_torch(*arguments)}
    times = timing.in_turn(contenders, repeats)
    ours, theirs = (timing.median(each) for each in times.values())
    speed_up = timing.ratio(times["torch loop"], times["mijax simulate"])
    lines = [
        {
            "contender": name,
            "clients": CLIENTS.value,
            "rounds": ROUNDS.value,
            "wall s": spent.wall,
            "cpu s": spent.cpu,
            "compile s": seconds,
            "wall speed-up": wall,
            "cpu speed-up": cpu,
            "wall speed-up, compiled once": theirs.wall / (spent.wall + seconds),
        }
        for name, spent, seconds, wall, cpu in (
            ("mijax simulate", ours, compiling, speed_up.wall, speed_up.cpu),
            ("torch loop", theirs, 0.0, 1.0, 1.0),
        )
    ]
    print(timing.table(lines), flush=True)
    timing.write({"torch": torch.__version__, "federation": lines})


if __name__ == "__main__":
    common.run(main)
