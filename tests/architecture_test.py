"""Imports run one way: what an attack cannot import, it cannot choose its answer by."""

import ast
import graphlib
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# What each part of mijax may import of mijax, beside itself.
MAY_IMPORT = {
    "core": set(),
    "federation": {"core", "training"},
    "knowledge": {"core", "federation"},
    "search": {"core"},
    "training": {"core"},
    "private_training": {"core", "training"},
    "fine_tuning": {"core", "training"},
    "models": {"core", "pretrained"},
    "pretrained": set(),
    "priors": {"core", "models", "pretrained", "training"},
    "batching": {"core"},
    "attacks": {
        "core",
        "federation",
        "fine_tuning",
        "training",
        "knowledge",
        "search",
        "models",
        "priors",
        "batching",
    },
    "defenses": {"core", "models"},
    "metrics": set(),
    "evaluation": {"core", "models", "metrics", "data"},
    "data": set(),
    "audit": {"evaluation", "metrics", "attacks", "core"},
}
OUTSIDE = {"experiments", "launch", "benchmarks", "tests"}


def imported(path):
    """The dotted names that a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_at_once(path):
    """The packages that a file imports at its top, whoever imports the file."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).partition(".")[0]


def part(path):
    return path.relative_to(ROOT / "mijax").with_suffix("").parts[0]


FILES = sorted(p for p in (ROOT / "mijax").rglob("*.py") if part(p) != "__init__")


def parts_imported(path):
    names = [name.split(".") for name in imported(path)]
    return {name[1] for name in names if name[0] == "mijax"} - {part(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_what_its_place_allows(path):
    assert part(path) in MAY_IMPORT, "a new part of mijax: say here what it may import"
    assert parts_imported(path) <= MAY_IMPORT[part(path)]


def test_the_library_imports_no_more_than_it_needs():
    everywhere = {"mijax", "jax", "flax", "numpy", "optax", *sys.stdlib_module_names}
    besides = {
        "metrics": {"scipy", "sklearn"},
        "audit": {"scipy", "sklearn", "pandas"},
        "evaluation": {"scipy", "sklearn", "threadpoolctl"},
        "data": {"PIL", "tensorflow_datasets"},
    }
    for path in FILES:
        allowed = everywhere | besides.get(part(path), set())
        assert set(imported_at_once(path)) <= allowed, path


def test_the_library_does_not_know_its_users():
    for path in (ROOT / "mijax").rglob("*.py"):
        assert not {name.split(".")[0] for name in imported(path)} & OUTSIDE, path


def test_imports_run_one_way():
    graph = {}
    for path in FILES:
        graph.setdefault(part(path), set()).update(parts_imported(path))
    assert tuple(graphlib.TopologicalSorter(graph).static_order())


def test_attacks_import_nothing_that_could_grade_them():
    graded_by = {"metrics", "data", "defenses", "checkpoint", "evaluation"}
    reached, todo = set(), {"attacks"}
    while todo:
        reached |= todo
        files = [path for path in FILES if part(path) in todo]
        todo = set().union(*map(parts_imported, files)) - reached
    assert not reached & graded_by


HARNESS = sorted((ROOT / "experiments" / "harness").rglob("*.py"))
STUDIES = sorted((ROOT / "experiments" / "studies").rglob("*.py"))


@pytest.mark.parametrize("path", HARNESS + STUDIES, ids=lambda p: p.stem)
def test_harness_and_studies_know_no_paper(path):
    allowed = {"harness"} if path in HARNESS else {"harness", "studies", "judging"}
    names = [name.split(".") for name in imported(path)]
    assert {name[1] for name in names if name[0] == "experiments"} <= allowed
    assert not {name[0] for name in names} & {"launch", "benchmarks", "tests"}
