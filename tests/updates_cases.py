"""Contract cases: a model before and after updates."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from contract_case import Case

from mijax.attacks import updates_leak
from mijax.core import Inference, Target
from mijax.knowledge import UpdatedModel, validate
from mijax.models.mlp import MLP


def small(classes):
    """A shadow model that compiles in a moment."""
    return MLP(classes, (4,))


def updated(which, wrap, probes=None, labels=(0, 1, 2, 0, 1, 2)):
    """A model and two updates of it."""
    seed = [1, 2, 1][which]
    before = Target(tiny.variables(seed), wrap(tiny.classify), tiny.SHAPE, 3)
    shifts = jnp.array([0.1, -0.2]) * (1 + which)
    after = jax.tree.map(
        lambda leaf: jnp.stack([leaf + 0.01 * shift for shift in shifts]),
        before.params,
    )
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(size=(6, *tiny.SHAPE)), jnp.float32)
    probes = images[:4] if probes is None else probes
    return UpdatedModel.of(
        before, after, probes, images, jnp.asarray(labels, jnp.int32)
    )


def _is_labels(found, config):
    del config
    assert isinstance(found, Inference)
    assert found.guess.shape == (2,) and found.log_posterior.shape == (2, 3)
    np.testing.assert_allclose(jnp.exp(found.log_posterior).sum(1), 1, rtol=1e-5)
    assert found.queries == 4 * 3


def _refused(attack, config, wrong):
    def run(method=attack.attack, config=config, **changes):
        known = updated(0, lambda function: function, **changes)
        method(jax.random.key(0), validate(known), config)

    big = dataclasses.replace(config, set_size=7)
    for changes, message in [
        ({"config": big}, "set_size is 7 but of 6 public images 3 are for"),
        ({"probes": jnp.zeros((4, 5, 5, 1))}, r"probing images are \(5, 5, 1\) but"),
        ({"labels": [0, 1]}, r"There are \(2,\) labels of 6"),
        ({"labels": [0, 1, 2, 0, 1, 3]}, "labels hold 3"),
        *wrong,
    ]:
        yield functools.partial(run, **changes), message


def _case(attack, config, check, wrong):
    refused = tuple(_refused(attack, config, wrong))
    return Case(attack, UpdatedModel, config, updated, check, refused)


_CONFIG = updates_leak.Config(
    shadow=small, widths=(4,), clones=6, shadow_steps=2, steps=2, batch_size=4
)
CASES = [
    _case(
        updates_leak,
        _CONFIG,
        _is_labels,
        [
            (
                {
                    "method": updates_leak.reconstruct,
                    "config": dataclasses.replace(_CONFIG, set_size=2),
                },
                "set_size is 2: only a set of 1",
            )
        ],
    ),
]
