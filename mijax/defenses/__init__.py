"""Defenses: what changes at each place where a model meets its data.

A defense is a `Defense`; `chain` composes them, as `optax.chain` does, and `chain()`
is no defense. Each file holds one family; its docstring says what it guarantees. What
trains another model altogether is a trainer: see `mijax.defenses.trainers`.

`ALL` holds every function that makes a `Defense`, `TRAINERS` every trainer. Each
argument of a defense that has no default is a number, of which 1 is a valid value.
"""

from collections.abc import Callable

from mijax.core.defense import Defense, Objective, chain
from mijax.defenses import (
    clipping,
    dp_sgd,
    feature_noise,
    mid,
    noise,
    nopeek,
    output_noise,
    posterior_noise,
    pruning,
    quantization,
    released_weights,
    rounding,
    soteria,
    top_k,
)
from mijax.defenses.trainers import TRAINERS

ALL: tuple[Callable[..., Defense], ...] = (
    clipping.clip_examples,
    dp_sgd.dp_sgd,
    clipping.clip_update,
    noise.gaussian,
    noise.laplace,
    pruning.prune,
    pruning.prune_layers,
    pruning.threshold,
    quantization.sign,
    quantization.stochastic,
    released_weights.round_fraction,
    soteria.soteria,
    rounding.rounding,
    top_k.top_k,
    output_noise.output_noise,
    posterior_noise.posterior_noise,
    mid.mid,
    feature_noise.laplace_features,
    feature_noise.feature_dropout,
    nopeek.nopeek,
)

__all__ = ["ALL", "TRAINERS", "Defense", "Objective", "chain"]
