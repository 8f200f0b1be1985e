"""PPA: recovers faces of a classifier that was fine-tuned from a public face network.

Struppek, Hintersdorf, De Almeida Correia, Adler, Kersting. Plug & play attacks. ICML
2022. arXiv:2201.12179. Through StyleGAN2 an evaluator names up to 92 % of CelebA's
people (as cited in the literature, not checked against the PDF).

    python -m experiments struppek2022_ppa                      # 2 CPU cores, 5 min
    python -m experiments struppek2022_ppa --kind=direct        # through the target
    python -m experiments struppek2022_ppa --kind=rehearsal     # on public people
    python -m experiments struppek2022_ppa --kind=from_scratch  # and others
    python -m experiments struppek2022_ppa --preset=paper       # everyone, for a GPU

The target is MobileFaceNet of MS-Celeb-1M, frozen, with a linear head of Labeled Faces
in the Wild's 62 people with at least 20 images (AT&T's 40 where no file of LFW is at
hand); the prior saw none of them. The head's weights tell a template of each person,
and template inversion sketches the face. The search looks for the template through two
small students of that public network (LOMMA's model augmentation), near the sketch, and
the target selects: cheaper, and more convincing to others. A judge of MobileFaceNet's
design flatters: the verdict is that of dlib's network, from the packages of the extra
`judges`.
"""

import dataclasses

import jax

from experiments.harness import flags
from experiments.studies import inversion
from experiments.studies.inversion import Attack, Study
from experiments.studies.targets import FineTuned, Model, PublicPeople, PublicStudent
from mijax.attacks import ppa, template_inversion
from mijax.attacks.inversion import augmentation, losses
from mijax.data import roles
from mijax.models.face_evolve import FaceEvolve
from mijax.models.resnet import resnet18


def view(key: jax.Array, image: jax.Array) -> jax.Array:
    """A crop of three fifths or more, mirrored and relit at random."""
    crop_key, mirror_key, light_key = jax.random.split(key, 3)
    image = augmentation.resized_crop(crop_key, image, (0.6, 1.0), (0.8, 1.25))
    return augmentation.relit(light_key, augmentation.mirror(mirror_key, image))


# The latent's law is normal: a step of StyleGAN2's, .005, would hardly move it.
_QUICK = ppa.Config(
    samples=2048,
    restarts=2,
    steps=20,
    final_views=8,
    mirrored=False,
    learning_rate=0.05,
    first_decay=0.9,
    second_decay=0.999,
)
# A student's step costs a tenth of the target's: more candidates, more steps. Chosen on
# public people (docs/results/struppek2022_ppa.md), and cut for time.
_THROUGH = dataclasses.replace(
    _QUICK,
    restarts=6,
    steps=40,
    final_views=2,
    on_sphere=True,
    in_turn=True,
    surrogates_alone=True,
    identity_loss=losses.negated_logit,
    sketch_weight=160.0,
    view=view,
)
_DIFFERENCES = (
    "the paper attacks ResNets, ResNeSts and DenseNets of FaceScrub's and CelebA's "
    "people in color through StyleGAN2; here are 62 people in gray, through a "
    "generator of 64x64 pixels",
    "Adam's rate is .05, for latents with a normal law, and its decays are the "
    "usual ones",
    "the public network may have seen these people: the null is the same network "
    "under a head of shuffled labels",
)
STUDENTS = PublicStudent("plain"), PublicStudent("strided")
FINE_TUNED = Study(
    title="PPA",
    data=roles.faces,
    target=FineTuned(),
    evaluator=None,
    judges=inversion.by_faces_of_private,
    attacks={
        "ppa": Attack(ppa, _THROUGH, aggregated=True, students=STUDENTS, sketched=True),
        "template_inversion": Attack(
            template_inversion, template_inversion.Config(contrast=1.5), sketched=True
        ),
    },
    nulls=inversion.NULLS,
    null_rows=("shuffled",),
    victims=30,
    anchors=2048,
    differences=(
        *_DIFFERENCES,
        "students of the target's public network are searched in its place (LOMMA), "
        "latents keep the length of normal ones, and the target selects",
        "the loss is the cosine to a template that the head's weights tell, and the "
        "distance to the sketch of template inversion",
    ),
)
# As in the paper, the target itself is searched.
DIRECT = dataclasses.replace(
    FINE_TUNED,
    attacks={"ppa": Attack(ppa, _QUICK, aggregated=True)},
    differences=_DIFFERENCES,
)


def face_evolve(classes: int) -> FaceEvolve:
    """A network that is small enough for a CPU."""
    return FaceEvolve(classes, 8, (1, 1, 1, 1), 128)


TARGETS = {
    "fine_tuned": FineTuned(),
    "tuned": FineTuned(tuned_steps=60),
    "public_people": PublicPeople(face_evolve),
    "from_scratch": Model(face_evolve),
}
FULL = dataclasses.replace(
    FINE_TUNED,
    evaluator=Model(lambda classes: resnet18(classes, 24, small_images=False)),
    judges=inversion.by_faces,
    attacks={
        **FINE_TUNED.attacks,
        "ppa": dataclasses.replace(
            FINE_TUNED.attacks["ppa"],
            config=dataclasses.replace(
                _THROUGH,
                samples=4096,
                restarts=8,
                steps=60,
                final_views=8,
                in_turn=False,
            ),
        ),
    },
    victims=None,
    anchors=4096,
)
FULL_DIRECT = dataclasses.replace(
    FULL,
    attacks={
        "ppa": Attack(
            ppa,
            dataclasses.replace(
                _QUICK, samples=4096, restarts=4, steps=40, final_views=32
            ),
            aggregated=True,
        )
    },
    differences=_DIFFERENCES,
)


def against_each(study: Study, direct: Study) -> dict[str, Study]:
    """The study of each target; without a public network there are no students."""
    return {
        name: dataclasses.replace(
            study if isinstance(target, FineTuned) else direct, target=target
        )
        for name, target in TARGETS.items()
    } | {
        "direct": direct,
        "rehearsal": dataclasses.replace(study, data=roles.rehearsal_faces),
    }


if __name__ == "__main__":
    flags.run(
        inversion.main(
            "struppek2022_ppa",
            quick=against_each(FINE_TUNED, DIRECT),
            paper=against_each(FULL, FULL_DIRECT),
        )
    )
