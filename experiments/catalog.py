"""Which experiments there are: every module or package here that can be run."""

import ast
import pathlib
from typing import NamedTuple

_HERE = pathlib.Path(__file__).parent
_NOT_EXPERIMENTS = {"harness", "studies", "catalog", "methods_table", "__main__"}


class Entry(NamedTuple):
    """An experiment: its module, and the docstring that says what it redraws."""

    module: str
    about: str


def entries() -> dict[str, Entry]:
    """Every experiment by its short name, without importing one."""
    found = {}
    for path in sorted(_HERE.rglob("*.py")):
        parts = path.relative_to(_HERE).with_suffix("").parts
        if parts[0] in _NOT_EXPERIMENTS:
            continue
        text = path.read_text()
        if 'if __name__ == "__main__":' in text:
            parts = parts[:-1] if parts[-1] == "__main__" else parts
            about = ast.get_docstring(ast.parse(text)) or ""
            found[parts[-1]] = Entry(".".join(("experiments", *parts)), about)
    return found


def module_of(name: str) -> str:
    """The module of a short name; a dotted one is a module's already.

    Raises:
      ValueError: if there is no such experiment.
    """
    if "." in name:
        return name
    known = entries()
    if name not in known:
        raise ValueError(
            f"There is no experiment {name!r}: there are {', '.join(known)}."
        )
    return known[name].module


def listing() -> str:
    """What each redraws, and its commands with their minutes."""
    blocks = []
    for name, entry in entries().items():
        first, *rest = entry.about.splitlines()
        commands = [line for line in rest if line.startswith("    python -m")]
        blocks.append("\n".join([f"{name}: {first}", *commands]))
    return "\n\n".join(blocks)
