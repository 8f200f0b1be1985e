"""Shadow updates a minute: one program of all clones against a loop over PyTorch's.

A clone is updated by one step of SGD on a set of its own, and is asked about a probing
set; what its answers changed by is the result. PyTorch makes a copy of the model for
each clone, in a loop in Python, at its best of one thread and all. Both must find the
same changes before anything is timed; contenders take turns, compilation is apart.

    python -m benchmarks.shadow_updates
    python -m benchmarks.shadow_updates --batches=1,50 --clones=500

`--batches` is the number of images of an update.
"""

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array

from benchmarks import peers, timing
from experiments.harness import flags as common
from mijax.attacks.updates import shadow_updates
from mijax.core import Target
from mijax.federation import Recipe
from mijax.models.mlp import MLP

torch = peers.required("torch", "pip install torch")

_CLONES = flags.DEFINE_integer("clones", 2000, "How many.", lower_bound=1)
flags.FLAGS.set_default("batches", ["1", "50"])
_SHAPE, _CLASSES, _WIDTH, _PROBES, _IMAGES = (28, 28, 1), 10, 64, 100, 1000
_RATE = 1e-2
_TOLERANCE = 1e-5  # of a change, absolute; changes are about 1e-3


def target() -> Target:
    """A perceptron of 64 hidden units, with random weights."""
    module = MLP(_CLASSES, (_WIDTH,), jax.nn.relu)
    variables = module.init(jax.random.key(0), jnp.zeros((1, *_SHAPE)))
    return Target.from_linen(module, variables, _SHAPE)


def problem(clones: int, size: int) -> tuple[Array, Array, Array, Array]:
    """Probing images, public images, their labels, and each clone's set as rows."""
    rng = np.random.default_rng(0)
    probes, images = (rng.uniform(size=(n, *_SHAPE)) for n in (_PROBES, _IMAGES))
    labels = rng.integers(0, _CLASSES, _IMAGES)
    rows = rng.integers(0, _IMAGES, (clones, size))
    return (
        jnp.asarray(probes, jnp.float32),
        jnp.asarray(images, jnp.float32),
        jnp.asarray(labels, jnp.int32),
        jnp.asarray(rows, jnp.int32),
    )


def torch_run(
    model: Target, given: tuple[Array, ...], threads: int
) -> Callable[[], np.ndarray]:
    """The same updates, one model of PyTorch after the other."""
    params: Any = model.params["params"]
    layers = [params["hidden_0"], params["logits"]]
    net = torch.nn.Sequential(
        torch.nn.Linear(int(np.prod(_SHAPE)), _WIDTH),
        torch.nn.ReLU(),
        torch.nn.Linear(_WIDTH, _CLASSES),
    )
    with torch.no_grad():
        for own, theirs in zip((net[0], net[2]), layers, strict=True):
            own.weight.copy_(torch.tensor(np.asarray(theirs["kernel"]).T))
            own.bias.copy_(torch.tensor(np.asarray(theirs["bias"])))
    probes, images, labels, rows = (torch.tensor(np.asarray(x)) for x in given)
    probes, images, labels = probes.flatten(1), images.flatten(1), labels.long()

    def answers(net: Any) -> Any:
        with torch.no_grad():
            return torch.softmax(net(probes), 1)

    def run() -> np.ndarray:
        torch.set_num_threads(threads)
        before, changes = answers(net), []
        for row in rows:
            clone = copy.deepcopy(net)
            descent = torch.optim.SGD(clone.parameters(), lr=_RATE)
            loss = torch.nn.functional.cross_entropy(clone(images[row]), labels[row])
            loss.backward()
            descent.step()
            changes.append(before - answers(clone))
        return torch.stack(changes).numpy()

    return run


def compare(clones: int, size: int, repeats: int) -> list[dict[str, Any]]:
    """Checks that all find the same changes, then times them in turn.

    Raises:
      ValueError: if they do not: a comparison would mean nothing.
    """
    model, given = target(), problem(clones, size)
    recipe = Recipe(local_steps=1, learning_rate=_RATE)
    program, compiling = timing.compiled(shadow_updates.traces, recipe, model, *given)
    ours = {"mijax": lambda: np.asarray(program(recipe, model, *given))}
    theirs = {
        f"torch, {threads} threads": torch_run(model, given, threads)
        for threads in sorted({1, timing.cores()})
    }
    found = {label: run() for label, run in (ours | theirs).items()}
    apart = max(float(np.abs(x - found["mijax"]).max()) for x in found.values())
    if not apart <= _TOLERANCE:
        raise ValueError(
            f"Changes differ by {apart:.1e}, more than {_TOLERANCE:.0e}: the models or "
            "the updates are not the same."
        )
    times = timing.in_turn(ours | theirs, repeats)
    best = min(theirs, key=lambda label: timing.median(times[label]).wall)
    rows = []
    for label, samples in times.items():
        seconds = timing.median(samples)
        faster = timing.ratio(times[best], samples)
        rows.append(
            {
                "contender": label,
                "set": size,
                "wall s": seconds.wall,
                "cpu s": seconds.cpu,
                "updates/min": 60 * clones / seconds.wall,
                "wall speed-up": faster.wall,
                "cpu speed-up": faster.cpu,
                "compile s": compiling if label == "mijax" else 0.0,
                "difference": apart,
            }
        )
    return rows


def main() -> None:
    """Compares at each size of set."""
    sizes, repeats = timing.checked_flags()
    jax.config.update("jax_default_matmul_precision", "float32")
    results: dict[str, Any] = {"torch": torch.__version__}
    print(timing.device() | results)
    clones = _CLONES.value
    results["updates"] = [
        row for size in sizes for row in compare(clones, size, repeats)
    ]
    print(timing.table(results["updates"]), flush=True)
    timing.write(results)


if __name__ == "__main__":
    common.run(main)
