"""Contract cases: inversion of a trained model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from contract_case import Case, kinds

from mijax.attacks import (
    gmi,
    inverse_network,
    ked_mi,
    lomma,
    mi_face,
    plg_mi,
    ppa,
)
from mijax.core import Prior, Reconstruction, Target
from mijax.knowledge import Scores, WhiteBox, validate
from mijax.models.decoders import DenseDecoder


def _inversion(attack, config, *, random, **auxiliary):
    for kind in kinds(attack):
        yield Case(
            attack,
            kind,
            config,
            lambda which, wrap, kind=kind: _inverted(kind, which, wrap, **auxiliary),
            _is_images,
            tuple(_refused_inversions(attack, kind, config, **auxiliary)),
            random,
        )


def _inverted(kind, which, wrap, **auxiliary):
    labels, seed = jnp.array([[0, 2], [1, 0], [2, 2]][which]), [1, 2, 1][which]
    model = Target(tiny.variables(seed), wrap(tiny.classify), tiny.SHAPE, tiny.CLASSES)
    return (WhiteBox if kind is WhiteBox else kind.of)(
        model, labels, **({"prior": tiny.prior()} | auxiliary)
    )


def _refused_inversions(attack, kind, config, **default):
    make = WhiteBox if kind is WhiteBox else kind.of

    def run(labels=(0,), target=None, config=config, **auxiliary):
        known = make(
            target or tiny.target(),
            jnp.asarray(labels),
            **({"prior": tiny.prior()} | default | auxiliary),
        )
        attack.attack(jax.random.key(0), validate(known), config)

    nan = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), tiny.variables(1))
    infinite = dataclasses.replace(tiny.prior(), critic=jnp.array([jnp.inf]))
    for changes, message in [
        ({"labels": [3]}, "labels hold 3: the target's classes are 0 to 2"),
        ({"labels": [0, -1]}, "labels hold -1"),
        ({"labels": [0.0, 1.0]}, "labels are float32"),
        ({"labels": np.zeros(0, np.int32)}, "labels are empty"),
        ({"labels": [[0, 1]]}, r"labels are \(1, 2\)"),
        (
            {"target": dataclasses.replace(tiny.target(), params=nan)},
            r"target's parameters.*NaN",
        ),
        ({"prior": infinite}, r"prior's parameters\.critic.*infinite"),
        (
            {"public": np.full((2, *tiny.SHAPE), np.nan, np.float32)},
            "public images hold 128",
        ),
        ({"config": dataclasses.replace(config, steps=-1)}, "steps is -1"),
    ]:
        yield functools.partial(run, **changes), message
    if attack in (gmi, ked_mi, lomma, plg_mi, ppa):
        small = Prior(jnp.ones(()), None, _times, _first, 4, (4, 4, 1))
        message = r"prior draws images \(4, 4, 1\).*\(8, 8, 1\)"
        yield functools.partial(run, prior=small), message
    if attack is plg_mi:
        yield functools.partial(run, prior=tiny.prior()), "does not take labels"
    if attack is lomma:
        yield functools.partial(run, public=None), "LOMMA needs public images"
        other = dataclasses.replace(tiny.target(), shape=(4, 4, 1))
        message = r"surrogate maps \(4, 4, 1\) to 3 classes"
        yield functools.partial(run, surrogates=(other,)), message


def _times(w, z):
    return w * z


def _first(w, x):
    return x[:, 0]


def _of_class(weights, z, labels):
    return tiny.prior().generate(weights, z + labels[:, None])


def _is_images(found, config):
    restarts = getattr(config, "restarts", 1)
    assert isinstance(found, Reconstruction)
    assert found.x.shape == (2, *tiny.SHAPE) and found.loss.shape == (2,)
    assert found.candidates.shape == (2, restarts, *tiny.SHAPE)
    assert found.losses.shape == (2, restarts)
    assert found.trace.shape == (2, restarts, config.steps + 1)
    if isinstance(config, ppa.Config):  # It chooses by confidence, not by its loss.
        assert 0 <= found.losses.min() <= found.losses.max() <= 1
    elif not isinstance(config, ked_mi.Config | plg_mi.Config):  # Nor do they: by the
        # loss of the last iterate, which saw other draws or views in the search.
        np.testing.assert_allclose(found.losses, found.trace.min(-1), rtol=1e-5)
    np.testing.assert_array_equal(found.loss, found.losses.min(1))
    assert found.x.min() >= 0 and found.x.max() <= 1


def _seen(which, wrap, observed=((0.1, 0.2, 0.7), (1.0, 0.0, 0.0)), public=True):
    labels, seed = jnp.array([0, 2]), [1, 2, 1][which]
    model = Target(tiny.variables(seed), wrap(tiny.classify), tiny.SHAPE, tiny.CLASSES)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(size=(6, *tiny.SHAPE)), jnp.float32)
    scores = jnp.roll(jnp.asarray(observed), which, 0)
    return Scores.of(model, labels, public=images if public else None, observed=scores)


def _small(shape):
    return DenseDecoder(shape, (4,))


def _is_decoded(found, config):
    assert found.x.shape == (2, *tiny.SHAPE)
    assert found.candidates.shape == (2, 1, *tiny.SHAPE)
    assert found.trace.shape == (2, 1, config.steps)
    assert found.x.min() >= 0 and found.x.max() <= 1


def _refused_decodings(config):
    def run(config=config, **changes):
        known = validate(_seen(0, lambda function: function, **changes))
        inverse_network.attack(jax.random.key(0), known, config)

    for changes, message in [
        ({"observed": [[0.5, 0.5]] * 2}, r"observed confidences are \(2, 2\): give"),
        ({"observed": [[jnp.nan] * 3] * 2}, "observed confidences hold 6"),
        ({"public": False}, "There are no public images"),
        ({"config": dataclasses.replace(config, steps=0)}, "steps is 0"),
    ]:
        yield functools.partial(run, **changes), message


_DECODING = inverse_network.Config(_small, steps=3, batch_size=4)
CASES = [
    Case(
        inverse_network,
        Scores,
        _DECODING,
        _seen,
        _is_decoded,
        tuple(_refused_decodings(_DECODING)),
    ),
    *_inversion(mi_face, mi_face.Config(steps=2), random=False),
    *_inversion(gmi, gmi.Config(steps=2, restarts=2), random=True),
    *_inversion(
        lomma,
        lomma.Config(steps=2, restarts=2),
        random=True,
        public=jnp.linspace(0, 1, 5 * 64).reshape(5, *tiny.SHAPE),
        surrogates=(tiny.target(3),),
    ),
    *_inversion(ked_mi, ked_mi.Config(steps=2, restarts=2), random=True),
    *_inversion(
        plg_mi,
        plg_mi.Config(steps=2, restarts=2),
        random=True,
        prior=dataclasses.replace(tiny.prior(), generate=_of_class),
    ),
    *_inversion(
        ppa,
        ppa.Config(samples=6, restarts=2, steps=2, final_views=2),
        random=True,
    ),
]
