"""Public faces and what a public network says of them: what small networks learn from.

The people have fewer than 10 images each. Those with 20 or more are private, and those
between are left to choose an attack's settings by.
"""

import hashlib
import json
import pathlib
import shutil
from typing import Any

import numpy as np

from experiments.harness import cache, report
from experiments.harness import flags as common
from experiments.harness import run as harness
from mijax import data, fine_tuning, pretrained
from mijax.data import roles
from mijax.models import mobile_face_net_ms1m


def faces(dataset: str | None, data_dir: str | None) -> tuple[np.ndarray, str]:
    """Returns the images of seldom seen public people, and the name of their prior.

    Raises:
      ValueError: if the data hold no public people.
    """
    world = roles.faces(dataset, harness.data_folder(data_dir))
    if world.public is None or world.prior is None:
        raise ValueError(
            f"{world.name} holds no public people to learn from: give --dataset=lfw64."
        )
    public = data.by_count(world.public, at_least=world.enough).public
    return public.images, world.prior


def embedded(workdir: pathlib.Path, images: np.ndarray) -> np.ndarray:
    """Their embeddings by MS-Celeb-1M's MobileFaceNet, kept by the images' hash."""
    teacher, frozen = mobile_face_net_ms1m.embed, mobile_face_net_ms1m.load()
    return cache.once(
        workdir,
        name="taught",
        inputs=(frozen, images),
        compute=lambda: fine_tuning.embeddings(teacher, frozen, images),
    )


def write_card(path: pathlib.Path, experiment: str, install: bool, **card: Any) -> None:
    """Writes the card of a file of weights, and copies both into the package if asked.

    Args:
      path: of the weights.
      experiment: that made them.
      install: whether to copy.
      **card: what the network is, its data, license and accuracy.
    """
    card |= {
        "command": common.command(experiment),
        "commit": report.commit(),
        "versions": report.versions(),
        "device": report.device(),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    if install:
        package = pathlib.Path(pretrained.__file__).parent
        for file in (path, path.with_suffix(".json")):
            shutil.copy(file, package / file.name)
    print(f"wrote {path} and its card", flush=True)
