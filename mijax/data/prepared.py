"""Data sets that TFDS prepares once and reads afterwards, without TensorFlow.

TFDS writes array_record files below `cache()`; its parquet writer drops most records.
Reading these takes no longer than reading the original files, so no decoded copy is
kept.
"""

import contextlib
import difflib
import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mijax.data.dataset import Dataset
from mijax.data.images import check_size, decode_all

OWN = ("att_faces", "cifar10_jpeg75", "lfw64", "mnist5k")


def cache() -> Path:
    """Returns the folder of prepared data: MIJAX_CACHE, else ~/.cache/mijax.

    Raises:
      ValueError: if there is neither MIJAX_CACHE nor a home.
    """
    try:
        return Path(os.environ.get("MIJAX_CACHE", "~/.cache/mijax")).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"There is no folder for prepared data ({error}): set MIJAX_CACHE to one."
        ) from None


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    split: str | None,
    size: int | None,
    download: bool,
) -> Dataset:
    """Loads a data set by its TFDS name; arguments as `mijax.data.load`."""
    check_size(size)
    import tensorflow_datasets as tfds

    _check_known(name, tfds)
    folder = cache() / "manual" if data_dir is None else Path(data_dir).expanduser()
    if name not in OWN and (folder / name.split("/")[0]).is_dir():
        folder = folder / name.split("/")[0]
    builder = _prepare(name, folder, download, tfds)

    features = builder.info.features
    if not {"image", "label"} <= set(features):
        raise ValueError(
            f"{name} has the features {', '.join(sorted(features))}, but an image "
            "classification data set needs image and label"
        )
    source = builder.as_data_source(
        split=split or "+".join(builder.info.splits),
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    records = source.__getitems__(range(len(source)))
    if not records:
        raise ValueError(f"split {split} of {name} is empty")
    images = decode_all(
        ((f"{name}[{i}]", record["image"]) for i, record in enumerate(records)), size
    )
    labels = np.array([record["label"] for record in records])
    if isinstance(features["label"], tfds.features.ClassLabel):
        names = features["label"].names
    else:
        people, labels = np.unique(labels.astype(bytes), return_inverse=True)
        names = [person.decode() for person in people]
    return Dataset(name, images, labels.astype(np.int32), tuple(names))


def _check_known(name: str, tfds: Any) -> None:
    # TFDS knows them once imported.
    from mijax.data import att_faces, cifar10_jpeg75, lfw64, mnist5k

    del att_faces, cifar10_jpeg75, lfw64, mnist5k
    known = tfds.list_builders(with_community_datasets=False)
    base = name.split("/")[0]
    if base not in known:
        close = difflib.get_close_matches(base, known)
        raise ValueError(
            f"no data set is called {name!r}; known are {', '.join(OWN)}, "
            "image_folder:PATH and the names of tensorflow-datasets, such as "
            f"{', '.join(close or ('mnist', 'cifar10', 'lfw'))} "
            "(all: tensorflow_datasets.list_builders())"
        )


def _prepare(name: str, folder: Path, download: bool, tfds: Any) -> Any:
    root = cache()
    root.mkdir(parents=True, exist_ok=True)
    with _lock(root / "lock"):
        builder = tfds.builder(
            name, data_dir=root / "prepared", file_format="array_record"
        )
        if builder.data_path.exists():
            return builder
        from mijax.data import gfile

        gfile.install()
        if not download:
            _forbid_downloads(builder, folder)
        if not sys.stderr.isatty():
            tfds.disable_progress_bar()
        # A folder of its own: TFDS would take what another data set left under the
        # same file name (MNIST and Fashion-MNIST) for this one's.
        with tempfile.TemporaryDirectory(dir=root) as extracted:
            config = tfds.download.DownloadConfig(
                extract_dir=extracted, manual_dir=folder
            )
            try:
                builder.download_and_prepare(
                    download_dir=root / "downloads", download_config=config
                )
            except FileNotFoundError as error:
                raise FileNotFoundError(
                    f"{name} is not prepared: {error}. {_remedy(builder, folder)}"
                ) from error
            except Exception as error:
                # TFDS raises these as bare Exception and AssertionError.
                if "checksum" in str(error):
                    raise ValueError(
                        f"a file of {name} in {folder} is damaged: {error}"
                    ) from error
                if isinstance(error, AssertionError) and "Manual" in str(error):
                    raise FileNotFoundError(
                        f"{name} is not prepared: {_remedy(builder, folder)}"
                    ) from error
                raise
        return builder


def _remedy(builder: Any, folder: Path) -> str:
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    where = f"The folder for it is {folder} (data_dir)."
    return f"{where} {instructions}" if instructions else where


def _forbid_downloads(builder: Any, folder: Path) -> None:
    """Makes `builder` raise where it would reach for the network."""
    make_manager = builder._make_download_manager

    def make_offline_manager(**arguments: Any) -> Any:
        manager = make_manager(**arguments)

        def missing(resource: Any) -> None:
            info = manager._url_infos.get(resource.url)
            file = (info and info.filename) or resource.url.rsplit("/", 1)[-1]
            raise FileNotFoundError(
                f"{folder / file} is missing: put it there (from {resource.url}), "
                "or pass download=True"
            )

        manager._download = missing
        return manager

    builder._make_download_manager = make_offline_manager


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Lets one process at a time prepare data; the others find it prepared."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
