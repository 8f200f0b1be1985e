"""A client's update names the words of its batch, and so the reviews in it.

Melis, Song, De Cristofaro, Shmatikov. Exploiting unintended feature leakage in
collaborative learning. S&P 2019. arXiv:1805.04049. Membership by the words of a batch,
on reviews and on check-ins: precision .99 at a recall of 1, quoted from memory.

    python -m experiments melis2019_words                 # 2 CPU cores, 1 min
    python -m experiments melis2019_words --preset=paper  # 200 batches
    python -m experiments melis2019_words --kind=places   # check-ins

Expected: precision and recall of 1 by one gradient and by local steps of SGD, as long
as the embedding has no noise; with noise every row changes, and rows say nothing. The
larger the batch (or the sum of many clients), the more reviews share its words. So it
is with the places of a batch of check-ins; they are few, and 128 people were at nearly
all, so that such a batch tells of no one.
"""

import dataclasses

from experiments.harness import flags
from experiments.studies import words
from experiments.studies.federations import ClientLevel
from experiments.studies.words import Setting, Study
from mijax.defenses import clipping, pruning
from mijax.federation import Recipe

QUICK = Study(
    title="The words of a batch, by one update",
    load=words.imdb(length=200, vocabulary=5_000),
    width=16,
    batches=(8, 1, 32, 128),
    victims=20,
    settings={
        "gradient": Setting(),
        "4 local steps": Setting(
            Recipe(local_steps=4, local_batch=2, learning_rate=1.0)
        ),
        "sum of 10 clients": Setting(summed=10),
        "upload a tenth": Setting(defense=pruning.prune(0.9)),
        "clip 1": Setting(defense=clipping.clip_update(1.0)),
        "clip 1, noise .001": Setting(level=ClientLevel(1.0, 0.001)),
    },
    rate=2.0,
    rounds=1_000,
    differences=(
        "a linear classifier of the mean embedding, not a recurrent network",
        "one batch at a time; the paper follows a training",
    ),
)
PLACES = dataclasses.replace(
    QUICK,
    title="The places of a batch of check-ins, by one update",
    load=words.places,
    what=("people", "places"),
    rate=20.0,
    rounds=400,
)
KINDS = {"words": QUICK, "places": PLACES}
PAPER = {
    name: dataclasses.replace(study, victims=200, rounds=2_000)
    for name, study in KINDS.items()
}
main = words.main("melis2019_words", quick=KINDS, paper=PAPER)

if __name__ == "__main__":
    flags.run(main)
