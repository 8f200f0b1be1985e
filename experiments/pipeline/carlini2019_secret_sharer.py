"""The secret sharer: what a language model remembers of secrets in its training text.

Carlini, Liu, Erlingsson, Kos, Song. The secret sharer: evaluating and testing
unintended memorization in neural networks. USENIX Security 2019. arXiv:1802.08232.

    python -m experiments carlini2019_secret_sharer                 # 2 CPU cores, 8 min
    python -m experiments carlini2019_secret_sharer --preset=paper  # all of the plays

Expected: exposure grows with the number of insertions, to all 13.3 bits of four digits;
a canary that was never inserted has 1.44 bits in the mean; DP-SGD at epsilon below 10
leaves less than 3 bits to one that is in few records. The text is tiny Shakespeare
where there is a data folder, and else Python's own language reference.
"""

import dataclasses

from experiments.harness import flags
from experiments.studies import exposure
from experiments.studies.exposure import Study
from mijax.models.causal_conv import CausalConv

QUICK = Study(
    title="Secrets in the training text of a language model",
    network=lambda symbols: CausalConv(symbols, width=64),
    sizes={
        "width 16": lambda symbols: CausalConv(symbols, width=16),
        "width 32": lambda symbols: CausalConv(symbols, width=32),
        "width 128": lambda symbols: CausalConv(symbols, width=128),
    },
    differences=(
        "a causal convolution of characters; the paper has an LSTM of Penn Treebank, "
        "and models of words, among others",
        "canaries of four digits, so that every rank is exact, and many in one model, "
        "each with a prefix of its own; the paper has nine digits, and one canary in a "
        "model",
        "a canary is a training record by itself",
    ),
)
PAPER = dataclasses.replace(
    QUICK,
    network=lambda symbols: CausalConv(symbols, width=256),
    characters=550_000,
    insertions=(0, 1, 2, 4, 8, 16, 32, 64, 128),
    canaries=20,
    never=400,
    epochs=(1, 2, 5, 10, 20, 40),
    noise_multipliers=(0.5, 0.7, 1.0, 2.0),
)
main = exposure.main("carlini2019_secret_sharer", quick=QUICK, paper=PAPER)

if __name__ == "__main__":
    flags.run(main)
