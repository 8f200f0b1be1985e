"""What every defense promises, asked of all of them in the same way."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import methods_table
from mijax import defenses, federation
from mijax.core import Prediction, Target
from mijax.defenses import (
    chain,
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

KEY = jax.random.key(0)
INFINITE = (float("nan"), float("inf"))
NEGATIVE = (-1.0, *INFINITE)
SHARES = (-0.1, 1.5, *INFINITE)


class Case(NamedTuple):
    """A defense over its strength.

    Attributes:
      make: from a strength.
      strengths: two that differ in what is released.
      bad: strengths that are refused.
      name: of the strength, as the refusal says it.
    """

    make: Callable
    strengths: tuple[float, float]
    bad: tuple[float, ...]
    name: str


CASES = {
    "clip_examples": Case(
        clipping.clip_examples, (0.1, 0.2), (0.0, *NEGATIVE), "clipping norm"
    ),
    "clip_update": Case(
        clipping.clip_update, (0.1, 0.2), (0.0, *NEGATIVE), "clipping norm"
    ),
    "dp_sgd": Case(
        lambda multiplier: dp_sgd.dp_sgd(0.1, multiplier, 2),
        (1.0, 2.0),
        NEGATIVE,
        "noise_multiplier",
    ),
    "gaussian": Case(noise.gaussian, (0.1, 0.2), NEGATIVE, "deviation"),
    "laplace": Case(noise.laplace, (0.1, 0.2), NEGATIVE, "scale"),
    "prune": Case(pruning.prune, (0.2, 0.7), SHARES, "pruning rate"),
    "prune_layers": Case(pruning.prune_layers, (0.2, 0.7), SHARES, "pruning rate"),
    "threshold": Case(pruning.threshold, (1e-2, 1e-1), NEGATIVE, "threshold"),
    "sign": Case(lambda _: quantization.sign(), (1.0, 1.0), (), ""),
    "stochastic": Case(quantization.stochastic, (1.0, 3.0), (0.0, *NEGATIVE), "levels"),
    "round_fraction": Case(
        released_weights.round_fraction, (2.0, 1.0), NEGATIVE, "number of bits"
    ),
    "soteria": Case(soteria.soteria, (0.2, 0.7), SHARES, "Soteria's rate"),
    "rounding": Case(rounding.rounding, (0.05, 0.3), SHARES, "rounding step"),
    "top_k": Case(top_k.top_k, (1.0, 2.0), (0.5, *NEGATIVE), "number of classes"),
    "output_noise": Case(
        lambda deviation: output_noise.output_noise(KEY, deviation),
        (0.1, 0.2),
        (0.0, *NEGATIVE),
        "deviation",
    ),
    "posterior_noise": Case(
        lambda deviation: posterior_noise.posterior_noise(KEY, deviation),
        (0.05, 0.1),
        NEGATIVE,
        "deviation",
    ),
    "mid": Case(mid.mid, (0.1, 0.2), NEGATIVE, "MID's weight"),
    "laplace_features": Case(
        lambda scale: feature_noise.laplace_features(KEY, scale),
        (0.1, 0.2),
        NEGATIVE,
        "scale",
    ),
    "feature_dropout": Case(
        lambda rate: feature_noise.feature_dropout(KEY, rate),
        (0.2, 0.7),
        SHARES,
        "features dropped",
    ),
    "nopeek": Case(nopeek.nopeek, (0.1, 0.2), NEGATIVE, "NoPeek's weight"),
}
RANDOM = {"dp_sgd", "gaussian", "laplace", "stochastic"}
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
FEATURES = jnp.asarray(np.random.default_rng(1).normal(size=(4, 20)), jnp.float32)
SCORES = jnp.array([[0.014, 0.126, 0.86], [0.32, 0.33, 0.35]])


def network(weights, x):
    """A dense layer of six features, and another of three classes."""
    features = jnp.tanh(x.reshape(len(x), -1) @ weights["features"]["kernel"])
    return Prediction(features @ weights["logits"]["kernel"], features)


def batch():
    """A target, and two clients of two examples each."""
    rng = np.random.default_rng(0)
    drawn = {"features": (4, 6), "logits": (6, 3)}
    weights = {
        name: {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32)}
        for name, shape in drawn.items()
    }
    x = jnp.asarray(rng.uniform(size=(2, 2, 2, 2, 1)), jnp.float32)
    target = Target.from_function(network, weights, (2, 2, 1))
    return target, x, jnp.array([[0, 1], [2, 2]])


def released(key, defense):
    """What leaves the client, or the model, through a defense."""
    shared = federation.share(key, federation.Recipe(), *batch(), defense)
    scores = SCORES if defense.output is None else defense.output(SCORES)
    sent = FEATURES if defense.feature is None else defense.feature(FEATURES)
    penalty = defense.dependence
    added = 0.0 if penalty is None else penalty(FEATURES[:, :4], sent)
    return {
        "shared": shared.change,
        "scores": scores,
        "sent": sent,
        "added": jnp.asarray(added),
    }


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_every_defense_is_asked():
    assert [make.__name__ for make in defenses.ALL] == sorted(
        CASES, key=[make.__name__ for make in defenses.ALL].index
    )


@EVERY
def test_one_program_serves_every_strength_and_key(case, request):
    traces = []

    @jax.jit
    def compiled(key, defense):
        traces.append(1)
        return released(key, defense)

    weak, strong = (case.make(strength) for strength in case.strengths)
    first = compiled(KEY, weak)
    np.testing.assert_array_equal(flat(compiled(KEY, weak)), flat(first))
    second = compiled(KEY, strong)
    other = compiled(jax.random.key(1), weak)
    assert len(traces) == 1
    name = request.node.callspec.id
    assert np.array_equal(flat(second), flat(first)) == (name == "sign")
    assert np.array_equal(flat(other), flat(first)) == (name not in RANDOM)

    undefended = flat(compiled(KEY, chain()))
    assert not np.allclose(flat(first), undefended, rtol=1e-3)

    np.testing.assert_allclose(
        flat(released(KEY, weak)), flat(first), rtol=1e-4, atol=1e-6
    )
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), weak, strong)
    swept = jax.jit(jax.vmap(released, (None, 0), axis_size=2))(KEY, stacked)
    for i, alone in enumerate((first, second)):
        np.testing.assert_allclose(
            flat(jax.tree.map(lambda leaf, i=i: leaf[i], swept)),
            flat(alone),
            rtol=1e-4,
            atol=1e-6,
        )


@EVERY
def test_chained_with_nothing_it_is_itself(case):
    defense = case.make(case.strengths[0])
    for chained in (
        chain(defense),
        chain(chain(), defense),
        chain(defense, chain()),
    ):
        assert jax.tree.structure(chained) == jax.tree.structure(defense)
        for leaf, same in zip(
            jax.tree.leaves(chained), jax.tree.leaves(defense), strict=True
        ):
            assert leaf is same


@EVERY
def test_a_bad_strength_is_refused_by_name(case):
    for strength in case.bad:
        with pytest.raises(ValueError, match=f"{case.name} is {strength}: it must be"):
            case.make(strength)


@pytest.mark.parametrize(
    "function", [*defenses.ALL, *defenses.TRAINERS], ids=lambda f: f.__name__
)
def test_says_what_it_guarantees_and_cites(function):
    assert methods_table.guarantee(function)
    assert methods_table.papers(function)
    assert "Raises:" in function.__doc__ or not inspect.signature(function).parameters


@pytest.mark.parametrize("train", defenses.TRAINERS, ids=lambda f: f.__name__)
def test_a_trainer_follows_the_convention(train):
    assert train.__module__ == f"mijax.defenses.trainers.{train.__name__}"
    names = [name for name in inspect.signature(train).parameters if name != "key"]
    assert names[0] in ("x", "codes")
    assert names[0] == "codes" or names[1] in ("y", "labels")
    if "key" in inspect.signature(train).parameters:
        assert next(iter(inspect.signature(train).parameters)) == "key"
