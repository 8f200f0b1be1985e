"""Times all kernels beside their peers, and joins them in one table.

    pip install torch==2.13.0             # or pip install ".[peers]"
    python -m benchmarks.run --workdir=runs/benchmarks
    python -m benchmarks.run --benchmarks=gmi,convolution --flags=--batches=60

Each benchmark is a process of its own, with nothing left of the one before. Contenders
take turns within it, so that their ratios hold on a machine that does other work; the
seconds then do not. In the workdir it leaves a JSON file a benchmark and `table.txt`,
with device, commit and precision.
"""

import importlib.util
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from benchmarks import timing
from experiments.harness import flags as common
from experiments.harness import report

BENCHMARKS = (
    "gmi",
    "gradient_leakage",
    "attribute_inference",
    "shadow_models",
    "shadow_updates",
    "convolution",
)

_RATIOS = "wall speed-up", "cpu speed-up", "mijax's wall speed-up"


def run(name: str, workdir: pathlib.Path, words: Sequence[str]) -> dict[str, Any]:
    """Runs one benchmark; returns what it measured, or why it did not."""
    if importlib.util.find_spec(f"benchmarks.{name}") is None:
        return {"missing": f"there is no benchmarks/{name}.py in this checkout"}
    path = workdir / f"{name}.json"
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", f"--output={path}", *words]
    print(f"\n{' '.join(command[1:])}", flush=True)
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if ended.returncode != 0 or not path.is_file():
        said = [line for line in ended.stderr.splitlines() if line.strip()]
        return {"missing": (said or [f"it ended with {ended.returncode}"])[-1]}
    return json.loads(path.read_text())


def rows(name: str, results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The contenders of a benchmark's results, as rows of the joint table."""
    for lines in results.values():
        if not isinstance(lines, list):
            continue
        for line in lines:
            if "contender" not in line:
                continue
            clock = next(field for field in line if field.startswith("wall "))
            scale = 1e3 if clock.startswith("wall s") else 1.0
            case = {
                field: value
                for field, value in line.items()
                if field != "contender" and isinstance(value, str | int)
            }
            yield {
                "benchmark": name,
                "case": " ".join(f"{value}" for value in case.values()) or "-",
                "contender": line["contender"],
                "wall ms": scale * line[clock],
                "unit": "a step" if "step" in clock else "a run",
                "ratio": next((line[field] for field in _RATIOS if field in line), "-"),
                "compile s": line.get("compile s", "-"),
            }


def main() -> None:
    """Runs the chosen benchmarks, and writes the table.

    Raises:
      ValueError: if one that is chosen is none.
    """
    given = flags.FLAGS
    chosen = given.benchmarks
    for name in chosen:
        if name not in BENCHMARKS:
            raise ValueError(
                f"--benchmarks={name}: choose among {', '.join(BENCHMARKS)}."
            )
    workdir = report.prepare_workdir(given.workdir)
    measured = {name: run(name, workdir, given.flags) for name in chosen}
    joint = [row for name, found in measured.items() for row in rows(name, found)]
    about = timing.device() | {"commit": report.commit()}
    lines = [", ".join(f"{name} {value}" for name, value in about.items())]
    lines += [timing.table(joint)] if joint else []
    lines += [
        f"{name}: left out, {found['missing']}"
        for name, found in measured.items()
        if "missing" in found
    ]
    text = "\n".join(lines) + "\n"
    (workdir / "table.txt").write_text(text)
    print(f"\n{text}\nbenchmarks: {workdir / 'table.txt'}", flush=True)


if __name__ == "__main__":
    flags.DEFINE_list("benchmarks", list(BENCHMARKS), "Which to run.")
    flags.DEFINE_multi_string("flags", [], "A flag for each of them: --repeats=9.")
    flags.DEFINE_string("workdir", "runs/benchmarks", "Where results land.")
    common.run(main)
