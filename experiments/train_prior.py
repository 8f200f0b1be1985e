"""Trains a generator of public images and its critic: the prior that GMI searches.

Paper: Zhang et al., The secret revealer, CVPR 2020 (arXiv:1911.07135), stage one: a
DCGAN trained as WGAN-GP (arXiv:1704.00028).

    python -m experiments.train_prior --kind=faces --data_dir=DIR   # about 75 minutes
    python -m experiments.train_prior --kind=digits --data_dir=DIR  # about 15 minutes

on one CPU core. `--preset=quick` is what ships with mijax: a network of half the
paper's width, one critic step a generator step (Karras et al. 2018, arXiv:1710.10196,
trained so) in place of five; `--preset=paper` has the paper's sizes, for a GPU.
`--loss=vae_gan` trains the generator as a VAE-GAN (arXiv:1512.09300) of 256 latents: it
reaches given faces, its random samples are worse (docs/results/struppek2022_ppa.md).

Leaves in `--workdir`: `samples/*.png` (the same 64 latents each time, none chosen),
`monitor.csv` (Frechet distance of 2,000 samples, in the feature space it names),
`NAME.npz` and its card `NAME.json`. With `--install` both are copied into the package.
"""

import csv
import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import flags

import mijax.priors
from experiments.harness import figures, report, resumable
from experiments.harness import flags as common
from experiments.harness import run as harness
from mijax.core import Prior
from mijax.data import roles
from mijax.metrics.distribution import frechet_distance
from mijax.models import mobile_face_net
from mijax.priors import vae_gan, wgan_gp

_KIND = flags.DEFINE_enum("kind", "faces", ["faces", "digits"], "What to generate.")
_LOSS = flags.DEFINE_enum("loss", "wgan_gp", ["wgan_gp", "vae_gan"], "What trains it.")
_STEPS = flags.DEFINE_integer("steps", None, "Generator steps; default: the preset's.")
_WIDTH = flags.DEFINE_integer("width", None, "Channels before the last layer.")
_EVERY = flags.DEFINE_integer("monitor_every", 1000, "Steps between samples.")
_INSTALL = flags.DEFINE_bool("install", False, "Copy the prior into the package.")
common.common("train_prior", dataset=None)
_CONFIGS = {
    "wgan_gp": common.from_config(wgan_gp.Config(), "wgan_gp"),
    "vae_gan": common.from_config(vae_gan.Config(), "vae_gan"),
}

_QUICK = wgan_gp.Config(
    critic_steps=1,
    batch_size=32,
    penalty_examples=16,
    learning_rate=2e-4,
    critic_learning_rate=4e-4,
    momentum=0.0,
    second_momentum=0.99,
)
_VAE_GAN = vae_gan.Config(
    batch_size=16,
    coded=8,
    critic_learning_rate=4e-4,
    momentum=0.0,
    second_momentum=0.99,
)
_PRESETS = {  # config by loss, width, kernel, steps by kind
    "quick": (
        {"wgan_gp": _QUICK, "vae_gan": _VAE_GAN},
        32,
        4,
        {"faces": 10_600, "digits": 6_000},
    ),
    "paper": (
        {"wgan_gp": wgan_gp.Config(), "vae_gan": vae_gan.Config()},
        64,
        5,
        {"faces": 45_000, "digits": 48_000},
    ),
}
_SHOWN = 64
_JUDGED = 2000


def main() -> None:
    """Trains, monitors and writes the prior."""
    values = flags.FLAGS
    workdir = report.prepare_workdir(values.workdir)
    configs, width, kernel_size, steps = _PRESETS[values.preset]
    config = _CONFIGS[_LOSS.value](configs[_LOSS.value])
    steps = steps[_KIND.value] if _STEPS.value is None else _STEPS.value
    if steps < 1 or _EVERY.value < 1:
        raise ValueError(
            f"--steps={steps} --monitor_every={_EVERY.value}: both must be 1 or more."
        )
    data_dir = harness.data_folder(values.data_dir)
    if _KIND.value == "faces":
        world = roles.faces(values.dataset, data_dir)
    else:
        world = roles.digits(values.dataset, data_dir, split=None)
    if world.public is None:
        raise ValueError(
            f"{world.name} holds no public people to learn from: give --dataset=lfw64."
        )
    config = dataclasses.replace(config, mirror=world.mirror)
    images = world.public.images
    sizes = {
        "image_size": images.shape[1],
        "channels": images.shape[3],
        "latent_size": config.latent_size,
        "generator_width": _WIDTH.value or width,
        "critic_width": _WIDTH.value or width,
        "kernel_size": kernel_size,
    }
    generator, critic, _ = mijax.priors.networks(sizes)
    init_key, fit_key = jax.random.split(jax.random.key(values.seed))
    folder = workdir / "checkpoints"
    if not values.resume:
        shutil.rmtree(folder, ignore_errors=True)
        (workdir / "monitor.csv").unlink(missing_ok=True)

    if _LOSS.value == "vae_gan":
        encoder = vae_gan.encoder(images, config.latent_size, config.mirror)
        training = vae_gan.training(generator, critic, encoder, config)
    else:
        training = wgan_gp.training(generator, critic, config)
    monitor = _monitor(workdir, world)
    state = resumable.train(
        fit_key,
        training.init(init_key),
        training.step,
        images,
        name=f"prior of {_KIND.value}",
        folder=folder,
        batch_size=config.batch_size * config.critic_steps,
        steps=steps,
        after_chunk=lambda done, state: (
            monitor(done, training.finish(state))
            if done % _EVERY.value == 0 or done == steps
            else None
        ),
    )
    _finish(workdir, world, training.finish(state), config, sizes, steps)


def _monitor(workdir: pathlib.Path, world: roles.World) -> Callable[[int, Prior], None]:
    """Returns what draws samples and measures them after a chunk of training."""
    assert world.public is not None
    keys = jax.random.split(jax.random.key(9))
    draw = jax.jit(Prior.images)
    space, features = _features(world)
    order = np.random.default_rng(0).permutation(len(world.public.images))
    real = features(world.public.images[order[:_JUDGED]])
    others = features(world.public.images[order[_JUDGED : 2 * _JUDGED]])
    # What real images would get: the least that a generator can hope for.
    floor = frechet_distance(real, others) if len(others) == _JUDGED else float("nan")
    (workdir / "samples").mkdir(exist_ok=True)

    def measure(done: int, prior: Prior) -> None:
        shown = np.asarray(draw(prior, prior.sample(keys[0], _SHOWN)))
        rows = [("", shown[i : i + 8]) for i in range(0, _SHOWN, 8)]
        figures.image_grid(rows, workdir / "samples" / f"{done:06d}.png", tile=64)
        fake = np.concatenate(
            [
                draw(prior, part)
                for part in np.split(np.asarray(prior.sample(keys[1], _JUDGED)), 20)
            ]
        )
        distance = frechet_distance(real, features(fake))
        with (workdir / "monitor.csv").open("a", newline="") as file:
            csv.writer(file).writerow([done, space, distance, floor])
        print(
            f"\nstep {done:,}: Frechet distance {distance:.4g} in {space}", flush=True
        )

    return measure


def _features(world: roles.World) -> tuple[str, Callable[[Any], np.ndarray]]:
    """The feature space of the monitor, and images -> features `[N, F]`."""
    folder = harness.data_folder(flags.FLAGS.data_dir)
    path = pathlib.Path(folder or ".") / "weights" / "mobilefacenet.npz"
    if world.prior == "faces64" and path.is_file():
        embed = jax.jit(mobile_face_net.embed)
        variables = mobile_face_net.load(path)
        space = "MobileFaceNet embeddings"
        function = lambda x: embed(variables, x)
    else:
        # A fixed random projection: crude, but it needs no network of anyone's.
        size = int(np.prod(world.private.images.shape[1:]))
        matrix = np.random.default_rng(0).normal(size=(size, 64)) / np.sqrt(size)
        space = "64 random projections of pixels"
        function = lambda x: np.asarray(x).reshape(len(x), -1) @ matrix
    batches = lambda x: np.array_split(np.asarray(x), max(len(x) // 100, 1))
    return space, lambda x: np.concatenate([function(b) for b in batches(x)])


def _finish(
    workdir: pathlib.Path,
    world: roles.World,
    prior: Prior,
    config: Any,
    sizes: dict[str, Any],
    steps: int,
) -> None:
    """Writes the weights and the card."""
    assert world.public is not None
    path = workdir / f"{world.prior}.npz"
    with (workdir / "monitor.csv").open() as file:
        *_, (_, space, distance, floor) = csv.reader(file)
    card = {
        "what": f"DCGAN generator (averaged) and critic of {_KIND.value}, "
        f"trained as {_LOSS.value}",
        "data": f"the public part of {world.public.name}: {len(world.public):,} images "
        f"of {len(world.public.names):,} classes, none of them private",
        "licence": "weights: Apache-2.0; the images are not part of them",
        "command": common.command("train_prior"),
        "commit": report.commit(),
        "versions": report.versions(),
        "device": report.device(),
        "steps": steps,
        "config": {f.name: getattr(config, f.name) for f in dataclasses.fields(config)},
        "networks": sizes,
        "frechet_distance": {
            "value": float(distance),
            "real_against_real": float(floor) if np.isfinite(float(floor)) else None,
            "space": space,
            "n": _JUDGED,
        },
        "sha256": mijax.priors.write(path, prior),
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    if _INSTALL.value:
        package = pathlib.Path(mijax.priors.__file__).parent
        for file in (path, path.with_suffix(".json")):
            shutil.copy(file, package / file.name)
    print(f"wrote {path} and its card", flush=True)


if __name__ == "__main__":
    common.run(main)
