"""Parses the flags of a sweep's runs as the experiment itself would, before any runs.

It is a process of its own, which the launcher starts, since an experiment defines its
flags when it is imported, and they may bear the names of the launcher's. It reads
`{"module", "elements"}` and answers in its last line with `{"words"}`, the flags of
each run as they would be typed, one spelling a value; or with `{"error"}`.
"""

import importlib
import importlib.util
import json
import sys
from typing import Any

from absl import flags

CHOSEN_BY_THE_SWEEP = "workdir"


def words(values: flags.FlagValues, element: dict[str, Any]) -> list[str]:
    """Returns the flags of one run as they would be typed, sorted.

    Raises:
      ValueError: if the experiment has no such flag, or refuses its value.
    """
    typed = []
    given = {name: value for name, value in element.items() if value is not None}
    for name, value in given.items():
        if name == CHOSEN_BY_THE_SWEEP:
            raise ValueError(f"--{name} is for the sweep to choose: leave it out.")
        several = value if isinstance(value, list | tuple) else [value]
        if name in values and not isinstance(values[name], flags.MultiFlag):
            several = [",".join(map(_typed, several))]
        typed += [f"--{name}={_typed(each)}" for each in several]
    values.unparse_flags()
    for name in values:
        values[name].unparse()
    try:
        values(["", f"--{CHOSEN_BY_THE_SWEEP}=.", *typed])
    except flags.Error as error:
        raise ValueError(str(error)) from None
    serialized = [values[name].serialize() for name in sorted(given)]
    return [word for lines in serialized for word in lines.splitlines()]


def _typed(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def entry(module: str) -> str:
    """The module that `python -m` runs: of a package, its `__main__`."""
    found = importlib.util.find_spec(module)
    package = found is not None and found.submodule_search_locations is not None
    return f"{module}.__main__" if package else module


def answer(module: str, elements: list[dict[str, Any]]) -> dict[str, Any]:
    """Imports the experiment and parses every run's flags."""
    try:
        importlib.import_module(entry(module))
    except ModuleNotFoundError as error:
        return {"error": f"there is no experiment {module} ({error})."}
    values = flags.FLAGS
    if CHOSEN_BY_THE_SWEEP not in values:
        return {"error": f"{module} has no --workdir: it is no experiment."}
    found = []
    for number, element in enumerate(elements):
        try:
            found.append(words(values, element))
        except ValueError as error:
            return {"error": f"run {number} of the sweep, {element}: {error}"}
    return {"words": found}


if __name__ == "__main__":
    print(json.dumps(answer(**json.load(sys.stdin))))
