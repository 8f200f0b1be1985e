"""Peers that are timed against, where they are installed; mijax needs none of them."""

import importlib
from typing import Any


def required(module: str, install: str) -> Any:
    """Imports a peer, or ends the benchmark with the command that installs it."""
    if (found := optional(module)) is None:
        raise SystemExit(
            f"This benchmark compares with {module}, which is not installed: {install}."
            " (python -m benchmarks.convolution needs no peer.)"
        )
    return found


def optional(module: str) -> Any:
    """Imports a peer, or returns None where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None
