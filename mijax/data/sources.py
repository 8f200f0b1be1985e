"""Where a data set's files are looked for, and the check that they are the ones."""

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def manual_folder(dl_manager: "tfds.download.DownloadManager") -> Path | None:
    """Returns the folder the user put files in, or None if it is empty or absent."""
    try:
        return Path(dl_manager.manual_dir)
    except AssertionError:  # how TFDS says "empty or absent"
        return None


def first_existing(*candidates: Path | None) -> Path | None:
    """Returns the first of some paths that exists, or None."""
    return next((path for path in candidates if path and path.exists()), None)


def package_path(package: str, *parts: str) -> Path | None:
    """Returns a path inside an installed package, which is not imported, or None."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], *parts)


def check_sha256(source: str | os.PathLike[str], found: str, expected: str) -> None:
    """Refuses data that is not bit for bit what a builder was written for."""
    if found != expected:
        raise ValueError(
            f"{source} is not the expected data: sha256 {found}, "
            f"not {expected}; fetch it again"
        )
