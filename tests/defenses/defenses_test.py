"""Defenses compose in order, and their strength is a number like any other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from mijax import training
from mijax.core import Prediction
from mijax.defenses import Defense, chain, rounding
from mijax.knowledge import Scores

SCORES = jnp.array([[0.014, 0.126, 0.86], [0.3333, 0.3333, 0.3334]])


def add(x):
    return x + 1


def double(x):
    return x * 2


class TestChain:
    def test_nothing_changes_nothing(self):
        assert chain() == Defense()
        assert jax.tree.leaves(chain()) == []

    def test_one_is_itself(self):
        defense = rounding.rounding(0.05)
        assert chain(defense).output is defense.output
        assert chain(Defense(), defense, Defense()).output is defense.output

    def test_the_first_is_applied_first(self):
        first, then = (
            Defense(
                objective=Partial(lambda f, objective: lambda *a: f(objective(*a)), f),
                example_gradient=Partial(f),
                feature=Partial(f),
                output=Partial(f),
            )
            for f in (Partial(add), Partial(double))
        )
        both = chain(first, then)
        for place in (both.example_gradient, both.feature, both.output):
            assert place(3) == 8
        prediction = Prediction(jnp.zeros((1, 2)))
        loss = both.objective(training.cross_entropy)(prediction, jnp.array([0]))
        np.testing.assert_allclose(loss, 2 * (np.log(2) + 1), rtol=1e-6)
        assert chain(then, first).output(3) == 7
        assert chain(first, then, then).output(3) == 16
        assert chain(first, both).output(3) == chain(first, first, then).output(3) == 10

    def test_updates_chain_as_optax_does(self):
        half, negative = optax.scale(0.5), optax.clip(1.0)
        both = chain(Defense(update=half), Defense(), Defense(update=negative)).update
        updates, _ = both.update(jnp.array(3.0), both.init(jnp.array(0.0)))
        assert updates == 1.0
        other = chain(Defense(update=negative), Defense(update=half)).update
        updates, _ = other.update(jnp.array(3.0), other.init(jnp.array(0.0)))
        assert updates == 0.5


class TestRounding:
    @pytest.mark.parametrize(
        ("step", "expected"),
        [
            (0, [0.014, 0.126, 0.86]),
            (0.001, [0.014, 0.126, 0.86]),
            (0.01, [0.01, 0.13, 0.86]),
            (0.05, [0.0, 0.15, 0.85]),
            (0.1, [0.0, 0.1, 0.9]),
            (1, [0.0, 0.0, 1.0]),
        ],
    )
    def test_values(self, step, expected):
        released = rounding.rounding(step).output(SCORES)
        np.testing.assert_allclose(released[0], expected, atol=1e-6)

    def test_none_releases_the_same_bits(self):
        np.testing.assert_array_equal(rounding.rounding(0.0).output(SCORES), SCORES)

    def test_a_sweep_compiles_once(self, target):
        traces = []

        @jax.jit
        def ask(knowledge, x):
            traces.append(1)
            return knowledge.query(x)[0]

        x = jax.random.uniform(jax.random.key(0), (4, 8, 8, 1))
        whole = ask(Scores.of(target, jnp.array([0])), x)
        traces.clear()
        for step in (0.0, 0.01, 0.1):
            release = rounding.rounding(step).output
            scores = ask(Scores.of(target, jnp.array([0]), release=release), x)
            assert np.abs(scores - whole).max() <= step / 2 + 1e-6
        assert len(traces) == 1

    def test_a_sweep_as_one_vmap(self):
        steps = jnp.array([0.0, 0.01, 0.1])
        released = jax.vmap(lambda r: rounding.rounding(r).output(SCORES))(steps)
        for step, scores in zip(steps, released, strict=True):
            expected = rounding.rounding(step).output(SCORES)
            np.testing.assert_allclose(scores, expected, atol=1e-6)

    @pytest.mark.parametrize("step", [-0.1, 1.5, float("nan")])
    def test_bad_steps(self, step):
        with pytest.raises(ValueError, match=r"rounding step is .* in \[0, 1\]"):
            rounding.rounding(step)

    def test_cites_its_paper(self):
        assert "References:" in rounding.rounding.__doc__
