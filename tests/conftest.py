"""What every test file shares: strict shapes, the data folder, and tiny networks."""

import collections
import importlib.metadata
import itertools
import os
import pathlib
import platform
import shutil
import sys
import tempfile

# Tests run most programs once, so they compile them quickly; child processes too.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# XLA's older emitters of fusions compile in two thirds of the time. Later jaxlibs have
# the newer ones alone, and a flag that XLA does not know ends the process.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_cpu_use_fusion_emitters=false"
    if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1"
    and importlib.metadata.version("jaxlib").startswith("0.10.")
    else ""
)
# Child processes keep none: some are killed while they write.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "0")

import jax
import pytest
import tiny

jax.config.update("jax_numpy_rank_promotion", "raise")

_COMPILED = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "compiled"
_BESIDE = pathlib.Path(__file__).parents[2] / "shared" / "data"


# Programs are for the processor at hand. JAX writes them in place, so each process has
# a folder of its own until it ends.
_KEPT = _COMPILED / platform.node()
_OWN = pytest.StashKey[pathlib.Path]()


def pytest_addoption(parser):
    """Adds `--within`, of `make quick`."""
    parser.addoption(
        "--within",
        type=float,
        metavar="SECONDS",
        help="leave out the longest tests, by their last time, so that this is enough; "
        "tests that failed or were never run stay, as do those named by path",
    )


def pytest_configure(config):
    """Reuses the programs of earlier runs; `make clean` removes them."""
    if config.args_source is config.ArgsSource.ARGS and _is_controller(config):
        config.option.within = None  # a file or folder was named
    own = config.stash[_OWN] = pathlib.Path(tempfile.mkdtemp(prefix="mijax-compiled-"))
    _KEPT.mkdir(parents=True, exist_ok=True)
    shutil.copytree(_KEPT, own, dirs_exist_ok=True)
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(own))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


# By test: the seconds that it took last, its fixtures included.
_TIMES = "mijax/times"
_took = collections.defaultdict(float)


def _is_controller(config):
    return not hasattr(config, "workerinput")


def pytest_runtest_logreport(report):
    """Adds up what a test takes."""
    _took[report.nodeid] += report.duration


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Tells xdist's workers, who read the command line anew, what was decided."""
    node.workerinput["within"] = node.config.option.within


def pytest_collection_modifyitems(config, items):
    """Leaves out what `--within` has no time for."""
    own = {"within": config.option.within}
    within = getattr(config, "workerinput", own)["within"]
    if within is None:
        return
    times, failed = (config.cache.get(k, {}) for k in (_TIMES, "cache/lastfailed"))
    last = {
        item.nodeid: 0 if item.nodeid in failed else times.get(item.nodeid, 0)
        for item in items
    }
    names = sorted(last, key=lambda name: last[name])
    ends = itertools.accumulate(last[name] for name in names)
    kept = {name for name, end in zip(names, ends, strict=True) if end <= within}
    config.hook.pytest_deselected(items=[i for i in items if i.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]


def pytest_sessionfinish(session):
    """Keeps this run's programs; xdist may end a worker any time after."""
    if _is_controller(session.config):
        cache = session.config.cache
        cache.set(_TIMES, cache.get(_TIMES, {}) | _took)
    own = session.config.stash[_OWN]
    for path in own.glob("*-cache"):
        if not (_KEPT / path.name).exists():
            partial = _KEPT / f"{path.name}.{os.getpid()}.partial"
            shutil.copyfile(path, partial)
            partial.replace(_KEPT / path.name)
    shutil.rmtree(own, ignore_errors=True)


_may_start_processes = True


def _refuse(event, arguments):
    if _may_start_processes or event != "subprocess.Popen":
        return
    if pathlib.Path(os.fsdecode(arguments[0])).name.startswith("python"):
        raise RuntimeError("a test that starts Python needs @pytest.mark.process")


sys.addaudithook(_refuse)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Holds the inner loop, `make quick`, to tests that start no Python."""
    global _may_start_processes
    _may_start_processes = item.get_closest_marker("process") is not None
    try:
        return (yield)
    finally:
        _may_start_processes = True


# Linux lets a process map 65,530 pieces of memory, each program that XLA compiles takes
# some, and one too many ends in a segmentation fault.
_MAPPINGS = pathlib.Path("/proc/self/maps")
_MOST_MAPPINGS = 10_000


def pytest_runtest_logfinish():
    """Forgets compiled programs before their memory mappings run out."""
    if _MAPPINGS.is_file() and _MAPPINGS.read_bytes().count(b"\n") > _MOST_MAPPINGS:
        jax.clear_caches()


@pytest.fixture
def optimized(monkeypatch):
    """Compiles as a user's run does: for what is promised bit for bit."""
    before = jax.config.read("jax_disable_most_optimizations")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    jax.clear_caches()


@pytest.fixture(scope="session")
def data_dir():
    """The folder of the real data; the test is skipped where there is none."""
    folder = pathlib.Path(os.environ.get("MIJAX_DATA_DIR", _BESIDE))
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}: set MIJAX_DATA_DIR to the data folder")
    return folder


@pytest.fixture(scope="session")
def classifier():
    """A Linen module for 8x8x1 images of 3 classes."""
    return tiny.CLASSIFIER


@pytest.fixture(scope="session")
def variables():
    """Two sets of the classifier's variables."""
    return [tiny.variables(seed) for seed in (1, 2)]


@pytest.fixture(scope="session")
def target():
    """The classifier as a target."""
    return tiny.target()


@pytest.fixture(scope="session")
def prior():
    """A generator and a critic of 8x8x1 images, of random weights."""
    return tiny.prior()
