"""From a sweep file to runs: refuses, before anything runs, what could not run."""

import json
import pathlib
import runpy
import subprocess
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import catalog
from launch.runs import Run

_FUNCTION = "sweep"


def module_of(experiment: str) -> str:
    """The module of `--experiment`: a bare name is one of `experiments --list`."""
    known = catalog.entries()
    if experiment in known:
        return known[experiment].module
    return experiment if "." in experiment else f"experiments.{experiment}"


def elements(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns what the function `sweep` of a file returns.

    Raises:
      ValueError: if there is no such file or function, if it raises, or if it returns
        anything but a list of dictionaries, at least one.
    """
    if not path.is_file():
        raise ValueError(f"--sweep={path}: there is no such file.")
    try:
        found = runpy.run_path(str(path))
        returned = found[_FUNCTION]() if _FUNCTION in found else None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        raise ValueError(f"{place} raised {type(error).__name__}: {error}") from error
    if _FUNCTION not in found:
        raise ValueError(f"--sweep={path} has no function `{_FUNCTION}`.")
    if (
        not isinstance(returned, list)
        or not returned
        or not all(isinstance(element, dict) for element in returned)
    ):
        raise ValueError(
            f"`{_FUNCTION}` of {path} returned {str(returned)[:60]}: it must return a "
            "list of dictionaries of flags, as those of launch.grid are."
        )
    return returned


def _plain(value: Any) -> Any:
    """A NumPy number as Python's, of as many digits as it is printed with."""
    if isinstance(value, np.floating):
        return float(str(value))
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def checked(experiment: str, elements: Sequence[dict[str, Any]]) -> list[Run]:
    """Parses every run's flags as the experiment would (see `launch.check`).

    Raises:
      ValueError: if there is no such experiment, it refuses a flag, or two runs are the
        same.
    """
    module = module_of(experiment)
    try:
        question = json.dumps(
            {"module": module, "elements": list(elements)}, default=_plain
        )
    except TypeError as error:
        raise ValueError(
            f"A flag of the sweep is no number, text or list of them: {error}."
        ) from None
    ended = subprocess.run(
        [sys.executable, "-m", "launch.check"],
        input=question,
        capture_output=True,
        text=True,
    )
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"--experiment={experiment} cannot be imported: {last}")
    answer = json.loads(ended.stdout.splitlines()[-1])
    if "error" in answer:
        raise ValueError(f"--experiment={experiment}: {answer['error']}")
    runs = [Run(module, tuple(words)) for words in answer["words"]]
    first: dict[Run, int] = {}
    for number, run in enumerate(runs):
        if run in first:
            raise ValueError(
                f"Runs {first[run]} and {number} of the sweep are the same, {run}: "
                "leave one out."
            )
        first[run] = number
    return runs
