"""The table of methods, made of what the attacks say of themselves.

`python -m experiments.methods_table` prints it; with README.md as its argument it puts
it between the markers there.
"""

import inspect
import pathlib
import re
import sys
import types
import typing

from mijax import attacks

START, END = "<!-- methods -->", "<!-- end of methods -->"

_REFERENCE = re.compile(
    r"(?P<authors>[^.]+? et al\.|[^.]+(?=\. ))\.? (?P<title>.+?)(?:\.|(?<=\?)) "
    r"(?P<venue>[^.]+ \d{4})\. (?P<kind>arXiv|doi|https):(?P<number>\S+?)\.?(?: |$)"
)
_SITES = {
    "arXiv": "https://arxiv.org/abs/",
    "doi": "https://doi.org/",
    "https": "https:",
}


def table() -> str:
    """Returns the methods of `attacks.ALL` as a Markdown table, in their order."""
    rows = [
        ("method", "paper", "knowledge", "recovers"),
        ("---", "---", "---", "---"),
        *((name(m), papers(m), knowledge(m), recovers(m)) for m in attacks.ALL),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def name(method: types.ModuleType) -> str:
    """The method's name, of its module's first line, with a link to its file."""
    title = inspect.getdoc(method).partition(":")[0]  # type: ignore[union-attr]
    return f"[{title}]({method.__name__.replace('.', '/')}.py)"


def papers(method: types.ModuleType) -> str:
    """What stands below `References:`, with links.

    Raises:
      ValueError: if nothing there reads `Authors. Title. Venue 2020. arXiv:1234.5678.`
        or ends, instead, in `doi:` or an address.
    """
    _, _, listed = inspect.getdoc(method).partition("References:")  # type: ignore[union-attr]
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
    """Returns a page with the table between its markers.

    Raises:
      ValueError: if a marker is missing.
    """
    if page.count(START) != 1 or page.count(END) != 1:
        raise ValueError(f"The page must hold {START!r} and {END!r} once each.")
    before, _, rest = page.partition(START)
    after = rest.partition(END)[2]
    return f"{before}{START}\n{table()}\n{END}{after}"


def main() -> None:
    """Prints the table, or puts it into the pages named on the command line."""
    for argument in sys.argv[1:]:
        path = pathlib.Path(argument)
        path.write_text(inserted(path.read_text()))
    if not sys.argv[1:]:
        print(table())


if __name__ == "__main__":
    main()
