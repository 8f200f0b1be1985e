"""Gradient leakage against PyTorch eager loops of the papers' published settings.

DLG: L-BFGS as the authors run it (learning rate 1, 20 inner iterations, history of 100,
no line search) on its sigmoid LeNet, 32x32x3, 100 classes, weights uniform in +-0.5.
Inverting Gradients: signed Adam, cosine and total variation on ConvNet64 by running
statistics. Networks, weights, victims, first guesses and iterations are the same.
PyTorch attacks one victim after the other, as the authors do, at its best of one thread
and all; ours attacks all in one program. The losses of all victims before their first
two iterations must agree to 1e-4 before anything is timed: afterwards a rounding that
decides a ReLU, a maximum or a sign the other way parts searches for good, and without a
line search L-BFGS makes it grow without bound. Where `breaching` is installed, its own
attacker runs Inverting Gradients besides; its total variation counts the frame of the
image, so its losses are compared without that term. Contenders take turns; compilation
is apart. Without `--batches`, DLG is of 64 victims and Inverting Gradients of 1 and 8.

    python -m benchmarks.gradient_leakage
    python -m benchmarks.gradient_leakage --attacks=dlg --batches=64 --output=dlg.json
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jax import Array

from benchmarks import breaching_leakage, timing
from benchmarks import torch_leakage as peer
from benchmarks.problems import conv_net, lenet, shared_updates
from benchmarks.torch_networks import layers, torch
from experiments.harness import flags as common
from mijax import batching as many
from mijax.attacks import dlg, inverting_gradients
from mijax.attacks.leakage import initial_images
from mijax.core import Reconstruction
from mijax.knowledge import SharedUpdate

_ATTACKS = flags.DEFINE_multi_enum(
    "attacks",
    ["dlg", "inverting_gradients"],
    ["dlg", "inverting_gradients"],
    "What to time.",
)
_STEPS = flags.DEFINE_integer(
    "lbfgs_steps", 3, "Steps of DLG, each of up to 20 iterations.", lower_bound=1
)
_ADAM_STEPS = flags.DEFINE_integer(
    "adam_steps", 8, "Iterations of Inverting Gradients: 8 or more.", lower_bound=8
)
_WIDTH = flags.DEFINE_integer("width", 64, "Of the ConvNet.", lower_bound=1)
_CHUNK = flags.DEFINE_integer(
    "chunk", 0, "Our victims at a time (mijax.batching.in_chunks); 0 for all."
)
flags.FLAGS.set_default("batches", [])
_VICTIMS = {"dlg": [64], "inverting_gradients": [1, 8]}  # unless --batches is given

_TOLERANCE = 1e-4  # of losses, relative
_FIRST = 2  # losses that must agree
_COMPARED = dlg.Config(steps=2, inner=1)  # L-BFGS whose steps are iterations


def torch_victims(known: SharedUpdate) -> tuple[Any, list[Any], list[list[Any]]]:
    """The network in PyTorch, its parameters, and each victim's observed gradient."""
    network = layers(known.target.params, "cpu", channels_last=False)
    observed = []
    for victim in range(known.victims):
        update = jax.tree.map(lambda leaf: leaf[victim], known.update)  # noqa: B023
        as_layers = layers({"params": update}, "cpu", channels_last=False)
        observed.append(
            [
                as_layers[name][leaf]
                for name, layer in network.items()
                for leaf in layer
                if leaf not in ("mean", "var")
            ]
        )
    return network, peer.weights(network), observed


def tensors(x: Array) -> Any:
    """Images `[V, 1, H, W, C]` as PyTorch's, `[V, 1, C, H, W]`."""
    return torch.tensor(np.moveaxis(np.asarray(x), -1, 2).copy())


class Contest(NamedTuple):
    """The same work for both.

    Attributes:
      attack: ours.
      arguments: of it.
      theirs: PyTorch's run, which returns losses `[steps, V]`.
      library: that of `breaching`, where it is installed and has the attack.
    """

    attack: Callable[..., Reconstruction]
    arguments: tuple[Any, ...]
    theirs: Callable[[], np.ndarray]
    library: Callable[[], np.ndarray] | None = None


def of_dlg(number: int, config: dlg.Config) -> Contest:
    """DLG of so many victims."""
    known, key = shared_updates(lenet(), number), jax.random.key(2)
    keys = jax.vmap(jax.random.split)(many.keys_of(key, number))
    starts = tensors(initial_images.sown(config.seed, keys[:, 0], known, 1)[:, 0])
    labels = jax.vmap(lambda key: jax.random.normal(key, (1, 1, 100)))(keys[:, 1])
    soft = torch.tensor(np.asarray(labels)[:, 0])
    network, parameters, observed = torch_victims(known)

    def theirs() -> np.ndarray:
        losses = [
            peer.dlg(
                lambda x: peer.strided(network, x, (2, 2, 1)),
                parameters,
                observed[v],
                starts[v],
                soft[v],
                config.steps,
                config.inner,
            )
            for v in range(number)
        ]
        return np.array(losses).T

    return Contest(dlg.attack, (key, known, config), theirs)


def of_inverting_gradients(number: int, config: inverting_gradients.Config) -> Contest:
    """Inverting Gradients of so many victims."""
    known, key = shared_updates(conv_net(_WIDTH.value), number), jax.random.key(2)
    starts = tensors(initial_images.sown(config.seed, key, known, 1)[:, 0])
    labels = torch.tensor(np.asarray(known.labels)).long()
    network, parameters, observed = torch_victims(known)

    def of_each(attack: Callable[..., list[float]], network: Any) -> np.ndarray:
        rate = float(config.learning_rate)
        tv_weight = np.asarray(config.tv_weight).item()
        victims = zip(observed, starts, labels, strict=True)
        losses = [
            attack(network, *victim, config.steps, rate, tv_weight)
            for victim in victims
        ]
        return np.array(losses).T

    def theirs() -> np.ndarray:
        def attack(network: Any, *rest: Any) -> list[float]:
            return peer.inverting_gradients(
                lambda x: peer.conv_net(network, x), parameters, *rest
            )

        return of_each(attack, network)

    def library() -> np.ndarray:
        sent = breaching_leakage.Network(network, peer.conv_net)
        return of_each(breaching_leakage.inverting_gradients, sent)

    return Contest(
        inverting_gradients.attack,
        (key, known, config),
        theirs,
        library if breaching_leakage.available() else None,
    )


def agree(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest relative difference of the first losses `[steps, V]` of all victims.

    Raises:
      ValueError: if it is above the tolerance: a comparison would mean nothing.
    """
    ours, theirs = ours[:_FIRST], theirs[:_FIRST]
    difference = np.max(np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1.0))
    if not difference <= _TOLERANCE:
        raise ValueError(
            f"Losses differ by {difference:.1e} of their size, more than "
            f"{_TOLERANCE:.0e}: {ours.tolist()} and {theirs.tolist()}."
        )
    return float(difference)


def compiled(contest: Contest) -> tuple[Callable[[], np.ndarray], float]:
    """Our run, which returns losses `[steps + 1, V]`, and the seconds to compile it."""
    known = contest.arguments[1]
    size = _CHUNK.value or known.victims
    whole = size >= known.victims
    attack = contest.attack if whole else many.in_chunks(contest.attack, size)
    program, seconds = timing.compiled(
        lambda *arguments: attack(*arguments).trace[:, 0].T, *contest.arguments
    )
    return lambda: np.asarray(program(*contest.arguments)), seconds


def compare(name: str, number: int, repeats: int) -> list[dict[str, Any]]:
    """Checks the first losses, then times both in turn."""
    if name == "dlg":
        contest = of_dlg(number, dlg.Config(steps=_STEPS.value))
        checked = of_dlg(number, _COMPARED)
    else:
        config = inverting_gradients.Config(_ADAM_STEPS.value, tv_weight=1e-2)
        contest = checked = of_inverting_gradients(number, config)
    differences = {"mijax": agree(compiled(checked)[0](), checked.theirs())}
    if contest.library is not None:
        plain = inverting_gradients.Config(steps=_ADAM_STEPS.value, tv_weight=0.0)
        without = of_inverting_gradients(number, plain)
        assert without.library is not None
        differences["breaching"] = agree(without.library(), without.theirs())
    ours, compiling = compiled(contest)

    def with_threads(threads: int) -> Callable[[], Any]:
        def run() -> Any:
            torch.set_num_threads(threads)
            return contest.theirs()

        return run

    peers = {
        f"torch, {threads} threads": with_threads(threads)
        for threads in sorted({1, timing.cores()})
    }
    trial = {label: timing.once(run) for label, run in peers.items()}
    best = min(trial, key=lambda label: trial[label].wall)
    contenders: dict[str, Callable[[], Any]] = {"mijax": ours, best: peers[best]}
    if contest.library is not None:
        contenders["breaching"] = contest.library  # With the threads that are best.
    times = timing.in_turn(contenders, repeats)
    rows = []
    for label, samples in times.items():
        seconds, faster = timing.median(samples), timing.ratio(times[best], samples)
        rows.append(
            {
                "contender": label,
                "attack": name,
                "victims": number,
                "wall s": seconds.wall,
                "cpu s": seconds.cpu,
                "wall speed-up": faster.wall,
                "cpu speed-up": faster.cpu,
                "compile s": compiling if label == "mijax" else 0.0,
                "loss difference": differences.get(label, 0.0),
            }
        )
    return rows


def main() -> None:
    """Compares each attack at every number of victims that was asked for."""
    batches, repeats = timing.checked_flags()
    jax.config.update("jax_default_matmul_precision", "float32")
    print(timing.device() | {"torch": torch.__version__})
    rows = [
        row
        for name in _ATTACKS.value
        for number in batches or _VICTIMS[name]
        for row in compare(name, number, repeats)
    ]
    print(timing.table(rows), flush=True)
    timing.write({"gradient_leakage": rows, "torch": torch.__version__})


if __name__ == "__main__":
    common.run(main)
