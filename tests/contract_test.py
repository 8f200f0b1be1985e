"""What every attack promises, whatever its method."""

import dataclasses
import functools
import inspect
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mijax import attacks
from mijax.attacks import gmi, mi_face
from mijax.core import Prior, Reconstruction, Target
from mijax.knowledge import Labels, Scores, WhiteBox

SHAPE = (8, 8, 1)
CONFIGS = {
    mi_face: mi_face.Config(steps=2),
    gmi: gmi.Config(steps=2, restarts=2),
}
RANDOM = {gmi}
BLACK_BOXES = {Scores, Labels}
CASES = [
    pytest.param(attack, kind, id=f"{attack.__name__.split('.')[-1]}-{kind.__name__}")
    for attack in attacks.ALL
    for hint in [typing.get_type_hints(attack.attack)["knowledge"]]
    for kind in typing.get_args(hint) or (hint,)
]
HOSTED = [case for case in CASES if case.values[1] in BLACK_BOXES]
every_case = pytest.mark.parametrize(("attack", "kind"), CASES)


def knowing(kind, target, labels, prior, **auxiliary):
    """The knowledge of `kind` about a target."""
    labels = jnp.asarray(labels)
    make = WhiteBox if kind is WhiteBox else kind.of
    return make(target, labels, prior=prior, **auxiliary)


@functools.cache
def run(attack):
    """The attack, compiled once for the file."""
    return jax.jit(attack.attack)


def same(found, expected):
    """Whether two results agree up to rounding."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        found,
        expected,
    )


def stack(*trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def test_each_attack_has_its_contract():
    assert set(CONFIGS) == set(attacks.ALL)


@pytest.mark.parametrize("attack", attacks.ALL)
def test_signature(attack):
    parameters = inspect.signature(attack.attack).parameters
    assert list(parameters) == ["key", "knowledge", "config"]
    assert parameters["config"].default == attack.Config()
    assert dataclasses.is_dataclass(attack.Config)


@pytest.mark.parametrize("attack", attacks.ALL)
def test_cites_its_paper(attack):
    assert "References:" in attack.__doc__
    assert "arXiv:" in attack.__doc__ or "doi:" in attack.__doc__
    assert "The key is consumed." in attack.attack.__doc__ or "consumed" in (
        attack.attack.__doc__
    )


@every_case
def test_shapes_and_finite(attack, kind, target, prior):
    knowledge = knowing(kind, target, [0, 2], prior)
    found = run(attack)(jax.random.key(0), knowledge, CONFIGS[attack])
    restarts = getattr(CONFIGS[attack], "restarts", 1)
    assert isinstance(found, Reconstruction)
    assert found.x.shape == (2, *SHAPE) and found.loss.shape == (2,)
    assert found.candidates.shape == (2, restarts, *SHAPE)
    assert found.losses.shape == (2, restarts)
    assert found.trace.shape == (CONFIGS[attack].steps + 1, 2, restarts)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))
    np.testing.assert_allclose(found.losses, found.trace.min(0), rtol=1e-5)
    np.testing.assert_array_equal(found.loss, found.losses.min(1))
    assert found.x.min() >= 0 and found.x.max() <= 1


@every_case
def test_jit_equals_eager(attack, kind, target, prior):
    arguments = jax.random.key(0), knowing(kind, target, [0, 2], prior)
    same(
        run(attack)(*arguments, CONFIGS[attack]),
        attack.attack(*arguments, CONFIGS[attack]),
    )


@every_case
def test_same_key_same_bits(attack, kind, target, prior):
    knowledge = knowing(kind, target, [0, 2], prior)
    first, again, other = (
        run(attack)(jax.random.key(seed), knowledge, CONFIGS[attack])
        for seed in (3, 3, 4)
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, first, again))
    assert np.array_equal(first.x, other.x) == (attack not in RANDOM)


@every_case
def test_one_trace(attack, kind, classifier, variables, prior):
    calls = []

    def counted(params, x):
        calls.append(1)
        return classifier.apply(params, x)

    def go(seed, labels, params, config):
        target = Target(params, counted, SHAPE, 3)
        knowledge = knowing(kind, target, labels, prior)
        run(attack)(jax.random.key(seed), knowledge, config)

    go(0, [0, 2], variables[0], CONFIGS[attack])
    traced = len(calls)
    assert traced
    go(1, [0, 2], variables[0], CONFIGS[attack])
    go(0, [1, 1], variables[0], CONFIGS[attack])
    go(0, [0, 2], variables[1], CONFIGS[attack])
    numbers = [
        field.name
        for field in dataclasses.fields(attack.Config)
        if isinstance(getattr(CONFIGS[attack], field.name), float)
    ]
    assert numbers
    for name in numbers:
        value = getattr(CONFIGS[attack], name) * 0.75
        go(
            0,
            [0, 2],
            variables[0],
            dataclasses.replace(CONFIGS[attack], **{name: value}),
        )
    assert len(calls) == traced


@every_case
def test_vmap_equals_stacked_singles(attack, kind, target, variables, prior):
    other = dataclasses.replace(target, params=variables[1])
    faster = dataclasses.replace(CONFIGS[attack], learning_rate=0.5)
    keys = jax.random.split(jax.random.key(0))
    worlds = [knowing(kind, target, [0, 2], prior), knowing(kind, other, [1, 0], prior)]
    configs = [CONFIGS[attack], faster]

    def varied(arguments, axes):
        singles = [run(attack)(*(a[i] for a in arguments)) for i in (0, 1)]
        batched = [
            (a if isinstance(a, jax.Array) else stack(*a)) if axis == 0 else a[0]
            for a, axis in zip(arguments, axes, strict=True)
        ]
        same(jax.jit(jax.vmap(attack.attack, axes))(*batched), stack(*singles))

    varied((keys, worlds[:1] * 2, configs[:1] * 2), (0, None, None))
    varied(([keys[0]] * 2, worlds, configs[:1] * 2), (None, 0, None))
    varied(([keys[0]] * 2, worlds[:1] * 2, configs), (None, None, 0))


@every_case
def test_victims_are_independent(attack, kind, target, prior):
    if attack in RANDOM:
        pytest.skip("its draws depend on the number of victims")
    both, first = (
        run(attack)(
            jax.random.key(0), knowing(kind, target, labels, prior), CONFIGS[attack]
        )
        for labels in ([0, 2], [0])
    )
    np.testing.assert_allclose(both.x[:1], first.x, rtol=1e-5, atol=1e-6)


@every_case
def test_knowledge_that_counts_starts_from_what_was_spent(attack, kind, target, prior):
    knowledge = knowing(kind, target, [0, 2], prior)
    found = run(attack)(jax.random.key(0), knowledge, CONFIGS[attack])
    if kind not in BLACK_BOXES:
        assert found.queries == 0
        return
    spent = dataclasses.replace(knowledge, spent=7)
    again = run(attack)(jax.random.key(0), spent, CONFIGS[attack])
    assert found.queries == again.queries > 0


@pytest.fixture(scope="module")
def model():
    """Any model of anyone's, here scikit-learn's, that counts what it is asked."""
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    templates = rng.uniform(size=(3, 64))
    images = np.clip(templates[labels] + rng.normal(0, 0.1, (30, 64)), 0, 1)
    fitted = LogisticRegression().fit(images.astype(np.float32), labels)
    counter = []

    def predict(x):
        counter.append(len(x))
        return fitted.predict_proba(x.reshape(len(x), -1))

    return predict, counter


@pytest.mark.parametrize(("attack", "kind"), HOSTED)
def test_queries_are_counted_exactly(attack, kind, model, prior):
    predict, counter = model
    answer = predict if kind is Scores else lambda x: predict(x).argmax(1)
    make = functools.partial(
        kind.from_callable, answer, jnp.array([0, 2]), SHAPE, 3, prior=prior
    )
    counter.clear()
    found = run(attack)(jax.random.key(0), make(), CONFIGS[attack])
    assert int(found.queries) == sum(counter) > 0
    exact = make(budget=int(found.queries))
    same(run(attack)(jax.random.key(0), exact, CONFIGS[attack]), found)
    counter.clear()
    short = make(budget=int(found.queries) - 1)
    with pytest.raises(Exception, match="query budget is"):
        jax.block_until_ready(run(attack)(jax.random.key(0), short, CONFIGS[attack]))
    assert sum(counter) < found.queries  # The one too many was not asked.


@pytest.mark.parametrize(("attack", "kind"), HOSTED)
def test_a_black_box_cannot_be_differentiated(attack, kind, target, prior):
    def loss(x, knowledge):
        answer, _ = knowledge.query(x)
        return jnp.sum(answer * 1.0)

    knowledge = knowing(kind, target, [0], prior)
    with pytest.raises(TypeError, match="black box"):
        jax.make_jaxpr(jax.grad(loss))(jnp.zeros((1, *SHAPE)), knowledge)


@every_case
def test_bad_labels_are_refused(attack, kind, target, prior):
    for labels, message in [
        ([3], "labels hold 3: the target's classes are 0 to 2"),
        ([0, -1], "labels hold -1"),
        ([0.0, 1.0], "labels are float32"),
        (np.zeros(0, np.int32), "labels are empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            knowing(kind, target, labels, prior)
    with pytest.raises(ValueError, match=r"labels are \(1, 2\)"):
        knowledge = knowing(kind, target, [[0, 1]], prior)
        attack.attack(jax.random.key(0), knowledge, CONFIGS[attack])


@every_case
def test_numbers_that_are_none_are_refused(attack, kind, target, prior):
    params = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), target.params)
    with pytest.raises(ValueError, match=r"target's parameters.*NaN"):
        knowing(kind, dataclasses.replace(target, params=params), [0], prior)
    broken = dataclasses.replace(prior, critic=jnp.array([jnp.inf]))
    with pytest.raises(ValueError, match=r"prior's parameters\.critic.*infinite"):
        knowing(kind, target, [0], broken)
    public = np.full((2, *SHAPE), np.nan, np.float32)
    with pytest.raises(ValueError, match="public images hold 128"):
        knowing(kind, target, [0], prior, public=public)


@every_case
def test_negative_steps_are_refused(attack, kind, target, prior):
    config = dataclasses.replace(CONFIGS[attack], steps=-1)
    with pytest.raises(ValueError, match="steps is -1"):
        attack.attack(jax.random.key(0), knowing(kind, target, [0], prior), config)


@every_case
def test_images_of_another_shape_are_refused(attack, kind, classifier, variables):
    def of_rgb(params, x):
        return classifier.apply(params, x[..., :1])

    prior = Prior(
        jnp.ones(()), None, lambda w, z: w * z, lambda w, x: x[:, 0], 4, (4, 4, 1)
    )
    target = Target.from_function(of_rgb, variables[0], (8, 8, 3))
    with pytest.raises(ValueError, match=r"\(4, 4, 1\).*\(8, 8, 3\)|\(8, 8, 1\)"):
        knowledge = knowing(kind, target, [0], prior)
        if attack is not gmi:  # It takes no images but asks about its own.
            target.predict(jnp.zeros((1, *SHAPE)))
        attack.attack(jax.random.key(0), knowledge, CONFIGS[attack])
