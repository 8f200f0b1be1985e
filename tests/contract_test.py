"""What every attack promises, whatever its method."""

import dataclasses
import functools
import inspect

import contract_case
import contract_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax import attacks, batching

CASES = [pytest.param(case, id=case.name) for case in contract_cases.CASES]
every_case = pytest.mark.parametrize("case", CASES)


@functools.cache
def run(attack):
    """The attack, compiled once for the file."""
    return jax.jit(attack.attack)


def unwrapped(function):
    return function


def world(case, which=0):
    return case.knowing(which, unwrapped)


def same(found, expected):
    """Whether two results agree up to rounding."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        found,
        expected,
    )


def stack(*trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def numbers(config):
    """The names of the hyper-parameters that a sweep may vary."""
    return [
        field.name
        for field in dataclasses.fields(config)
        if isinstance(getattr(config, field.name), float)
    ]


def varied(config):
    """The same configuration with every number changed."""
    changes = {name: getattr(config, name) * 0.75 for name in numbers(config)}
    return dataclasses.replace(config, **changes)


def test_each_attack_has_a_case_for_each_kind_of_knowledge():
    expected = {(a, kind) for a in attacks.ALL for kind in contract_case.kinds(a)}
    assert {(case.attack, case.kind) for case in contract_cases.CASES} == expected


@pytest.mark.parametrize("attack", attacks.ALL)
def test_signature(attack):
    parameters = inspect.signature(attack.attack).parameters
    assert list(parameters) == ["key", "knowledge", "config"]
    assert parameters["config"].default == attack.Config()
    assert dataclasses.is_dataclass(attack.Config)


@pytest.mark.parametrize("attack", attacks.ALL)
def test_cites_its_paper(attack):
    assert "References:" in attack.__doc__
    assert any(kind in attack.__doc__ for kind in ("arXiv:", "doi:", "https:"))
    assert "consumed" in attack.attack.__doc__


@every_case
def test_finds_what_it_says_and_only_numbers(case):
    found = run(case.attack)(jax.random.key(0), world(case), case.config)
    case.check(found, case.config)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))


# Eager, each operation of an attack is compiled: by default of one attack a family, and
# of none that trains networks.
TRAINS = ("explanation", "federated", "gamin", "inverse_net", "properties", "updates")
FIRST = {
    case.attack.__name__.split(".")[-2]: case
    for case in contract_cases.CASES[::-1]
    if not any(part in case.attack.__name__ for part in TRAINS)
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=marks)
        for case in contract_cases.CASES
        for marks in [() if case in FIRST.values() else pytest.mark.slow]
    ],
)
def test_jit_equals_eager(case):
    arguments = jax.random.key(0), world(case), case.config
    same(run(case.attack)(*arguments), case.attack.attack(*arguments))


@every_case
def test_same_key_same_bits(case):
    first, again, other = (
        run(case.attack)(jax.random.key(seed), world(case), case.config)
        for seed in (3, 3, 4)
    )
    equal = lambda a, b: jax.tree.all(jax.tree.map(np.array_equal, a, b))
    assert equal(first, again)
    assert equal(first, other) == (not case.random)


@every_case
def test_one_trace_for_any_key_world_and_number(case):
    calls, made = [], {}

    def counted(function):
        """The function, counting its traces; one object however often it is asked."""

        def call(*arguments):
            calls.append(1)
            return function(*arguments)

        return made.setdefault(function, call)

    def go(seed, which, config):
        knowledge = case.knowing(which, counted)
        run(case.attack)(jax.random.key(seed), knowledge, config)

    go(0, 0, case.config)
    traced = len(calls)
    closed_form = not dataclasses.fields(case.config)
    reads_weights = case.kind in contract_cases.WEIGHTS_READ
    assert traced or closed_form or reads_weights, "the attack never asked the model"
    go(1, 0, case.config)
    go(0, 1, case.config)
    go(0, 2, case.config)
    go(0, 0, varied(case.config))
    assert len(calls) == traced


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=marks)
        for case in contract_cases.CASES
        for slow in [any(part in case.attack.__name__ for part in TRAINS)]
        for marks in [pytest.mark.slow if slow else ()]
    ],
)
def test_vmap_equals_stacked_singles(case):
    keys = list(jax.random.split(jax.random.key(0)))
    worlds = [world(case, 0), world(case, 1)]
    configs = [case.config, varied(case.config)]
    # All three at once, so that there is one program to compile.
    singles = [
        run(case.attack)(*one) for one in zip(keys, worlds, configs, strict=True)
    ]
    stacked = stack(*keys), stack(*worlds), stack(*configs)
    same(jax.jit(jax.vmap(case.attack.attack))(*stacked), stack(*singles))


@pytest.mark.parametrize(
    "case", [case for case in CASES if hasattr(case.values[0].kind, "VICTIMS")]
)
def test_victims_are_independent(case):
    arguments = jax.random.key(0), world(case), case.config
    one_by_one = jax.jit(batching.in_chunks(case.attack.attack, 1))
    same(one_by_one(*arguments), run(case.attack)(*arguments))


@every_case
def test_hyper_parameters_are_finite(case):
    for name in numbers(case.config):
        for bad in (float("nan"), jnp.array([0.5, jnp.inf])):
            with pytest.raises(ValueError, match=f"{name} is .*: it must be finite"):
                dataclasses.replace(case.config, **{name: bad})


REFUSED = [
    pytest.param(case, number, id=f"{case.name}-{number}")
    for case in contract_cases.CASES
    for number in range(len(case.refused))
]


@pytest.mark.parametrize(("case", "number"), REFUSED)
def test_what_cannot_be_right_is_refused_by_name(case, number):
    make, message = case.refused[number]
    with pytest.raises(ValueError, match=message):
        make()


@every_case
def test_queries_are_counted_from_what_was_spent(case):
    knowledge = world(case)
    found = run(case.attack)(jax.random.key(0), knowledge, case.config)
    if case.kind not in contract_cases.COUNTED:
        assert found.queries == 0
        return
    spent = dataclasses.replace(knowledge, spent=7)
    again = run(case.attack)(jax.random.key(0), spent, case.config)
    assert found.queries == again.queries > 0
