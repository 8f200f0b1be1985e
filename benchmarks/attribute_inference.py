"""MAP inference of one field of many records, beside PyTorch and ART.

    python -m benchmarks.attribute_inference --records=5700 --candidates=7

needs PyTorch, which is no dependency of mijax: `pip install torch==2.13.0`. PyTorch
asks the same model about one candidate after the other, in a copy of the records as the
published attacks do or in place, and about all of them in one batch; in each number of
threads, without gradients. Posteriors are compared first. ART's white-box tree attack
is timed beside `tree_inversion` where `adversarial-robustness-toolbox` is installed.
Last comes the memory of the compiled attack, for more and more records.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array
from sklearn.tree import DecisionTreeClassifier

from benchmarks import peers, timing
from experiments.harness import flags as common
from mijax.attacks import map_inference, tree_inversion
from mijax.core import AffineFirst, Inference, Target
from mijax.knowledge import Candidates, Oracle, PartialRecord, normal
from mijax.models import linear, trees
from mijax.models.mlp import MLP

torch = peers.required("torch", "pip install torch")

_RECORDS = flags.DEFINE_integer("records", 5700, "How many records.", lower_bound=1)
_CANDIDATES = flags.DEFINE_integer(
    "candidates", 7, "How many values the field may take.", lower_bound=2
)
_WIDTHS = flags.DEFINE_list("widths", ["128"], "Units of the network's hidden layers.")
_OTHERS = 18  # columns of the other fields, as many as IWPC has
_DEVIATION = 1.0
_TOLERANCE = 1e-4  # of log-posteriors


class Problem:
    """Records, outcomes, and a field that is one-hot in the first columns."""

    def __init__(self, records: int, candidates: int):
        rng = np.random.default_rng(0)
        self.width = candidates + _OTHERS
        self.x = rng.normal(size=(records, self.width)).astype(np.float32)
        self.y = rng.normal(size=records).astype(np.float32)
        self.field = Candidates.of(np.arange(candidates), np.eye(candidates))

    def knowledge(self, target: Target) -> PartialRecord:
        """What the adversary has."""
        record, outcome = jnp.asarray(self.x), jnp.asarray(self.y)
        error = normal(_DEVIATION)
        return PartialRecord(Oracle.of(target), record, self.field, outcome, error)


def targets(width: int, hidden: tuple[int, ...]) -> dict[str, tuple[Target, Any]]:
    """A linear regression and a network, each also in PyTorch."""
    module = MLP(1, hidden, jax.nn.relu)
    variables = module.init(jax.random.key(0), jnp.zeros((1, width)))
    layers: Any = variables["params"]
    names = [f"hidden_{index}" for index in range(len(hidden))] + ["logits"]
    stack: list[Any] = []
    for name in names:
        stack += [_dense(layers[name]["kernel"], layers[name]["bias"]), torch.nn.ReLU()]
    weights = jax.random.normal(jax.random.key(1), (width, 1))
    affine = linear.Affine(weights, jnp.ones(1))
    network = Target.from_function(AffineFirst.from_linen(module), variables, (width,))
    return {
        "linear": (linear.target(affine), _dense(weights, affine.bias)),
        f"mlp {hidden}": (network, torch.nn.Sequential(*stack[:-1])),
    }


def _dense(kernel: Array, bias: Array) -> Any:
    layer = torch.nn.Linear(*kernel.shape)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(np.asarray(kernel).T))
        layer.bias.copy_(torch.tensor(np.asarray(bias)))
    return layer.requires_grad_(False)


def torch_runs(problem: Problem, model: Any) -> dict[str, Callable[[], np.ndarray]]:
    """PyTorch's posteriors, candidate by candidate and all at once."""
    records, outcome = torch.tensor(problem.x), torch.tensor(problem.y)
    encodings = torch.tensor(np.asarray(problem.field.encodings))
    size, width = encodings.shape

    def posterior(predicted: Any) -> np.ndarray:  # [V, K]
        error = (predicted - outcome[:, None]) / _DEVIATION
        return torch.log_softmax(-0.5 * error**2, 1).numpy()

    def loop(copy: bool) -> np.ndarray:
        x, columns = records.clone(), []
        for encoding in encodings:
            x = records.clone() if copy else x
            x[:, :width] = encoding
            columns.append(model(x)[:, 0])
        return posterior(torch.stack(columns, 1))

    def batch() -> np.ndarray:
        x = records[:, None].repeat(1, size, 1)
        x[:, :, :width] = encodings
        return posterior(model(x.reshape(-1, x.shape[2])).reshape(-1, size))

    def with_threads(threads: int, run: Callable[[], Any]) -> Callable[[], Any]:
        def timed() -> Any:
            torch.set_num_threads(threads)
            with torch.inference_mode():
                return run()

        return timed

    return {
        f"torch {name}, {threads} threads": with_threads(threads, run)
        for threads in sorted({1, timing.cores()})
        for name, run in {
            "loop": lambda: loop(copy=True),
            "loop in place": lambda: loop(copy=False),
            "batch": batch,
        }.items()
    }


def compare(name: str, target: Target, model: Any, problem: Problem, repeats: int):
    """Checks that posteriors agree, then times all contenders in turn."""
    knowledge = problem.knowledge(target)
    key = jax.random.key(0)
    attack = jax.jit(map_inference.attack)  # As users call it.

    def run() -> np.ndarray:
        return np.asarray(attack(key, knowledge).log_posterior)

    theirs = torch_runs(problem, model)
    found = run()
    difference = max(
        float(np.max(np.abs(other() - found))) for other in theirs.values()
    )
    if not difference <= _TOLERANCE:
        raise ValueError(
            f"Log-posteriors of {name} differ by {difference:.1e}, more than "
            f"{_TOLERANCE:.0e}: the models are not the same."
        )
    times = timing.in_turn({"mijax": run} | theirs, repeats)
    rows = []
    for label, samples in times.items():
        slower = timing.ratio(samples, times["mijax"])
        rows.append(
            {
                "contender": label,
                "target": name,
                "wall ms": 1e3 * timing.median(samples).wall,
                "cpu ms": 1e3 * timing.median(samples).cpu,
                "mijax's wall speed-up": slower.wall,
                "mijax's cpu speed-up": slower.cpu,
                "difference": difference,
            }
        )
    return rows


def beside_art(records: int, repeats: int) -> list[dict[str, Any]]:
    """Times ART's white-box attack on a tree; no row where ART is not installed."""
    attacks = peers.optional("art.attacks.inference.attribute_inference")
    estimators = peers.optional("art.estimators.classification.scikitlearn")
    if attacks is None or estimators is None:
        print("\nART is not installed: its tree attack is left out.")
        return []
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (records, 6)).astype(np.float32)
    model = DecisionTreeClassifier(max_depth=8).fit(x, rng.integers(0, 3, records))
    peer = attacks.AttributeInferenceWhiteBoxLifestyleDecisionTree(
        estimators.ScikitlearnDecisionTreeClassifier(model), attack_feature=0
    )
    values, prior = [0.0, 1.0, 2.0, 3.0], [0.1, 0.2, 0.3, 0.4]
    knowledge = PartialRecord(
        Oracle.of(trees.from_sklearn(model)),
        jnp.asarray(x),
        Candidates.of(0, values, prior),
        paths=trees.paths(model),
    )
    key = jax.random.key(0)
    attack, _ = timing.compiled(tree_inversion.attack, key, knowledge)

    def ours() -> np.ndarray:
        return np.asarray(attack(key, knowledge).guess)

    def theirs() -> np.ndarray:
        return peer.infer(x[:, 1:], values=values, priors=prior)

    times = timing.in_turn({"mijax": ours, "art": theirs}, repeats)
    ratio = timing.ratio(times["art"], times["mijax"])
    return [
        {
            "contender": name,
            "wall ms": 1e3 * timing.median(samples).wall,
            "cpu ms": 1e3 * timing.median(samples).cpu,
            "mijax's wall speed-up": ratio.wall if name == "art" else 1.0,
            "same guesses": float(np.mean(ours() == np.asarray(theirs()).ravel())),
        }
        for name, samples in times.items()
    ]


def memory(target: Target, width: int, field: Candidates) -> list[dict[str, Any]]:
    """What the compiled attack needs beside its arguments and results."""

    def infer(record: Array, outcome: Array) -> Inference:
        knowledge = PartialRecord(
            Oracle.of(target), record, field, outcome, normal(_DEVIATION)
        )
        return map_inference.attack(jax.random.key(0), knowledge)

    rows = []
    for records in (10**4, 10**5, 10**6):
        x = jax.ShapeDtypeStruct((records, width), jnp.float32)
        y = jax.ShapeDtypeStruct((records,), jnp.float32)
        analysis: Any = jax.jit(infer).lower(x, y).compile().memory_analysis()
        rows.append(
            {
                "records": records,
                "records MiB": analysis.argument_size_in_bytes / 2**20,
                "temporary MiB": analysis.temp_size_in_bytes / 2**20,
                "result MiB": analysis.output_size_in_bytes / 2**20,
            }
        )
    return rows


def main() -> None:
    """Compares with PyTorch, then with ART, then reports the memory."""
    _, repeats = timing.checked_flags()
    hidden = tuple(int(width) for width in _WIDTHS.value)
    problem = Problem(_RECORDS.value, _CANDIDATES.value)
    results: dict[str, Any] = {"torch": torch.__version__}
    print(timing.device() | results)
    print(f"\nMAP inference, {_RECORDS.value:,} records x {_CANDIDATES.value}, medians")
    both = targets(problem.width, hidden)
    results["inference"] = [
        row
        for name, (target, model) in both.items()
        for row in compare(name, target, model, problem, repeats)
    ]
    print(timing.table(results["inference"]), flush=True)
    results["art"] = beside_art(_RECORDS.value, min(repeats, 3))
    if results["art"]:
        print(f"\na tree's paths, {_RECORDS.value:,} records x 4")
        print(timing.table(results["art"]))
    name, (target, _) = list(both.items())[-1]
    results["memory"] = memory(target, problem.width, problem.field)
    print(f"\nmemory of the compiled attack, {name}")
    print(timing.table(results["memory"]))
    timing.write(results)


if __name__ == "__main__":
    common.run(main)
