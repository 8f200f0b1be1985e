"""A folder or .zip of `IDENTITY/*.png|jpg|jpeg|pgm`: people bring their own faces."""

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from mijax.data.dataset import Dataset
from mijax.data.images import check_size, decode_all

SUFFIXES = (".png", ".jpg", ".jpeg", ".pgm")


def load(path: str | os.PathLike[str], size: int | None = None) -> Dataset:
    """Loads a folder of images, one folder an identity.

    Args:
      path: a folder or a .zip of `IDENTITY/IMAGE`, possibly inside one top folder.
        Other files and names that begin with a dot are passed over.
      size: crops to the center square of each image and resizes it to this side.

    Returns:
      The images sorted by identity, then by file name.

    Raises:
      FileNotFoundError: there is no such folder or .zip.
      ValueError: an identity is empty, an image lies outside any identity or is
        corrupt, or images differ in size or channels and `size` is None.
    """
    check_size(size)
    identities: list[str] = []

    def encoded() -> Iterator[tuple[str, bytes]]:
        for identity, file, data in read(path):
            identities.append(identity)
            yield file, data

    images = decode_all(encoded(), size)
    names, labels = np.unique(identities, return_inverse=True)
    return Dataset(
        name=Path(path).stem,
        images=images,
        labels=labels.astype(np.int32),
        names=tuple(names.tolist()),
    )


def read(path: str | os.PathLike[str]) -> Iterator[tuple[str, str, bytes]]:
    """Yields `(identity, file, bytes)` of each image, in sorted order.

    The whole tree is checked before the first image is read; see `load`.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        yield from _read(path, _walk(path), lambda file: (path / file).read_bytes())
    elif path.is_file():
        try:
            with zipfile.ZipFile(path) as archive:
                stored = {_plain(name): name for name in archive.namelist()}
                yield from _read(
                    path, list(stored), lambda file: archive.read(stored[file])
                )
        except zipfile.BadZipFile as error:
            raise ValueError(
                f"{path} is neither a folder nor an intact .zip: {error}"
            ) from error
    else:
        raise FileNotFoundError(
            f"{path} does not exist: put a folder or .zip of IDENTITY/IMAGE there"
        )


def _plain(name: str) -> str:
    """A name in a .zip that may have been made on Windows, or of a folder `.`."""
    plain = name.replace("\\", "/")
    while plain.startswith("./"):
        plain = plain[2:]
    return plain


def _walk(root: Path) -> list[str]:
    """Lists a tree as a .zip does: relative names, folders with a last slash.

    Raises:
      ValueError: if a link leads nowhere, or back to a folder that it is in.
    """
    names = []
    for folder, folders, files in os.walk(root, followlinks=True):
        above = Path(folder).resolve()
        for name in [*folders, *files]:
            link = Path(folder) / name
            if link.is_symlink() and not name.startswith("."):
                leads = Path(os.path.realpath(link))
                if not leads.exists():
                    raise ValueError(
                        f"{link} is a link to {leads}, where nothing is: mend or "
                        "remove it"
                    )
                if leads == above or leads in above.parents:
                    raise ValueError(
                        f"{link} is a link back to {leads}, which it is in: remove it"
                    )
        relative = Path(folder).relative_to(root)
        names += [f"{(relative / name).as_posix()}/" for name in folders]
        names += [(relative / name).as_posix() for name in files]
    return names


def _read(
    root: Path, names: list[str], read_bytes: Callable[[str], bytes]
) -> Iterator[tuple[str, str, bytes]]:
    for identity, files in _identities(root, names):
        for file in files:
            try:
                data = read_bytes(file)
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
                raise ValueError(
                    f"{root}/{file} cannot be read ({error}): replace or remove it"
                ) from error
            yield identity, f"{root}/{file}", data


def _identities(root: Path, names: list[str]) -> list[tuple[str, list[str]]]:
    visible = [
        name
        for name in names
        if not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    ]
    images = [
        name for name in visible if PurePosixPath(name).suffix.lower() in SUFFIXES
    ]
    if not images and not any("/" in name for name in visible):
        raise ValueError(
            f"{root} holds no images: it needs IDENTITY/IMAGE with images of "
            f"{', '.join(SUFFIXES)}"
        )
    tops = {name.split("/")[0] for name in visible if "/" in name}
    nested = len(tops) == 1 and all(name.count("/") == 2 for name in images)
    prefix = f"{tops.pop()}/" if images and nested else ""

    files: dict[str, list[str]] = {}
    for name in visible:
        identity, slash, _ = name.removeprefix(prefix).partition("/")
        if name.startswith(prefix) and slash and identity:
            files.setdefault(identity, [])
    for name in images:
        identity, _, file = name.removeprefix(prefix).partition("/")
        if not file or "/" in file:
            raise ValueError(
                f"{root}/{name} is not in an identity's folder: move it to "
                "IDENTITY/IMAGE"
            )
        files[identity].append(name)
    for identity, own in files.items():
        if not own:
            raise ValueError(
                f"{root}/{prefix}{identity} holds no image ({', '.join(SUFFIXES)}): "
                "add one or remove the folder"
            )
    return [(identity, sorted(files[identity])) for identity in sorted(files)]
