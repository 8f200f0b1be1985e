"""Contract cases: attacks from a seat in a federated training."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from contract_case import Case

from mijax.attacks import feature_leakage, mgan_ai, participant_gan
from mijax.core import Inference, Reconstruction, Target
from mijax.federation import Clients, Federation, Recipe
from mijax.knowledge import FederationSeat, ServerSeat

_NUMBER = 6  # examples of each


def _data(seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(_NUMBER, *tiny.SHAPE)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(rng.permutation(_NUMBER) % 2)


def _world(which, wrap, recipe, batch_size=4):
    """A federation of two clients and tiny networks."""
    variables = tiny.variables([1, 2, 1][which])
    target = Target(variables, wrap(tiny.classify), tiny.SHAPE, tiny.CLASSES)
    clients = Clients.of([_data(10 * which + client) for client in (1, 2)])
    return Federation.of(recipe, target, clients, batch_size=batch_size)


def server(which, wrap):
    """A server's seat, whose victim is the second of two clients."""
    world = _world(which, wrap, Recipe(learning_rate=0.5), batch_size=2)
    return ServerSeat.of(jax.random.key(which), world, 1, isolated=False)


def seat(which, wrap, **changes):
    """A seat beside two clients of a federation of tiny networks."""
    recipe = Recipe(local_steps=2, local_batch=2, learning_rate=0.5)
    world = _world(which, wrap, recipe)
    x, labels = _data(10 * which)
    given = {
        "x": x,
        "labels": labels,
        "wanted": jnp.int32(1),
        "has_property": jnp.arange(_NUMBER) % 3 == 0,
        **changes,
    }
    return FederationSeat.of(jax.random.key(which), world, **given)


def unwrapped(function):
    """The model's function as it is."""
    return function


def _is_samples(found, config):
    assert isinstance(found, Reconstruction)
    assert found.x.shape == (1, config.samples, *tiny.SHAPE)
    assert found.losses.shape == (1, config.rounds)
    assert found.trace.shape == (1, config.rounds, config.steps + 1)
    assert found.x.min() >= 0 and found.x.max() <= 1


def _is_properties(found, config):
    assert isinstance(found, Inference)
    assert found.guess.shape == (config.rounds,)
    assert found.log_posterior.shape == (config.rounds, 2)


def _refused(attack, config):
    def run(config=config, **changes):
        attack.attack(jax.random.key(0), seat(0, unwrapped, **changes), config)

    empty = {"x": jnp.zeros((0, *tiny.SHAPE)), "labels": jnp.zeros(0, int)}
    for changes, message in [
        (empty, "The seat has no example"),
        ({"labels": jnp.full(_NUMBER, 3)}, "labels hold 3"),
        ({"labels": jnp.zeros(3, int)}, r"labels \(3,\)"),
        ({"has_property": np.ones(_NUMBER, bool)}, "All of the 6 examples"),
        ({"has_property": np.zeros(_NUMBER, bool)}, "None of the 6 examples"),
        ({"has_property": np.zeros(2, bool)}, r"has_property is \(2,\)"),
    ]:
        yield functools.partial(run, **changes), message
    if attack is participant_gan:
        yield functools.partial(run, wanted=None), "No class is wanted"
        yield functools.partial(run, wanted=7), "labels hold 7"
        many = dataclasses.replace(config, injected=3)
        yield functools.partial(run, config=many), "injected is 3, more than the 2"
        yield lambda: dataclasses.replace(config, rounds=0), "rounds is 0"
        yield lambda: dataclasses.replace(config, injected=-1), "injected is -1"
    else:
        yield functools.partial(run, has_property=None), "No property is sought"
        yield lambda: dataclasses.replace(config, clients=0), "clients is 0"
        yield lambda: dataclasses.replace(config, mixtures=(1.5,)), "mixtures are"


def _is_style(found, config):
    assert isinstance(found, Reconstruction)
    assert found.x.shape == (1, config.samples, *tiny.SHAPE)
    assert found.trace.shape == (1, 1, config.generator_steps + 1)
    assert found.labels is not None
    assert found.labels.shape == (1, config.samples)
    assert found.x.min() >= 0 and found.x.max() <= 1


_GAN = participant_gan.Config(
    rounds=2, steps=2, batch_size=2, injected=1, samples=2, latent_size=3
)
_LEAK = feature_leakage.Config(rounds=3, batches=2, clients=2, steps=3)
_STYLE = mgan_ai.Config(
    rounds=2, steps=1, inner=3, generator_steps=3, batch_size=4, samples=5
)
CASES = [
    Case(
        participant_gan,
        FederationSeat,
        _GAN,
        seat,
        _is_samples,
        tuple(_refused(participant_gan, _GAN)),
    ),
    Case(
        feature_leakage,
        FederationSeat,
        _LEAK,
        seat,
        _is_properties,
        tuple(_refused(feature_leakage, _LEAK)),
    ),
    Case(
        mgan_ai,
        ServerSeat,
        _STYLE,
        server,
        _is_style,
        (
            (lambda: dataclasses.replace(_STYLE, rounds=0), "rounds is 0"),
            (lambda: dataclasses.replace(_STYLE, latent_size=0), "latent_size is 0"),
        ),
    ),
]
