"""Strengths that a defense cannot have are refused by name."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax import defenses
from mijax.defenses import strength

NO_STRENGTHS = [
    *(float("nan"), float("inf"), -float("inf"), -1.0, -1e-9, 1e300, 2**200),
    *([0.1, float("nan")], np.array([np.inf, 1.0]), jnp.array([1.0, jnp.nan])),
    *("a", None, 1j, [], {}, [[1.0], [1.0, 2.0]]),
]


def needed(make):
    parameters = inspect.signature(make).parameters.values()
    names = [p.name for p in parameters if p.default is p.empty]
    return [name for name in names if name != "key"], "key" in names


CASES = [
    pytest.param(make, name, id=f"{make.__name__}-{name}")
    for make in defenses.ALL
    for name in needed(make)[0]
]


@pytest.mark.parametrize(("make", "name"), CASES)
@pytest.mark.parametrize("given", NO_STRENGTHS, ids=lambda given: repr(given)[:20])
def test_is_refused(make, name, given):
    names, random = needed(make)
    arguments = dict.fromkeys(names, 1) | {name: given}
    if random:
        arguments["key"] = jax.random.key(0)
    with pytest.raises(ValueError, match=r" is .*: it must be ") as caught:
        make(**arguments)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize("size", [1, 7, 100, 128, 1000, 12345])
def test_shares_of_a_number_are_what_they_say(size):
    rates = np.arange(size + 1) / size
    found = jax.vmap(lambda rate: strength.number_of(rate, size))(
        jnp.asarray(rates, jnp.float32)
    )
    np.testing.assert_array_equal(found, np.arange(size + 1))


@pytest.mark.parametrize("rate", [0.29, 0.57, 0.58, 0.07, 0.14, 0.55, 0.56])
def test_pruning_a_share_of_a_hundred(rate):
    defense = defenses.pruning.prune(rate)
    update = {"w": jnp.arange(1.0, 101.0)}
    change, _ = defense.update.update(update, defense.update.init(update))
    assert np.count_nonzero(change["w"]) == 100 - round(100 * rate)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("most", [1e4, 2.5, 0.5, 1e-39])
def test_pruning_keeps_the_largest_and_the_first_of_equal_ones(dtype, rate, most):
    numbers = np.random.default_rng(0).uniform(-most, most, 101)
    x = np.asarray(np.round(numbers) if most > 1e-3 else numbers, jnp.dtype(dtype))
    update = {"w": jnp.asarray(x)}
    defense = defenses.pruning.prune(rate)
    change, _ = defense.update.update(update, defense.update.init(update))
    order = np.argsort(-np.abs(x.astype(np.float64)), stable=True)
    expected = x.copy()
    expected[order[101 - int(101 * rate) :]] = 0
    np.testing.assert_array_equal(np.asarray(change["w"]), expected)
