"""PLG-MI: a conditional generator that the attacked classifier teaches its classes.

Yuan, Chen, Zhang, Zhang, Yu, Zhang. Pseudo label-guided model inversion attack. AAAI
2023. arXiv:2302.09814. CelebA from CelebA: about 99 % top-1 for IR152 (as cited in the
literature, not checked in the PDF).

    python -m experiments yuan2023_plg_mi                  # digits, 2 CPU cores
    python -m experiments yuan2023_plg_mi --kind=faces
    python -m experiments yuan2023_plg_mi --preset=paper   # the paper's steps

Expected of the first: 1-NN in pixels 1.00 (.57 to 1) of 5 classes, .74 (.40 to .92) of
10; without the search .90 and .32, of shuffled labels .12 and 0. About 10 CPU minutes,
half of them for the null's prior.

Beside the attack stand what the conditional generator draws with no search, and GMI
with the same loss through the shipped prior, which no target taught.
"""

import dataclasses
import functools
from typing import Any

import jax

from experiments.harness import flags
from experiments.inversion import zhang2020_gmi
from experiments.studies import inversion
from experiments.studies.inversion import Attack, Study, Taught
from mijax.attacks import gmi, plg_mi
from mijax.attacks.inversion import augmentation, losses


def unmirrored(key: jax.Array, image: jax.Array) -> jax.Array:
    """PLG-MI's view, of what looks another way when mirrored."""
    crop_key, light_key = jax.random.split(key)
    image = augmentation.resized_crop(crop_key, image, (0.8, 1.0))
    return augmentation.relit(light_key, image)


def attacks(
    config: plg_mi.Config, taught: Taught, base: gmi.Config
) -> dict[str, Attack]:
    """PLG-MI; its generator alone; and GMI with PLG-MI's loss."""
    alone = dataclasses.replace(config, steps=0, restarts=1)
    base = dataclasses.replace(base, identity_loss=losses.max_margin)
    return {
        "plg_mi": Attack(plg_mi, config, prior=taught),
        "plg_mi_unsearched": Attack(plg_mi, alone, prior=taught),
        "gmi_max_margin": Attack(gmi, base),
    }


def taught(
    config: plg_mi.PriorConfig, steps: int, top: int, width: int | None = None
) -> Taught:
    """A prior of the shipped one's networks; of other widths it starts anew."""
    sizes: dict[str, Any] = {} if width is None else {"width": width}
    return Taught(
        lambda generator, critic, classes: (
            generator.clone(classes=classes, **sizes),
            critic.clone(classes=classes, **sizes),
        ),
        functools.partial(plg_mi.pseudo_labelled, top=top),
        config,
        steps,
        fresh=width is not None,
    )


def _study(study: Study, which: dict[str, Attack]) -> Study:
    return zhang2020_gmi.variant(
        study,
        "PLG-MI",
        which,
        "networks are DCGANs that start from the shipped prior; the paper's are "
        "residual networks that are trained from nothing for 30,000 steps",
    )


_SMALL = plg_mi.PriorConfig(
    latent_size=100, critic_steps=1, batch_size=32, learning_rate=1e-3, average=0.99
)
_QUICK = plg_mi.Config(steps=100, restarts=1)
DIGITS = _study(
    dataclasses.replace(zhang2020_gmi.DIGITS, repeats=10),
    attacks(
        dataclasses.replace(_QUICK, view=unmirrored),
        taught(dataclasses.replace(_SMALL, view=unmirrored), steps=700, top=300),
        gmi.Config(steps=300, restarts=1),
    ),
)
FACES = _study(
    zhang2020_gmi.FEW_FACES,
    attacks(
        dataclasses.replace(_QUICK, restarts=2),
        taught(dataclasses.replace(_SMALL, batch_size=16), steps=200, top=30),
        gmi.Config(steps=100, restarts=1, learning_rate=0.1),
    ),
)

if __name__ == "__main__":
    flags.run(
        inversion.main(
            "yuan2023_plg_mi",
            quick={"digits": DIGITS, "faces": FACES},
            paper={
                "digits": _study(
                    zhang2020_gmi.PAPER_DIGITS,
                    attacks(
                        plg_mi.Config(view=unmirrored),
                        taught(
                            plg_mi.PriorConfig(view=unmirrored), 30_000, 30, width=64
                        ),
                        gmi.Config(),
                    ),
                ),
                "faces": _study(
                    zhang2020_gmi.PAPER,
                    attacks(
                        plg_mi.Config(),
                        taught(plg_mi.PriorConfig(), 30_000, 30, width=64),
                        gmi.Config(),
                    ),
                ),
            },
        )
    )
