"""Attribute inference: what a model tells of one person's missing field.

    python -m experiments.attribute_inference --paper=fredrikson2014   # warfarin, DP
    python -m experiments.attribute_inference --paper=fredrikson2015   # trees
    python -m experiments.attribute_inference --paper=hidano2017       # poison
    python -m experiments.attribute_inference --paper=yeom2018         # overfitting
    python -m experiments.attribute_inference --paper=zhao2021         # infeasibility
    python -m experiments.attribute_inference --paper=mehnaz2022       # CSMIA, LOMIA

Each redraws that paper's figure or table, beside what needs no target: the mode, an
imputation from the known fields, one that knows the outcome too. What each expects is
in its file's docstring; measured figures and minutes: BUILD_NOTES.md.
"""

import contextlib
import functools
import time
from typing import Any

import jax
from absl import flags

from experiments import worlds
from experiments.attribute_inference import (
    fredrikson2014,
    fredrikson2015,
    hidano2017,
    mehnaz2022,
    yeom2018,
    zhao2021,
)
from experiments.attribute_inference import setting as settings
from experiments.harness import flags as common
from experiments.harness import report, stages
from mijax.data import tables

_ALL = (
    *(fredrikson2014, fredrikson2015, hidano2017),
    *(yeom2018, zhao2021, mehnaz2022),
)
PAPERS = {module.__name__.rsplit(".", 1)[1]: module for module in _ALL}
SEEDS = {"quick": 5, "paper": 10}

_PAPER = flags.DEFINE_enum("paper", "fredrikson2014", list(PAPERS), "Which to redraw.")
_SEEDS = flags.DEFINE_integer(
    "num_seeds", None, "Splits and trainings; 5, or 10 with --preset=paper.", 1, 99
)
common.common("attribute_inference", dataset=None)


def main() -> None:
    """Measures each table and seed, or takes them from the workdir; writes the page."""
    values = flags.FLAGS
    paper = PAPERS[_PAPER.value]
    number = SEEDS[values.preset] if _SEEDS.value is None else _SEEDS.value
    workdir = report.prepare_workdir(values.workdir)
    stages.claim(workdir, common.given(), values.resume)
    people, absent = load(paper, values.dataset, worlds.data_folder(values.data_dir))
    profiled = jax.profiler.trace(str(workdir / "profile"))
    with profiled if values.profile else contextlib.nullcontext():
        found = {
            name: [
                stages.once(
                    workdir,
                    f"{name}-{seed}",
                    functools.partial(timed, paper.measure, table, seed),
                )
                for seed in settings.seeds(values.seed, number)
            ]
            for name, table in people.items()
        }
    every = [seed for seeds in found.values() for seed in seeds]
    page = paper.page(people, found, workdir / "figures")
    path = report.write(
        workdir,
        experiment="attribute_inference",
        flags=common.given(),
        seconds={
            kind: sum(float(seed[kind]) for seed in every)
            for kind in ("compile", "run")
        },
        command=common.command("attribute_inference"),
        **(page._asdict() | {"caveats": [*page.caveats, *absent]}),
    )
    print(table_of(page.metrics), f"report: {path}", sep="\n", flush=True)


def load(
    paper: Any, dataset: str | None, folder: str | None
) -> tuple[dict[str, tables.Table], list[str]]:
    """Loads a paper's tables; says which are not at hand.

    Raises:
      ValueError: if the paper has no such table.
      FileNotFoundError: if none is at hand, or not the one that was asked for.
    """
    if dataset is not None and dataset not in paper.TABLES:
        raise ValueError(
            f"--dataset={dataset} is no table of this paper's: it has "
            f"{', '.join(paper.TABLES)}. experiments.audit_table takes any."
        )
    people, absent = {}, []
    for name in paper.TABLES if dataset is None else (dataset,):
        try:
            people[name] = paper.load(name, folder)
            print(people[name].report(), flush=True)
        except FileNotFoundError as error:
            absent.append(f"{name} is not at hand: {error}")
            print(absent[-1], flush=True)
    if not people:
        raise FileNotFoundError(absent[0])
    return people, absent


def timed(measure: Any, table: tables.Table, seed: int) -> dict[str, Any]:
    """What a seed's measurement found, with the seconds of compiling and the rest."""
    compiled = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    start = time.monotonic()
    try:
        found = measure(table, seed)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    spent = time.monotonic() - start
    print(f"{table.name}, seed {seed}: {spent:.1f} s", flush=True)
    return found | {"compile": sum(compiled), "run": max(spent - sum(compiled), 0.0)}


def table_of(metrics: dict[str, report.Metric]) -> str:
    """The accuracies, as a terminal should show them."""
    lines = []
    for name, line in metrics.items():
        if name.startswith(("attribute_accuracy", "advantage", "membership_auc")):
            text = f"{name:64}{line.value:7.3f}"
            if line.low is not None:
                text += f"  [{line.low:.3f}, {line.high:.3f}]"
            if line.baseline is not None:
                text += f"  without target {line.baseline:.3f}"
            lines.append(text)
    return "\n".join(lines)


if __name__ == "__main__":
    common.run(main)
