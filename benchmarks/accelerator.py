"""Every heavy kernel on one device: against its limits, and against PyTorch there.

    python -m benchmarks.accelerator --output=accelerator.json
    python -m benchmarks.accelerator --small        # any machine, under a minute

Needs jax, flax, optax, orbax, numpy and mijax; compares with PyTorch where that is
installed. Networks and images are random, and no file is read. Float32 throughout, with
no TensorFloat-32 on either side. The cases:

- `gmi`: a step of 60 victims, 64x64 RGB, against VGG16 and FaceEvolve (IR-50) of full
  width, with a DCGAN prior of width 64 and kernels of 4x4;
- `ppa` and `plg_mi`: a step of as many candidates, through VGG16, under one random crop
  and under two; ours also draws the crops, theirs has them;
- `inverting_gradients`: an iteration of 1, 8 and 64 victims, ConvNet64;
- `dlg`: a step (20 L-BFGS iterations) of 64 and 256 victims, sigmoid LeNet;
- `map_inference`: 10^6 records, 7 candidates, an MLP;
- `wgan_gp`: images a second of training that prior, one critic step a generator step.

For each: wall time (median of the turns); the share of the roofline, which is the
longer of FLOPs / measured sgemm and bytes / measured copy, over the time; seconds to
compile; memory at the peak; and PyTorch's time, eager and by `torch.compile`, with the
same weights and losses. The losses of the first step must agree before a time is shown.
FLOPs are those of the program before optimization, bytes those of each operation of the
compiled one; a loop within an iteration (the history of L-BFGS) counts once, so the
share of `dlg` is a lower bound. PyTorch attacks the victims of gradient leakage one
after the other, a few of them; times are per victim.

It ends within `--seconds`: each phase gets a share of what is left, and what does not
fit is left out with the reason. `torch.compile` comes after all else. At last, where
`tests/` is at hand, the cases of the contract test run on the device: each attack under
`jit` equals itself without.
"""

import argparse
import contextlib
import functools
import importlib.util
import json
import pathlib
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from benchmarks import problems, timing
from experiments.harness import memory
from mijax.attacks import (
    dlg,
    gmi,
    inverting_gradients,
    map_inference,
    plg_mi,
    ppa,
)
from mijax.attacks.inversion import augmentation
from mijax.attacks.leakage import initial_images
from mijax.batching import keys_of
from mijax.core import AffineFirst, Target
from mijax.knowledge import Candidates, Oracle, PartialRecord, WhiteBox, normal
from mijax.models.face_evolve import FaceEvolve
from mijax.models.mlp import MLP
from mijax.models.vgg import VGG16
from mijax.priors import wgan_gp

_TOLERANCE = 1e-3  # of losses, relative
_SERIAL = 2  # victims that PyTorch attacks one after the other
_OTHERS = 18  # columns of the other fields, as many as IWPC has
_FOR_CONTRACT = 0.2  # of the seconds
_LONGEST = 1e6  # seconds that a timer takes
_COPIED = {"cpu": 2**28}  # bytes, far above any cache; elsewhere 2 GiB

Run = Callable[[], np.ndarray]


class Case(NamedTuple):
    """One kernel.

    Attributes:
      unit: what `ms` is of.
      function: our program; its losses, `[steps, V]`, of what runs first.
      arguments: of it.
      work: how many units one run is.
      theirs: PyTorch's run of the same, from whether it is compiled.
      their_work: units of that run.
      times: how many times one run does what FLOPs and bytes are counted of.
      counted: arguments to count them with, if not `arguments`.
    """

    unit: str
    function: Callable[..., Array]
    arguments: tuple[Any, ...]
    work: float
    theirs: Callable[[bool], Run]
    their_work: float
    times: int
    counted: tuple[Any, ...] | None = None


class Sizes(NamedTuple):
    """How large the cases are."""

    image: int = 64
    latents: int = 100
    prior_width: int = 64
    gmi_batch: int = 60
    gmi_steps: int = 10
    vgg: nn.Module = VGG16(1000)
    face_evolve: nn.Module = FaceEvolve(1000)
    conv_net_width: int = 64
    adam_victims: tuple[int, ...] = (1, 8, 64)
    adam_steps: int = 16
    lbfgs_victims: tuple[int, ...] = (64, 256)
    lbfgs_steps: int = 2
    records: int = 10**6
    train_batch: int = 64
    train_steps: int = 20


PAPER = Sizes()
SMALL = Sizes(
    image=32,
    latents=8,
    prior_width=4,
    gmi_batch=2,
    gmi_steps=2,
    vgg=VGG16(3, width=2),
    face_evolve=FaceEvolve(3, 4, (1, 2, 1, 1), 8),
    conv_net_width=2,
    adam_victims=(2,),
    adam_steps=8,
    lbfgs_victims=(2,),
    lbfgs_steps=1,
    records=1000,
    train_batch=4,
    train_steps=2,
)


# The cases ------------------------------------------------------------------------


def gmi_case(network: str, sizes: Sizes) -> Case:
    """A step of GMI against a network of random weights."""
    module: Any = getattr(sizes, {"vgg16": "vgg"}.get(network, network))
    example = (sizes.image, sizes.image, 3)
    generator, critic = problems.dcgan(sizes.image, 3, sizes.prior_width)
    prior = problems.random_prior(generator, critic, sizes.latents)
    target = Target.from_linen(module, problems.varied(module, example), example)
    labels = jnp.arange(sizes.gmi_batch, dtype=jnp.int32) % target.num_classes
    config = gmi.Config(steps=sizes.gmi_steps - 1, restarts=1)
    key = jax.random.key(0)

    def run(key: Array, knowledge: WhiteBox) -> Array:
        return gmi.attack(key, knowledge, config).trace[:, 0].T

    def theirs(compiled: bool) -> Run:
        from benchmarks import torch_steps

        keys = keys_of(key, sizes.gmi_batch)
        z = jax.vmap(lambda key: jax.random.normal(key, (sizes.latents,)))(keys)
        z = jnp.clip(z, -config.clip, config.clip)
        return torch_steps.gmi_steps(
            network, target, prior, z, labels, sizes.gmi_steps, compiled
        )

    arguments = key, WhiteBox(target, labels, prior)
    return Case(
        "step",
        run,
        arguments,
        sizes.gmi_steps,
        theirs,
        sizes.gmi_steps,
        sizes.gmi_steps,
    )


def viewed_case(method: str, sizes: Sizes) -> Case:
    """A step of PPA or of PLG-MI against VGG16 of random weights, a view a crop."""
    example = (sizes.image, sizes.image, 3)
    target = Target.from_linen(sizes.vgg, problems.varied(sizes.vgg, example), example)
    generator, critic = problems.dcgan(sizes.image, 3, sizes.prior_width)
    classes = target.num_classes if method == "plg_mi" else 0
    prior = problems.random_prior(
        generator.clone(classes=classes), critic, sizes.latents
    )
    batch, steps = sizes.gmi_batch, sizes.gmi_steps
    labels = jnp.arange(batch, dtype=jnp.int32) % target.num_classes
    key = jax.random.key(0)
    if method == "ppa":
        config: Any = ppa.Config(
            samples=1, restarts=1, steps=steps - 1, final_views=1, mirrored=False
        )
        scale, views, attack = (0.9, 1.0), 1, ppa.attack
        adam = 0.005, 0.1, 0.1
    else:
        scale, views, attack = (0.8, 1.0), 2, plg_mi.attack
        view = functools.partial(augmentation.resized_crop, scale=scale)
        config = plg_mi.Config(steps=steps - 1, restarts=1, view=view)
        adam = 0.1, 0.9, 0.999

    def run(key: Array, knowledge: WhiteBox) -> Array:
        return attack(key, knowledge, config).trace[:, 0].T

    def drawn(key: Array) -> Any:
        """Of one candidate: its first latent, and each view's crop."""
        first_key, second_key = jax.random.split(key)
        (search_key,) = jax.random.split(first_key, 1)
        if method == "ppa":
            z = prior.sample(jax.random.key(config.pool), 1)[0]
        else:
            z = prior.sample(second_key, 1)[0]

        def crop(step: Array, view: Array) -> tuple[Array, Array]:
            key = jax.random.fold_in(search_key, step)
            if method == "plg_mi":
                key = jax.random.fold_in(key, view)
            return augmentation.crop_weights(key, example[:2], scale)

        crops = jax.vmap(jax.vmap(crop, (None, 0)), (0, None))
        return z, crops(jnp.arange(steps), jnp.arange(views))

    def theirs(compiled: bool) -> Run:
        from benchmarks import torch_steps

        z, weights = jax.vmap(drawn)(keys_of(key, batch))
        weights = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 2), weights)
        loss = torch_steps.poincare if method == "ppa" else torch_steps.max_margin
        return torch_steps.viewed_steps(
            "vgg16", target, prior, z, labels, weights, loss, adam, compiled
        )

    arguments = key, WhiteBox(target, labels, prior)
    return Case("step", run, arguments, steps, theirs, steps, steps)


def inverting_gradients_case(victims: int, sizes: Sizes) -> Case:
    """An iteration of Inverting Gradients, per victim."""
    known = problems.shared_updates(problems.conv_net(sizes.conv_net_width), victims)
    config = inverting_gradients.Config(sizes.adam_steps, tv_weight=1e-2)
    key, serial = jax.random.key(2), min(victims, _SERIAL)

    def run(key: Array, knowledge: Any) -> Array:
        return inverting_gradients.attack(key, knowledge, config).trace[:, 0, :-1].T

    def theirs(compiled: bool) -> Run:
        from benchmarks import torch_steps

        x = initial_images.sown(config.seed, key, known, 1)[:, 0]
        return torch_steps.inverting_gradients_steps(known, x, serial, config, compiled)

    return Case(
        "victim and iteration",
        run,
        (key, known),
        victims * config.steps,
        theirs,
        serial * config.steps,
        config.steps,
    )


def dlg_case(victims: int, sizes: Sizes) -> Case:
    """A step of DLG, 20 iterations of L-BFGS, per victim."""
    known = problems.shared_updates(problems.lenet(), victims)
    config = dlg.Config(steps=sizes.lbfgs_steps)
    key, serial = jax.random.key(2), min(victims, _SERIAL)

    def run(key: Array, knowledge: Any) -> Array:
        return dlg.attack(key, knowledge, config).trace[:, 0, :-1].T

    def theirs(compiled: bool) -> Run:
        from benchmarks import torch_steps

        keys = jax.vmap(jax.random.split)(keys_of(key, victims))
        x = initial_images.sown(config.seed, keys[:, 0], known, 1)[:, 0]
        classes = known.target.num_classes
        logits = jax.vmap(lambda key: jax.random.normal(key, (1, 1, classes)))(
            keys[:, 1]
        )
        return torch_steps.dlg_steps(known, x, logits[:, 0], serial, config, compiled)

    return Case(
        "victim and step",
        run,
        (key, known),
        victims * config.steps,
        theirs,
        serial * config.steps,
        config.steps * config.inner,
    )


def map_inference_case(sizes: Sizes) -> Case:
    """MAP inference of a one-hot field of seven values."""
    candidates, parts = 7, 100
    width, part = candidates + _OTHERS, sizes.records // parts
    module = MLP(1, (128,), jax.nn.relu)
    variables: Any = module.init(jax.random.key(0), jnp.zeros((1, width)))
    target = Target.from_function(AffineFirst.from_linen(module), variables, (width,))
    x_key, y_key = jax.random.split(jax.random.key(1))
    x = jax.random.normal(x_key, (sizes.records, width))
    y = jax.random.normal(y_key, (sizes.records,))
    field = Candidates.of(np.arange(candidates), np.eye(candidates))

    def known(x: Array, y: Array) -> PartialRecord:
        return PartialRecord(Oracle.of(target), x, field, y, normal(1.0))

    def run(key: Array, knowledge: PartialRecord) -> Array:
        return map_inference.attack(key, knowledge).log_posterior.T

    def theirs(compiled: bool) -> Run:
        from benchmarks import torch_steps

        dense = [variables["params"][name] for name in ("hidden_0", "logits")]
        layers = [(layer["kernel"], layer["bias"]) for layer in dense]
        return torch_steps.map_inference_posteriors(known(x, y), layers, compiled)

    key = jax.random.key(0)
    return Case(
        "million records",
        run,
        (key, known(x, y)),
        sizes.records / 1e6,
        theirs,
        sizes.records / 1e6,
        parts,
        (key, known(x[:part], y[:part])),
    )


def wgan_gp_case(sizes: Sizes) -> Case:
    """Training of GMI's prior, per 1,000 images that the critic sees."""
    batch, steps = sizes.train_batch, sizes.train_steps
    config = wgan_gp.Config(
        latent_size=sizes.latents,
        critic_steps=1,
        batch_size=batch,
        penalty_examples=batch,
        mirror=False,
    )
    generator, critic = problems.dcgan(sizes.image, 3, sizes.prior_width)
    init_key, image_key, key = jax.random.split(jax.random.key(0), 3)
    state = wgan_gp.init(init_key, generator, critic, config)
    images = jax.random.uniform(image_key, (batch, sizes.image, sizes.image, 3))
    step = wgan_gp.step(generator, critic, config)

    def run(key: Array, state: wgan_gp.State, images: Array) -> Array:
        def body(state: wgan_gp.State, key: Array) -> tuple[wgan_gp.State, Array]:
            state, metrics = step(key, state, images)
            return state, metrics["wasserstein"][None]

        return lax.scan(body, state, jax.random.split(key, steps))[1]

    def drawn(key: Array) -> dict[str, Array]:
        generator_key, critic_key = map(
            jax.random.split, jax.random.split(key)
        )  # A key of what is drawn, and one of the loss.
        mix_key, _ = jax.random.split(critic_key[1])
        return {
            "critic": jax.random.normal(critic_key[0], (batch, sizes.latents)),
            "mix": jax.random.uniform(mix_key, (batch, 1, 1, 1)),
            "generator": jax.random.normal(generator_key[0], (batch, sizes.latents)),
        }

    def theirs(compiled: bool) -> Run:
        from benchmarks import torch_steps

        noise = jax.vmap(drawn)(jax.random.split(key, steps))
        return torch_steps.prior_steps(state, config, images, noise, compiled)

    arguments, work = (key, state, images), batch * steps / 1000
    return Case(
        "1,000 images",
        run,
        arguments,
        work,
        theirs,
        work,
        steps,
    )


def cases(sizes: Sizes) -> dict[str, Callable[[], Case]]:
    """What makes each case, in the order in which they run."""
    every = {
        f"gmi, {network}, {sizes.gmi_batch} victims": functools.partial(
            gmi_case, network, sizes
        )
        for network in ("vgg16", "face_evolve")
    }
    for method in ("ppa", "plg_mi"):
        every[f"{method}, vgg16, {sizes.gmi_batch} candidates"] = functools.partial(
            viewed_case, method, sizes
        )
    for name, make, numbers in (
        ("inverting_gradients", inverting_gradients_case, sizes.adam_victims),
        ("dlg", dlg_case, sizes.lbfgs_victims),
    ):
        for number in numbers:
            every[f"{name}, {number} victims"] = functools.partial(make, number, sizes)
    every[f"map_inference, {sizes.records} records"] = functools.partial(
        map_inference_case, sizes
    )
    every[f"wgan_gp, batch {sizes.train_batch}"] = functools.partial(
        wgan_gp_case, sizes
    )
    return every


# Measures -------------------------------------------------------------------------


class Ceilings(NamedTuple):
    """What the device can do: FLOP/s of sgemm, bytes/s of a copy."""

    flops: float
    bandwidth: float


def seconds_of(run: Callable[[], Any], repeats: int) -> float:
    """The median seconds of some runs, after one to warm up."""
    run()
    return statistics.median(timing.once(run).wall for _ in range(repeats))


def ceilings(repeats: int) -> Ceilings:
    """Measures the device's float32 matrix product and its copy."""
    product, flops = timing.sgemm()
    size = _COPIED.get(jax.default_backend(), 2**31)
    x = jnp.ones(size // 4)
    # Into a buffer that is there already: fresh memory is slow when first touched.
    into = {"buffer": jnp.zeros(size // 4)}
    copied = jax.jit(lambda x, y: jnp.copy(x), donate_argnums=1, keep_unused=True)
    copied = copied.lower(x, into["buffer"]).compile()

    def copy() -> None:
        into["buffer"] = jax.block_until_ready(copied(x, into.pop("buffer")))

    return Ceilings(
        flops / seconds_of(product, repeats), 2 * size / seconds_of(copy, repeats)
    )


def cost(lowered: Any, program: Any) -> np.ndarray:
    """FLOPs and bytes of a program, a loop's body counted once.

    Compiled for a GPU, products and convolutions are calls whose FLOPs nobody counts.
    """
    before, after = lowered.cost_analysis() or {}, program.cost_analysis() or {}
    flops = max(before.get("flops", 0.0), after.get("flops", 0.0))
    return np.array([flops, after.get("bytes accessed", 0.0)])


def measure(
    case: Case, limits: Ceilings, repeats: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Our columns of the table, and our losses."""
    start = time.perf_counter()
    lowered = jax.jit(case.function).lower(*case.arguments)
    program = lowered.compile()
    compiling = time.perf_counter() - start
    arguments = jax.device_put(case.arguments)
    losses = np.asarray(program(*arguments))
    run = lambda: jax.block_until_ready(program(*arguments))
    seconds = seconds_of(run, repeats)
    stats = jax.devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    if case.counted is None:
        counts = cost(lowered, program)
    else:
        lowered = jax.jit(case.function).lower(*case.counted)
        counts = cost(lowered, lowered.compile())
    flops, size = case.times * counts
    computing, moving = flops / limits.flops, size / limits.bandwidth
    row = {
        "ms": 1e3 * seconds / case.work,
        "GFLOP/s": flops / seconds / 1e9,
        "GB/s": size / seconds / 1e9,
        "bound": "FLOPs" if computing >= moving else "bytes",
        "of roofline": max(computing, moving) / seconds,
        "compile s": compiling,
        "memory MiB": memory.need(program) / 2**20,
        "device peak MiB": None if peak is None else peak / 2**20,
    }
    return row, losses


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest relative difference of the first step's losses, of whom both attack.

    Raises:
      ValueError: if it is above the tolerance: a comparison would mean nothing.
    """
    first = min(ours.shape[1], theirs.shape[1])
    a, b = ours[0, :first], theirs[0, :first]
    away = float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
    if not away <= _TOLERANCE:
        raise ValueError(
            f"the first losses differ by {away:.1e} of their size, more than "
            f"{_TOLERANCE:.0e}: not the same computation"
        )
    return away


def compare(
    case: Case, losses: np.ndarray, compiled: bool, repeats: int
) -> dict[str, Any]:
    """PyTorch's columns of the table.

    Raises:
      ValueError: if its losses are others.
    """
    kind = "torch.compile" if compiled else "torch eager"
    start = time.perf_counter()
    run = case.theirs(compiled)
    away = difference(losses, run())
    row = {f"{kind} difference": away}
    if compiled:
        row[f"{kind} first run s"] = time.perf_counter() - start
    return row | {f"{kind} ms": 1e3 * seconds_of(run, repeats) / case.their_work}


# The contract ---------------------------------------------------------------------


def contract(deadline: float) -> dict[str, Any]:
    """Runs the contract test's cases: each attack under `jit` against itself without.

    Returns:
      How many agreed, the differences of those that did not, and who was left out.
    """
    tests = pathlib.Path(__file__).parents[1] / "tests"
    if not (tests / "contract_cases.py").is_file():
        return {"left out": f"there is no {tests}/contract_cases.py"}
    sys.path.insert(0, str(tests))
    try:
        every = importlib.import_module("contract_cases").CASES
    except ImportError as error:
        return {"left out": f"{error}"}
    agreed, failed, skipped = 0, {}, []
    for case in every:
        if time.monotonic() > deadline:
            skipped.append(case.name)
            continue
        try:
            with limited(deadline - time.monotonic()):
                arguments = (
                    jax.random.key(0),
                    case.knowing(0, lambda function: function),
                    case.config,
                )
                ours = jax.jit(case.attack.attack)(*arguments)
                eager = case.attack.attack(*arguments)
                jax.tree.map(
                    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
                    ours,
                    eager,
                )
            agreed += 1
        except TimeoutError:
            skipped.append(case.name)
        except Exception as error:
            failed[case.name] = _said(error)
    return {"agreed": agreed, "failed": failed, "out of time": skipped}


# The command ----------------------------------------------------------------------


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises a TimeoutError within it after so many seconds.

    Python alone can be interrupted: a compilation ends first.
    """

    def stop(signum: int, frame: Any) -> None:
        raise TimeoutError(f"out of time, after {seconds:.0f} s")

    if seconds <= 0:
        raise TimeoutError("out of time")
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, min(seconds, _LONGEST))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _said(error: BaseException) -> str:
    lines = [line for line in f"{error}".splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


class Report:
    """What was measured so far: printed, and written after each phase."""

    def __init__(self, about: dict[str, Any], path: str | None):
        self.about, self.path = about, path
        self.rows: list[dict[str, Any]] = []

    def keep(self, **more: Any) -> None:
        """Adds to what is said of the run, and writes all."""
        self.about |= more
        if self.path is not None:
            text = json.dumps({**self.about, "cases": self.rows}, indent=2)
            pathlib.Path(self.path).write_text(text + "\n")

    def attempt(self, row: dict[str, Any], phase: str, seconds: float, do: Any) -> Any:
        """Does a phase of a case within its seconds; notes why, if it fails."""
        try:
            with limited(seconds):
                return do()
        except Exception as error:  # One case that fails leaves the others.
            row.setdefault("left out", {})[phase] = _said(error)
            return None
        finally:
            self.keep()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The cases in aligned columns, then what was left out and why."""
    columns = (
        *("ms", "of roofline", "bound", "compile s", "memory MiB"),
        *("torch eager ms", "torch.compile ms"),
    )
    body = [
        {"case": f"{row['case']} (a {row['unit']})"}
        | {column: row.get(column, "-") for column in columns}
        for row in rows
    ]
    notes = [
        f"{row['case']}, {phase}: left out, {why}"
        for row in rows
        for phase, why in row.get("left out", {}).items()
    ]
    return "\n".join([timing.table(body), *notes])


def measure_all(sizes: Sizes, seconds: float, repeats: int, report: Report) -> None:
    """Measures every case, ours and eager first, then by `torch.compile`."""
    end = time.monotonic() + seconds
    limits = ceilings(repeats)
    report.keep(sgemm=limits.flops, copy=limits.bandwidth)
    has_torch = importlib.util.find_spec("torch") is not None
    report.keep(torch=has_torch and importlib.import_module("torch").__version__)
    done: list[tuple[Case, dict[str, Any], np.ndarray]] = []
    # Half of the time is for torch.compile, where it is there.
    pause = end - (0.5 if has_torch else 0.0) * (end - time.monotonic())
    makers = cases(sizes)
    for index, (name, make) in enumerate(makers.items()):
        row: dict[str, Any] = {"case": name, "unit": "case"}
        report.rows.append(row)
        left = pause - time.monotonic()

        def ours(make: Callable[[], Case] = make) -> Any:
            case = make()
            return case, *measure(case, limits, repeats)

        # A compilation cannot be interrupted, so ours may take what is left.
        measured = report.attempt(row, "mijax", left, ours)
        if measured is not None:
            case, columns, losses = measured
            row |= {"unit": case.unit} | columns
            done.append((case, row, losses))
            if has_torch:
                share = (pause - time.monotonic()) / (len(makers) - index)
                _compare(report, case, row, losses, False, share, repeats)
        print(table([row]), flush=True)
    for index, one in enumerate(done if has_torch else []):
        share = (end - time.monotonic()) / (len(done) - index)
        _compare(report, *one, True, share, repeats)


def _compare(
    report: Report,
    case: Case,
    row: dict[str, Any],
    losses: np.ndarray,
    compiled: bool,
    seconds: float,
    repeats: int,
) -> None:
    phase = "torch.compile" if compiled else "torch eager"
    theirs = report.attempt(
        row, phase, seconds, lambda: compare(case, losses, compiled, repeats)
    )
    row |= theirs or {}
    report.keep()


def main(words: Sequence[str] | None = None) -> None:
    """Measures, compares, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="sizes for any machine")
    parser.add_argument("--seconds", type=float, help="to end within: 440, small 50")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each")
    parser.add_argument("--output", help="a JSON file for the figures")
    given = parser.parse_args(words)
    sizes = SMALL if given.small else PAPER
    end = time.monotonic() + (given.seconds or (50 if given.small else 440))
    jax.config.update("jax_default_matmul_precision", "float32")
    report = Report(timing.device(), given.output)
    print(report.about, flush=True)
    left = (1 - _FOR_CONTRACT) * (end - time.monotonic())
    measure_all(sizes, left, given.repeats, report)
    print(f"\n{table(report.rows)}", flush=True)
    report.keep(contract=contract(end))
    print(f"\ncontract on the device: {report.about['contract']}", flush=True)


if __name__ == "__main__":
    main()
