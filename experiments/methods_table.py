"""The tables of methods, defenses and experiments, made of what each says of itself.

`python -m experiments.methods_table` prints them; with README.md as its argument it
puts each between its markers there.
"""

import inspect
import pathlib
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

import jax

from experiments import catalog
from mijax import attacks, defenses
from mijax.defenses import Defense

_REFERENCE = re.compile(
    r"(?P<authors>[^.]+? et al\.|[^.]+(?=\. ))\.? (?P<title>.+?)(?:\.|(?<=\?)) "
    r"(?P<venue>[^.]+ \d{4})\. (?P<kind>arXiv|doi|https):(?P<number>\S+?)\.?(?: |$)"
)
_GUARANTEE = re.compile(r"Guarantees (.+?)(?:;|\.(?= |$))")
_SITES = {
    "arXiv": "https://arxiv.org/abs/",
    "doi": "https://doi.org/",
    "https": "https:",
}


def table() -> str:
    """Returns the methods of `attacks.ALL` as a Markdown table, in their order."""
    return _markdown(
        ("method", "paper", "knowledge", "recovers"),
        ((name(m), papers(m), knowledge(m), recovers(m)) for m in attacks.ALL),
    )


def table_of_defenses() -> str:
    """Returns `defenses.ALL` and `defenses.TRAINERS` as a Markdown table."""
    makers = [(make, places(make)) for make in defenses.ALL]
    trainers = [(train, "training") for train in defenses.TRAINERS]
    return _markdown(
        ("defense", "paper", "where it acts", "guarantees"),
        ((link(f), papers(f), acts, guarantee(f)) for f, acts in makers + trainers),
    )


def table_of_experiments() -> str:
    """Returns all experiments and the first lines of their docstrings."""
    return _markdown(
        ("experiment", "redraws"),
        (
            (f"`{name}`", entry.about.partition("\n")[0])
            for name, entry in catalog.entries().items()
        ),
    )


def _markdown(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (columns, ("---",) * len(columns), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def link(function: Callable[..., Any]) -> str:
    """The function's name, with a link to its file."""
    path = function.__module__.replace(".", "/")
    return f"[`{function.__name__}`]({path}.py)"


def places(make: Callable[..., Defense]) -> str:
    """The places at which a defense acts; 1 is a valid value of all but the keys."""
    parameters = inspect.signature(make).parameters.values()
    required = {
        p.name: jax.random.key(0) if p.name == "key" else 1
        for p in parameters
        if p.default is inspect.Parameter.empty
    }
    return ", ".join(f"`{place}`" for place in make(**required).places)


def guarantee(function: Callable[..., Any]) -> str:
    """What the function's file says that it guarantees.

    Raises:
      ValueError: if no sentence of the file's docstring begins with "Guarantees".
    """
    text = inspect.getdoc(inspect.getmodule(function)) or ""
    found = _GUARANTEE.search(" ".join(text.split()))
    if found is None:
        raise ValueError(
            f"{function.__module__} does not say what it guarantees: write a sentence "
            "that begins with 'Guarantees', such as 'Guarantees nothing.'"
        )
    return found[1]


def name(method: types.ModuleType) -> str:
    """The method's name, of its module's first line, with a link to its file."""
    title = inspect.getdoc(method).partition(":")[0]  # type: ignore[union-attr]
    return f"[{title}]({method.__name__.replace('.', '/')}.py)"


def papers(method: types.ModuleType | Callable[..., Any]) -> str:
    """What stands below `References:` of it or else of its file, with links.

    Raises:
      ValueError: if nothing there reads `Authors. Title. Venue 2020. arXiv:1234.5678.`
        or ends, instead, in `doi:` or an address.
    """
    _, _, listed = (inspect.getdoc(method) or "").partition("References:")
    if not listed:
        file = inspect.getdoc(inspect.getmodule(method)) or ""
        listed = file.partition("References:")[2]
    found = [
        f"{reference['authors']}, [{reference['title']}]"
        f"({_SITES[reference['kind']]}{reference['number']}), {reference['venue']}"
        for reference in _REFERENCE.finditer(" ".join(listed.split()))
    ]
    if not found:
        raise ValueError(
            f"{method.__name__} names no paper: write, below 'References:', "
            "'Authors. Title. Venue 2020. arXiv:1234.5678.', or at its end a doi, or "
            "the https address of a paper that has none."
        )
    return "; ".join(found)


def knowledge(method: types.ModuleType) -> str:
    """The types of knowledge that the method takes."""
    annotation = typing.get_type_hints(method.attack)["knowledge"]
    kinds = typing.get_args(annotation) or (annotation,)
    return ", ".join(f"`{kind.__name__}`" for kind in kinds)


def recovers(method: types.ModuleType) -> str:
    """What the first line of `attack` says after its first word, "Recovers".

    Raises:
      ValueError: if it begins with another word.
    """
    line = (inspect.getdoc(method.attack) or "").partition("\n")[0]
    verb, _, what = line.rstrip(".").partition(" ")
    if verb != "Recovers":
        raise ValueError(
            f"{method.__name__}.attack begins {line!r}: begin with 'Recovers', for the "
            "table of methods."
        )
    return what


def inserted(page: str) -> str:
    """Returns a page with each table between its markers.

    Raises:
      ValueError: if a marker is missing.
    """
    for title, make in (
        ("methods", table),
        ("defenses", table_of_defenses),
        ("experiments", table_of_experiments),
    ):
        start, end = f"<!-- {title} -->", f"<!-- end of {title} -->"
        if page.count(start) != 1 or page.count(end) != 1:
            raise ValueError(f"The page must hold {start!r} and {end!r} once each.")
        before, _, rest = page.partition(start)
        after = rest.partition(end)[2]
        page = f"{before}{start}\n{make()}\n{end}{after}"
    return page


def main() -> None:
    """Prints the tables, or puts them into the pages named on the command line."""
    for argument in sys.argv[1:]:
        path = pathlib.Path(argument)
        path.write_text(inserted(path.read_text()))
    if not sys.argv[1:]:
        print(table(), table_of_defenses(), table_of_experiments(), sep="\n\n")


if __name__ == "__main__":
    main()
