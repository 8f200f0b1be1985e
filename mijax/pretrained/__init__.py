"""Public networks that ship with mijax, to be fine-tuned into targets.

Each is `NAME.npz` (weights) beside `NAME.json`, its card: data, license and sha256.
"""

import hashlib
import json
import pathlib
from typing import Any

_FOLDER = pathlib.Path(__file__).parent


def card(name: str) -> dict[str, Any]:
    """Returns the card of a shipped network.

    Raises:
      ValueError: if there is none of that name.
    """
    path = _FOLDER / f"{name}.json"
    if not path.is_file():
        there = sorted(path.stem for path in _FOLDER.glob("*.json"))
        raise ValueError(f"There is no network {name!r}: there are {there}.")
    return json.loads(path.read_text())


def path(name: str) -> pathlib.Path:
    """Returns the file of a network's weights, such as `mobile_face_net_ms1m`.

    Raises:
      ValueError: if there is none of that name, or its file is not the card's.
    """
    file, expected = _FOLDER / f"{name}.npz", card(name)["sha256"]
    if hashlib.sha256(file.read_bytes()).hexdigest() != expected:
        raise ValueError(f"{file} is not the file of its card: install mijax again.")
    return file
