"""What the contract of `contract_test.py` needs to know of an attack."""

import typing
from collections.abc import Callable
from typing import Any, NamedTuple


class Case(NamedTuple):
    """One attack, with one kind of knowledge.

    Attributes:
      attack: the module.
      kind: the type of the knowledge.
      config: small sizes.
      knowing: `(which, wrap) -> knowledge` of world 0, 1 or 2: trees of one structure
        and shape that differ in model and victims. The model's function goes through
        `wrap(function)`.
      check: `(found, config)` asserts shapes and ranges of what was found in world 0.
      refused: `(make, message)`: `make()` runs the attack, or makes its knowledge, and
        must raise a ValueError that matches the message.
      random: whether another key finds something else.
    """

    attack: Any
    kind: type
    config: Any
    knowing: Callable[[int, Callable], Any]
    check: Callable[[Any, Any], None]
    refused: tuple[tuple[Callable[[], Any], str], ...]
    random: bool = True

    @property
    def name(self) -> str:
        """As pytest shows it."""
        return f"{self.attack.__name__.split('.')[-1]}-{self.kind.__name__}"


def kinds(attack) -> tuple[type, ...]:
    """The types of knowledge that an attack takes."""
    hint = typing.get_type_hints(attack.attack)["knowledge"]
    return typing.get_args(hint) or (hint,)
