"""Generators of public images that attacks search, and where the shipped ones are.

Each shipped prior is `NAME.npz` (weights) beside `NAME.json`, its card: data, command,
commit, sha256, licence and sizes. `python -m experiments.train_prior` re-makes it.
"""

import hashlib
import json
import pathlib
from typing import Any

from mijax.core import Prior
from mijax.models import weights
from mijax.models.dcgan import Critic, Generator

_FOLDER = pathlib.Path(__file__).parent


def available() -> tuple[str, ...]:
    """The names of the priors that ship with mijax."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def card(name: str) -> dict[str, Any]:
    """Returns a shipped prior's card.

    Raises:
      ValueError: if there is no prior of that name.
    """
    path = _FOLDER / f"{name}.json"
    if not path.is_file():
        raise ValueError(f"There is no prior {name!r}: there are {available()}.")
    return json.loads(path.read_text())


def load(name: str) -> Prior:
    """Loads a shipped prior, `faces64` or `digits32`.

    Raises:
      ValueError: if there is none of that name, or its file is not the card's.
    """
    about = card(name)
    path = _FOLDER / f"{name}.npz"
    if hashlib.sha256(path.read_bytes()).hexdigest() != about["sha256"]:
        raise ValueError(
            f"{path} is not the file of its card: install mijax again, or re-make it "
            f"with: {about['command']}"
        )
    return read(path, about["networks"])


def networks(sizes: dict[str, Any]) -> tuple[Generator, Critic, int]:
    """Returns the generator and critic of a card's sizes, and the latent size."""
    image_size, kernel_size = sizes["image_size"], sizes["kernel_size"]
    generator = Generator(
        image_size, sizes["channels"], sizes["generator_width"], kernel_size
    )
    critic = Critic(image_size, sizes["critic_width"], kernel_size)
    return generator, critic, sizes["latent_size"]


def read(path: pathlib.Path, sizes: dict[str, Any]) -> Prior:
    """Reads a prior's weights, as `write` made them, of networks of these sizes.

    Raises:
      ValueError: if the file is damaged or of other networks.
    """
    generator, critic, latent_size = networks(sizes)
    image = generator.image_size, generator.image_size, generator.channels
    like = {
        "generator": weights.shapes(generator, (latent_size,)),
        "critic": weights.shapes(critic, image),
    }
    variables = weights.load(path, like, f"a DCGAN of {sizes}")
    return Prior.from_linen(
        generator, variables["generator"], critic, variables["critic"], latent_size
    )


def write(path: pathlib.Path, prior: Prior) -> str:
    """Writes the generator and the critic in half precision.

    Returns:
      The file's sha256.
    """
    variables = {"generator": prior.generator, "critic": prior.critic}
    weights.save(path, variables, dtype="float16")
    return hashlib.sha256(path.read_bytes()).hexdigest()
