"""Contract cases: inversion of a trained model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from contract_case import Case, kinds

from mijax.attacks import (
    explanation,
    gamin,
    gmi,
    inverse_network,
    ked_mi,
    lomma,
    mi_face,
    plg_mi,
    ppa,
    template_inversion,
)
from mijax.core import Prior, Reconstruction, Target, TemplateDecoder
from mijax.fine_tuning import FineTuned, Head
from mijax.knowledge import Explained, Scores, WhiteBox, validate
from mijax.knowledge.explained import gradient_times_input
from mijax.models.decoders import DenseDecoder
from mijax.models.mlp import MLP


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
    if attack is ppa:
        message = r"sketch is \(1, 4, 4, 1\): it must be \(1, 8, 8, 1\)"
        yield functools.partial(run, sketch=jnp.zeros((1, 4, 4, 1))), message
    if attack in (lomma, ppa):
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


def _public():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.uniform(size=(6, *tiny.SHAPE)), jnp.float32)


def _seen(
    kind,
    which,
    wrap,
    observed=((0.1, 0.2, 0.7), (1.0, 0.0, 0.0)),
    public=True,
    **auxiliary,
):
    labels, seed = jnp.array([0, 2]), [1, 2, 1][which]
    model = Target(tiny.variables(seed), wrap(tiny.classify), tiny.SHAPE, tiny.CLASSES)
    scores = jnp.roll(jnp.asarray(observed), which, 0)
    return kind.of(
        model,
        labels,
        public=_public() if public else None,
        observed=scores,
        **auxiliary,
    )


def _explained(kind, which, wrap, **changes):
    # Of the model itself: far from all that it was trained on, a decoder amplifies
    # every rounding.
    model, x = tiny.target(), _public()[which : which + 2]
    answers = {
        "observed": jax.nn.softmax(model.predict(x).logits),
        "explanations": gradient_times_input(model, x),
    }
    return _seen(kind, which, wrap, **(answers | changes))


def _small(shape):
    return DenseDecoder(shape, (4,))


def _is_decoded(found, config):
    assert found.x.shape == (2, *tiny.SHAPE)
    assert found.candidates.shape == (2, 1, *tiny.SHAPE)
    assert found.trace.shape == (2, 1, config.steps)
    assert found.x.min() >= 0 and found.x.max() <= 1
    assert found.queries == 6


def _refused_decodings(attack, kind, knowing, config, wrong=()):
    def run(config=config, **changes):
        known = validate(knowing(kind, 0, lambda function: function, **changes))
        attack.attack(jax.random.key(0), known, config)

    for changes, message in [
        ({"observed": [[0.5, 0.5]] * 2}, r"observed confidences are \(2, 2\): give"),
        ({"observed": [[jnp.nan] * 3] * 2}, "observed confidences hold 6"),
        ({"public": False}, "There are no public images"),
        ({"config": dataclasses.replace(config, steps=0)}, "steps is 0"),
        *wrong,
    ]:
        yield functools.partial(run, **changes), message


def _decoding(attack, kind, knowing, wrong=()):
    # Adam makes a step of every rounding, so the steps are short.
    config = attack.Config(_small, steps=3, batch_size=4, learning_rate=1e-4)
    return Case(
        attack,
        kind,
        config,
        functools.partial(knowing, kind),
        _is_decoded,
        tuple(_refused_decodings(attack, kind, knowing, config, wrong)),
    )


def _is_generated(found, config):
    assert found.x.shape == (2, *tiny.SHAPE)
    assert found.candidates.shape == (2, config.restarts, *tiny.SHAPE)
    assert found.trace.shape == (2, config.restarts, config.steps)
    assert found.x.min() >= 0 and found.x.max() <= 1
    assert found.queries == 2 * 2 * config.batch_size * config.steps


def _generating():
    """GAMIN with small networks; it refuses what other inversions do."""
    config = gamin.Config(
        _small,
        lambda classes: MLP(classes, (4,)),
        steps=3,
        batch_size=4,
        restarts=2,
        latent_size=3,
    )
    for case in _inversion(gamin, config, random=True):
        refused = (
            functools.partial(
                gamin.attack,
                jax.random.key(0),
                case.knowing(0, lambda function: function),
                dataclasses.replace(config, batch_size=0),
            ),
            "batch_size is 0: it must be 1 or more",
        )
        yield case._replace(check=_is_generated, refused=(*case.refused, refused))


def _project(frozen, x):
    return x.reshape(len(x), -1) @ frozen


def _draw(variables, templates):
    return 0.5 + 0.1 * (templates @ variables).reshape(-1, *tiny.SHAPE)


def _headed(which, wrap):
    """A head on random projections, and a decoder that undoes them."""
    frozen, kernel = (
        jax.random.normal(jax.random.key(seed), shape)
        for seed, shape in (([1, 2, 1][which], (64, 5)), (which, (5, tiny.CLASSES)))
    )
    head = {"params": {"Dense_0": {"kernel": kernel, "bias": jnp.zeros(tiny.CLASSES)}}}
    target = Target.from_function(
        FineTuned(wrap(_project), Head(tiny.CLASSES)),
        {"head": head, "frozen": frozen},
        tiny.SHAPE,
    )
    decoder = TemplateDecoder(frozen.T, jnp.full(5, 0.2), jnp.eye(5), _draw)
    labels = jnp.array([[0, 2], [1, 0], [2, 2]][which])
    return WhiteBox(target, labels, decoder=decoder)


def _is_drawn(found, config):
    assert found.x.shape == (2, *tiny.SHAPE) and found.losses.shape == (2, 1)
    assert found.trace.shape == (2, 1, 1)
    np.testing.assert_array_equal(found.candidates[:, 0], found.x)
    assert 0 <= found.x.min() <= found.x.max() <= 1


def _refused_templates():
    def run(**changes):
        known = dataclasses.replace(_headed(0, lambda function: function), **changes)
        template_inversion.attack(jax.random.key(0), validate(known))

    decoder = _headed(0, lambda function: function).decoder
    broken = dataclasses.replace(decoder, spread=jnp.full((5, 5), jnp.nan))
    for changes, message in [
        ({"labels": jnp.array([3])}, "labels hold 3"),
        ({"decoder": None}, "needs a decoder"),
        ({"decoder": broken}, r"decoder's parameters\.spread.*NaN"),
        ({"target": tiny.target()}, "not of fine_tune"),
    ]:
        yield functools.partial(run, **changes), message


CASES = [
    Case(
        template_inversion,
        WhiteBox,
        template_inversion.Config(),
        _headed,
        _is_drawn,
        tuple(_refused_templates()),
        random=False,
    ),
    _decoding(inverse_network, Scores, _seen),
    _decoding(
        explanation,
        Explained,
        _explained,
        [
            (
                {"explanations": jnp.zeros((2, 5, 5, 1))},
                r"observed explanations are \(2, 5, 5, 1\): give",
            ),
            (
                {"explanations": jnp.full((2, *tiny.SHAPE), jnp.nan)},
                "observed explanations hold 128",
            ),
        ],
    ),
    *_generating(),
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
