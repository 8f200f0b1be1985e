"""Shadow models of the informed adversary: one program, beside loops.

    python -m benchmarks.shadow_models --models=256

needs PyTorch, which is no dependency of mijax: `pip install torch==2.13.0`. One program
trains all models; the contenders train one after the other: a Python loop of compiled
trainings, and a PyTorch loop of its steps, in each number of threads. All start from
the same weights, and what they have after a few steps is compared first.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from flax import linen as nn

from benchmarks import peers, timing
from experiments.harness import flags as common
from mijax import training
from mijax.attacks import informed_adversary
from mijax.models.mlp import MLP

torch = peers.required("torch", "pip install torch")

_MODELS = flags.DEFINE_integer("models", 256, "Trained as one program.", lower_bound=1)
_LOOPED = flags.DEFINE_integer("looped", 8, "Trained by the loops.", lower_bound=1)
_KNOWN = flags.DEFINE_integer("known", 300, "Records of a model.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 60, "Of a training.", lower_bound=1)
_SIZE, _WIDTH, _CLASSES = 784, 10, 10  # as in Balle et al.'s figure 1
_RATE, _MOMENTUM = 0.2, 0.9
_CHECKED = 10  # steps after which weights are compared; later, roundings part them
_TOLERANCE = 1e-4  # of weights

Records = tuple[np.ndarray, np.ndarray]


def draw(number: int, seed: int) -> Records:
    """Records `[number, 784]` in [0, 1], and labels."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(number, _SIZE)).astype(np.float32)
    return x, rng.integers(0, _CLASSES, number).astype(np.int32)


def learner(steps: int) -> tuple[Any, Callable[[Any, Any], Any]]:
    """The initial weights, and the training of `informed_adversary`."""
    module = MLP(_CLASSES, (_WIDTH,), nn.elu)
    initial = module.init(jax.random.key(0), jnp.zeros((1, _SIZE)))["params"]

    losses = training.record_losses(module)
    optimizer = optax.sgd(_RATE, _MOMENTUM)
    return initial, informed_adversary.trained_with(losses, optimizer, initial, steps)


def torch_training(initial: Any, known: Records, steps: int) -> Callable[..., Any]:
    """`(x [784], label) -> first kernel`, the same training in PyTorch."""
    layers = [initial[name] for name in ("hidden_0", "logits")]

    def train(x: np.ndarray, label: np.ndarray) -> np.ndarray:
        model = torch.nn.Sequential(
            torch.nn.Linear(_SIZE, _WIDTH),
            torch.nn.ELU(),
            torch.nn.Linear(_WIDTH, _CLASSES),
        )
        with torch.no_grad():
            for layer, own in zip((model[0], model[2]), layers, strict=True):
                layer.weight.copy_(torch.tensor(np.asarray(own["kernel"]).T))
                layer.bias.copy_(torch.tensor(np.asarray(own["bias"])))
        images = torch.tensor(np.concatenate([known[0], x[None]]))
        labels = torch.tensor(np.append(known[1], label).astype(np.int64))
        optimizer = torch.optim.SGD(model.parameters(), _RATE, _MOMENTUM)
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        return model[0].weight.detach().numpy().T

    return train


def compare(
    models: int, looped: int, known_number: int, steps: int, repeats: int
) -> list[dict[str, Any]]:
    """Checks that weights agree, then times all contenders in turn.

    Raises:
      ValueError: if the contenders end with other weights.
    """
    known, records = draw(known_number, 0), draw(max(models, looped), 1)
    first = _contenders(models, looped, known, records, min(_CHECKED, steps))
    number = min(models, looped)
    found = [run()[:number] for run in first.values()]
    difference = max(float(np.abs(x - found[0]).max()) for x in found)
    if not difference <= _TOLERANCE:
        raise ValueError(
            f"Weights differ by {difference:.1e}, more than {_TOLERANCE:.0e}: the "
            "contenders do not train the same models."
        )
    contenders = _contenders(models, looped, known, records, steps)
    times = timing.in_turn(contenders, repeats)
    rows = []
    for name, samples in times.items():
        work = models if name == "mijax, one program" else looped
        scale = models / work
        slower = timing.ratio(samples, times["mijax, one program"])
        middle = timing.median(samples, work)
        rows.append(
            {
                "contender": name,
                "models a minute": 60 / middle.wall,
                "wall ms": 1e3 * middle.wall,
                "cpu ms": 1e3 * middle.cpu,
                "mijax's wall speed-up": scale * slower.wall,
                "mijax's cpu speed-up": scale * slower.cpu,
                "difference": difference,
            }
        )
    return rows


def _contenders(
    models: int, looped: int, known: Records, records: Records, steps: int
) -> dict[str, Callable[[], np.ndarray]]:
    """What trains shadow models, by name; each returns first kernels `[V, ...]`."""
    initial, learn = learner(steps)
    several = jax.tree.map(lambda leaf: leaf[:models], records)
    program, _ = timing.compiled(
        lambda known, rows: informed_adversary.shadows(learn, known, rows),
        known,
        several,
    )
    single = jax.jit(learn)
    theirs = torch_training(initial, known, steps)

    def one(i: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[i], records)

    def together() -> np.ndarray:
        return np.asarray(program(known, several)["hidden_0"]["kernel"])

    def python_loop() -> np.ndarray:
        trained = [single(known, one(i))["hidden_0"]["kernel"] for i in range(looped)]
        return np.asarray(jax.block_until_ready(trained))

    def torch_loop(threads: int) -> Callable[[], np.ndarray]:
        def timed() -> np.ndarray:
            torch.set_num_threads(threads)
            return np.stack([theirs(*one(i)) for i in range(looped)])

        return timed

    return {
        "mijax, one program": together,
        "mijax, loop of compiled trainings": python_loop,
    } | {
        f"torch loop, {threads} threads": torch_loop(threads)
        for threads in sorted({1, timing.cores()})
    }


def main() -> None:
    """Prints the table, and writes it to `--output`."""
    _, repeats = timing.checked_flags()
    results: dict[str, Any] = {"torch": torch.__version__}
    print(timing.device() | results)
    results["shadow models"] = compare(
        _MODELS.value, _LOOPED.value, _KNOWN.value, _STEPS.value, repeats
    )
    print(timing.table(results["shadow models"]))
    timing.write(results)


if __name__ == "__main__":
    common.run(main)
