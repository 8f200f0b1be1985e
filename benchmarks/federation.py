"""Whole federated trainings, and many shadow models, against loops in PyTorch.

    python -m benchmarks.federation
    python -m benchmarks.federation --clients=100 --rounds=200 --output=federation.json

A training is federated averaging of a small convolutional network, all clients in each
round: ours is one program (`mijax.federation.simulate`), PyTorch's a loop over rounds,
clients and local steps, at its best of one thread and all. Both start with the same
weights and take the same batches; after a few rounds they must agree. Our
seconds are with compilation. `shadows` trains the networks of `ganju2018_property`, one
program of ours against a loop of PyTorch; batches are each side's own.

Then the memory of the compiled training, which must not grow with the rounds.
"""

import dataclasses
import itertools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import peers, timing
from experiments.harness import flags as common
from experiments.properties import ganju2018_property
from experiments.studies import properties
from mijax.core import Target
from mijax.federation import Clients, Federation, Recipe, simulate
from mijax.models.lenet import LeNet

torch = peers.required("torch", "pip install torch")
functional = torch.nn.functional

_CLIENTS = flags.DEFINE_integer("clients", 100, "Clients.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 200, "Rounds.", lower_bound=1)
_SHADOWS = flags.DEFINE_integer("shadows", 200, "Shadow models.", lower_bound=2)
_PEER_SHADOWS = flags.DEFINE_integer(
    "peer_shadows", 20, "Shadow models that PyTorch trains.", lower_bound=1
)
_SIDE, _CLASSES, _HELD = 14, 10, 50  # pixels, classes, examples of a client
_CHECKED = 5  # rounds after which both are compared; later, roundings part them
_TOLERANCE = 1e-4  # of the weights' change, relative
_RATE = 0.05


def world(clients: int, rounds: int) -> Federation:
    """Clients of random images, who take a batch of 10 in two steps each round."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(clients, _HELD, _SIDE, _SIDE, 1)).astype(np.float32)
    labels = rng.integers(0, _CLASSES, (clients, _HELD))
    rows = rng.integers(0, _HELD, (rounds, clients, 20))
    held = dataclasses.replace(
        Clients.of(list(zip(x, labels, strict=True))), rows=jnp.asarray(rows)
    )
    module = LeNet(_CLASSES, (8, 16), (3, 3), (True, True), (32,), "SAME")
    shape = (_SIDE, _SIDE, 1)
    variables = module.init(jax.random.key(0), jnp.zeros((1, *shape)))
    target = Target.from_linen(module, variables, shape)
    recipe = Recipe(local_steps=2, local_batch=10, learning_rate=_RATE)
    return Federation.of(recipe, target, held, batch_size=20)


def tensors(params: Any) -> list[Any]:
    """Flax's parameters, convolutions OIHW and dense layers OI, in the order of use."""
    found = []
    for name in ("conv_0", "conv_1", "dense_0", "logits"):
        kernel, bias = (np.asarray(params[name][leaf]) for leaf in ("kernel", "bias"))
        turned = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        found += [torch.tensor(np.ascontiguousarray(turned)), torch.tensor(bias)]
    return found


def loss_of(weights: list[Any], x: Any, labels: Any) -> Any:
    """The same network in PyTorch, with cross-entropy."""
    for kernel, bias in (weights[:2], weights[2:4]):
        x = functional.relu(functional.conv2d(x, kernel, bias, padding=1))
        x = functional.max_pool2d(x, 2)
    x = x.permute(0, 2, 3, 1).flatten(1)  # in Flax's order
    x = functional.relu(functional.linear(x, *weights[4:6]))
    return functional.cross_entropy(functional.linear(x, *weights[6:]), labels)


def torch_training(begun: Federation, rounds: int, threads: int) -> list[Any]:
    """Federated averaging as a loop; returns the final weights."""
    torch.set_num_threads(threads)
    held = begun.clients
    assert held.rows is not None
    x = torch.tensor(np.asarray(held.x).transpose(0, 1, 4, 2, 3).copy())
    labels = torch.tensor(np.asarray(held.labels)).long()
    rows = torch.tensor(np.asarray(held.rows)).long()
    server = tensors(begun.target.params["params"])
    for t in range(rounds):
        total = [torch.zeros_like(w) for w in server]
        for client in range(x.shape[0]):
            weights = [w.clone().requires_grad_(True) for w in server]
            for batch in rows[t, client].reshape(2, 10):
                loss = loss_of(weights, x[client, batch], labels[client, batch])
                slopes = torch.autograd.grad(loss, weights)
                with torch.no_grad():
                    for w, slope in zip(weights, slopes, strict=True):
                        w -= _RATE * slope
            with torch.no_grad():
                for sum_, w, s in zip(total, weights, server, strict=True):
                    sum_ += w - s
        server = [w + s / x.shape[0] for w, s in zip(server, total, strict=True)]
    return server


def apart(a: list[Any], b: list[Any]) -> float:
    """The distance of two lists of tensors."""
    squares = (((x - y) ** 2).sum().item() for x, y in zip(a, b, strict=True))
    return float(np.sqrt(sum(squares)))


def row(
    contender: str, seconds: timing.Seconds, own: timing.Seconds, **rest: Any
) -> Any:
    """A line of the table."""
    return {
        "contender": contender,
        "wall s": seconds.wall,
        "cpu s": seconds.cpu,
        "mijax's wall speed-up": seconds.wall / own.wall,
        "mijax's cpu speed-up": seconds.cpu / own.cpu,
        **rest,
    }


def trainings(clients: int, rounds: int) -> list[dict[str, Any]]:
    """Times whole trainings, ours with compilation; and checks where they lead."""

    def ours(begun: Federation, rounds: int) -> Any:
        run = jax.jit(lambda key, world: simulate(key, world, rounds=rounds)[0])
        return jax.block_until_ready(run(jax.random.key(0), begun).target.params)

    first, begun = world(clients, _CHECKED), world(clients, rounds)
    trial, ends = {}, []
    for number in {1, timing.cores()}:
        trial[number] = timing.once(
            lambda number=number: ends.append(torch_training(first, _CHECKED, number))
        )
    best = min(trial, key=lambda number: trial[number].wall)
    start = tensors(first.target.params["params"])
    ended = tensors(ours(first, _CHECKED)["params"])
    difference = apart(ended, ends[0]) / apart(ended, start)
    if not difference <= _TOLERANCE:
        raise ValueError(
            f"After {_CHECKED} rounds the trainings are {difference:.1e} of their way "
            f"apart, more than {_TOLERANCE:.0e}: they are not the same training."
        )
    own = timing.once(lambda: ours(begun, rounds))
    theirs = timing.once(lambda: torch_training(begun, rounds, best))
    sizes = {"clients": clients, "rounds": rounds, "difference": difference}
    return [
        row("mijax, one program", own, own, **sizes),
        row(f"torch, {best} threads", theirs, own, **sizes),
    ]


def shadows(number: int, peers_number: int) -> list[dict[str, Any]]:
    """Times shadow models, ours with compilation; seconds are of one model."""
    study = ganju2018_property.QUICK
    rng = np.random.default_rng(0)
    pool = 2_500
    x = rng.uniform(size=(pool, _SIDE, _SIDE, 1)).astype(np.float32)
    y = rng.integers(0, 2, pool).astype(np.int32)
    sets = np.stack([rng.choice(pool, study.examples, False) for _ in range(number)])
    one = properties.trainer(study, 2)

    def ours() -> None:
        run = jax.jit(jax.vmap(one, (0, 0, None, None)))
        keys = jax.random.split(jax.random.key(0), number)
        for start in range(0, number, properties.CHUNK):
            chunk = slice(start, start + properties.CHUNK)
            jax.block_until_ready(run(keys[chunk], sets[chunk], x, y))

    images, labels = torch.tensor(x.reshape(pool, -1)), torch.tensor(y).long()

    def theirs(threads: int, number: int) -> None:
        torch.set_num_threads(threads)
        for own in torch.tensor(sets[:number]):
            sizes = (_SIDE**2, *study.widths, 2)
            layers = [torch.nn.Linear(*pair) for pair in itertools.pairwise(sizes)]
            parts = [m for layer in layers for m in (layer, torch.nn.ReLU())][:-1]
            network = torch.nn.Sequential(*parts)
            adam = torch.optim.Adam(network.parameters(), lr=2e-3)
            batches, order = study.examples // study.batch_size, own
            for t in range(study.steps):
                if t % batches == 0:
                    order = own[torch.randperm(study.examples)]
                at = t % batches * study.batch_size
                chosen = order[at : at + study.batch_size]
                adam.zero_grad()
                logits = network(images[chosen])
                functional.cross_entropy(logits, labels[chosen]).backward()
                adam.step()

    counts = {1, timing.cores()}
    trial = {n: timing.once(lambda n=n: theirs(n, 2)) for n in counts}
    best = min(trial, key=lambda n: trial[n].wall)
    own = timing.Seconds(*(s / number for s in timing.once(ours)))
    peer = timing.Seconds(
        *(s / peers_number for s in timing.once(lambda: theirs(best, peers_number)))
    )
    return [
        row(name, seconds, own, **{"models a minute": 60 / seconds.wall})
        for name, seconds in (
            (f"mijax, {number} models", own),
            (f"torch, {best} threads, {peers_number} models", peer),
        )
    ]


def memory(clients: int) -> list[dict[str, Any]]:
    """What the compiled training needs beside arguments and results."""
    rows = []
    for rounds in (10, 1000):
        program, _ = timing.compiled(
            lambda key, world, rounds=rounds: simulate(key, world, rounds=rounds)[0],
            jax.random.key(0),
            world(clients, 10),
        )
        analysis = program.memory_analysis()
        mib = analysis.temp_size_in_bytes / 2**20
        rows.append({"rounds": rounds, "clients": clients, "temporary MiB": mib})
    return rows


def main() -> None:
    """Times trainings and shadow models, and measures the memory."""
    results: dict[str, Any] = {"torch": torch.__version__}
    print(timing.device() | results)
    started = time.monotonic()
    results["trainings"] = trainings(_CLIENTS.value, _ROUNDS.value)
    print("\nwhole trainings, compilation included")
    print(timing.table(results["trainings"]), flush=True)
    results["shadows"] = shadows(_SHADOWS.value, _PEER_SHADOWS.value)
    print("\nshadow models, seconds of one, compilation included")
    print(timing.table(results["shadows"]), flush=True)
    results["memory"] = memory(_CLIENTS.value)
    print("\nmemory of the compiled training")
    print(timing.table(results["memory"]), flush=True)
    print(f"in all {time.monotonic() - started:.0f} s")
    timing.write(results)


if __name__ == "__main__":
    common.run(main)
