"""Partial records: every completion is asked about, what is blank cannot matter."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from sklearn.linear_model import Ridge
from sklearn.svm import SVC

from mijax.attacks import map_inference
from mijax.core import AffineFirst, Target
from mijax.defenses.rounding import rounding
from mijax.knowledge import (
    Asked,
    Candidates,
    Oracle,
    PartialRecord,
    black_box,
    confusion,
    normal,
    partial_record,
    reliability,
    validate,
)
from mijax.models import linear
from mijax.models.mlp import MLP

attack = jax.jit(map_inference.attack)
KEY = jax.random.key(0)
FIELD = Candidates.of([1, 2, 3], np.eye(3), [0.5, 0.3, 0.2])
OTHER = Candidates.of(5, [-1.0, 0.0, 1.0, 2.0], [0.1, 0.2, 0.3, 0.4])


def answers(asked: Asked):
    return asked.answers


@pytest.fixture(scope="module")
def regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 6)).astype(np.float32)
    x[:, 1:4] = np.eye(3)[rng.integers(0, 3, 12)]
    weights = rng.normal(size=6).astype(np.float32)
    model = linear.Affine(jnp.asarray(weights)[:, None], jnp.array([0.5]))
    y = x @ weights + 0.5 + rng.normal(0, 0.3, 12).astype(np.float32)
    return x, jnp.asarray(y), linear.target(model), weights


def looped(x, y, weights, fields, priors, deviation):
    """The posterior of the first field, one completion of one record at a time."""
    posterior = np.zeros((len(x), len(fields[0].encodings)))
    for v in range(len(x)):
        for each in itertools.product(*(range(len(f.encodings)) for f in fields)):
            row, prior = x[v].astype(np.float64).copy(), 1.0
            for field, value, p in zip(fields, each, priors, strict=True):
                row[np.asarray(field.columns)] = np.asarray(field.encodings)[value]
                prior *= p[v, value] if p.ndim == 2 else p[value]
            error = (y[v] - row @ weights.astype(np.float64) - 0.5) / deviation
            posterior[v, each[0]] += prior * np.exp(-0.5 * error**2)
    return posterior / posterior.sum(1, keepdims=True)


class TestPosterior:
    def test_is_that_of_a_double_loop(self, regression):
        x, y, target, weights = regression
        known = PartialRecord(Oracle.of(target), x, FIELD, y, normal(0.7))
        found = attack(KEY, known)
        expected = looped(x, y, weights, [FIELD], [np.array([0.5, 0.3, 0.2])], 0.7)
        np.testing.assert_allclose(np.exp(found.log_posterior), expected, atol=1e-6)
        np.testing.assert_array_equal(found.guess, expected.argmax(1))
        assert found.queries == 12 * 3

    def test_sums_over_other_unknown_fields(self, regression):
        x, y, target, weights = regression
        own = np.random.default_rng(1).dirichlet(np.ones(3), 12)
        field = Candidates.of([1, 2, 3], np.eye(3), own)
        both = Candidates.product(field, OTHER)
        known = PartialRecord(Oracle.of(target), x, both, y, normal(0.7))
        found = attack(KEY, known)
        priors = [own, np.array([0.1, 0.2, 0.3, 0.4])]
        expected = looped(x, y, weights, [field, OTHER], priors, 0.7)
        np.testing.assert_allclose(np.exp(found.log_posterior), expected, atol=1e-6)
        assert found.queries == 12 * 12
        np.testing.assert_allclose(np.exp(known.log_prior), own, atol=1e-6)

    def test_of_a_joint_prior(self, regression):
        x, y, target, _ = regression
        both = Candidates.product(FIELD, OTHER)
        only = jnp.full(12, -jnp.inf).at[1 * 4 + 2].set(0.0)  # (value 1, other 2)
        both = dataclasses.replace(both, log_prior=only)
        known = PartialRecord(Oracle.of(target), x, both, y, normal(0.7))
        np.testing.assert_array_equal(attack(KEY, known).guess, 1)

    def test_of_classes_and_their_confusion(self):
        target = Target.from_function(lambda w, x: x @ w, jnp.eye(3), (3,))
        field = Candidates.of(0, [0.0, 5.0], [0.5, 0.5])
        x = jnp.array([[9.0, 1.0, 0.0], [9.0, 0.0, 1.0]])  # class 0 if 5, else 1 or 2
        counts = np.array([[8.0, 1, 1], [3, 6, 1], [2, 2, 6]])  # [true, predicted]
        known = PartialRecord(Oracle.of(target), x, field, jnp.array([0, 1]))
        for error, shares in [
            (confusion, counts / counts.sum(1, keepdims=True)),
            (reliability, counts / counts.sum(0)),
        ]:
            told = dataclasses.replace(known, error=error(counts))
            expected = np.array([shares[0, [1, 0]], shares[1, [2, 0]]])
            expected /= expected.sum(1, keepdims=True)
            found = attack(KEY, told)
            np.testing.assert_allclose(np.exp(found.log_posterior), expected, rtol=1e-5)

    def test_is_the_prior_where_no_value_is_possible(self):
        target = Target.from_function(lambda w, x: x @ w, jnp.eye(2), (2,))
        field = Candidates.of(0, [1.0, 2.0], [0.3, 0.7])
        error = confusion([[0, 5], [5, 0]])  # Class 0 is never predicted of class 0.
        known = PartialRecord(
            Oracle.of(target), jnp.zeros((1, 2)), field, jnp.array([0]), error
        )
        found = attack(KEY, known)
        np.testing.assert_allclose(np.exp(found.log_posterior), [[0.3, 0.7]], rtol=1e-6)
        assert found.guess == 1


class TestNull:
    @pytest.mark.parametrize("field", [FIELD, Candidates.product(FIELD, OTHER)])
    def test_a_target_that_ignores_the_field_gives_the_prior_back(self, field):
        ignored = np.asarray(field.columns)
        weights = jnp.ones((6, 1)).at[ignored].set(0.0)
        target = linear.target(linear.Affine(weights, jnp.zeros(1)))
        x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
        known = PartialRecord(Oracle.of(target), x, field, jnp.arange(20.0), normal(1))
        found = attack(KEY, known)
        prior = np.broadcast_to(known.log_prior, (20, 3))
        np.testing.assert_allclose(found.log_posterior, prior, atol=1e-6)
        np.testing.assert_array_equal(found.guess, 0)

    def test_what_stands_in_unknown_columns_cannot_matter(self, regression):
        x, y, target, _ = regression
        plain = Target.from_function(target.function.__call__, target.params, (6,))
        host = Oracle.from_callable(lambda x: np.nansum(x, 1), (6,), 1)
        for oracle in (Oracle.of(target), Oracle.of(plain), host):
            known = PartialRecord(oracle, x, FIELD, y, normal(0.7))
            found = attack(KEY, known)
            for anything in (0.0, 1e9, np.nan, np.inf):
                other = x.copy()
                other[:, 1:4] = anything
                changed = dataclasses.replace(known, record=other)
                again = attack(KEY, changed)
                np.testing.assert_array_equal(again.log_posterior, found.log_posterior)


class TestAsking:
    def test_an_affine_first_layer_changes_no_answer(self):
        network = MLP(3, (5, 4))
        variables = tiny.drawn(network, 0, (1, 6))
        x = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
        shared = Target.from_function(AffineFirst.from_linen(network), variables, (6,))
        plain = Target.from_linen(network, variables, (6,))
        np.testing.assert_allclose(
            shared.predict(jnp.asarray(x)).logits,
            plain.predict(jnp.asarray(x)).logits,
            rtol=1e-6,
        )
        ask = jax.jit(lambda t: PartialRecord(Oracle.of(t), x, FIELD).query(answers)[0])
        np.testing.assert_allclose(ask(shared), ask(plain), rtol=1e-5)
        x[:, 1:4] = [0, 1, 0]
        expected = jax.nn.softmax(plain.predict(jnp.asarray(x)).logits)
        np.testing.assert_allclose(ask(shared)[:, 1], expected, rtol=1e-5)

    @pytest.mark.parametrize("at_once", [1, 2, 4, 7, 100])
    @pytest.mark.parametrize("of_these", [partial_record, black_box])
    def test_chunks_change_no_answer(self, regression, at_once, of_these, monkeypatch):
        x, _, target, _ = regression
        both = Candidates.product(FIELD, OTHER)
        known = PartialRecord(Oracle.of(target), x, both)
        expected, _ = known.query(answers)
        monkeypatch.setattr(of_these, "_NUMBERS", at_once)
        found, left = known.query(answers)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert left.spent == 12 * 12

    def test_any_regressor_of_anyone(self, regression):
        x, y, _, _ = regression
        fitted, asked = Ridge(1e-3).fit(x, y), []

        def predict(x):
            asked.append(len(x))
            return fitted.predict(x)

        oracle = Oracle.from_callable(predict, (6,), 1)
        weights = linear.Affine(
            jnp.asarray(fitted.coef_)[:, None], jnp.asarray(fitted.intercept_)[None]
        )
        known = PartialRecord(oracle, x, FIELD, y, normal(0.5))
        found = attack(KEY, known)
        ours = dataclasses.replace(known, oracle=Oracle.of(linear.target(weights)))
        expected = attack(KEY, ours).log_posterior
        np.testing.assert_allclose(found.log_posterior, expected, atol=1e-4)
        assert found.queries == sum(asked) == 36

    def test_any_classifier_of_anyone(self, regression):
        x, y, _, _ = regression
        fitted = SVC().fit(x, y > np.median(y))
        oracle = Oracle.from_label_callable(
            lambda x: fitted.predict(x).astype(np.int32), (6,), 2
        )
        labels, _ = PartialRecord(oracle, x, FIELD).query(answers)
        filled = x.copy()
        filled[:, 1:4] = [0, 0, 1]
        np.testing.assert_array_equal(labels[:, 2].argmax(1), fitted.predict(filled))

    def test_what_is_released_is_what_a_defense_lets_out(self):
        target = Target.from_function(lambda w, x: x @ w, jnp.ones((6, 2)), (6,))
        release = rounding(0.5).output
        known = PartialRecord(Oracle.of(target, release), jnp.ones((2, 6)), FIELD)
        np.testing.assert_array_equal(known.query(answers)[0], 0.5)

    def test_a_budget_is_refused_before_anything_is_asked(self, regression):
        x, y, _, _ = regression
        asked = []

        def predict(x):
            asked.append(len(x))
            return x.sum(1)

        oracle = Oracle.from_callable(predict, (6,), 1)
        known = PartialRecord(oracle, x, FIELD, y, normal(1.0), budget=35)
        with pytest.raises(Exception, match="query budget is 35"):
            jax.block_until_ready(attack(KEY, known))
        assert not asked or not np.isfinite(asked).all()
        attack(KEY, dataclasses.replace(known, budget=36))

    def test_it_cannot_be_differentiated(self, regression):
        x, _, target, _ = regression

        def total(values):
            field = dataclasses.replace(FIELD, encodings=values)
            return PartialRecord(Oracle.of(target), x, field).query(answers)[0].sum()

        with pytest.raises(TypeError, match="black box"):
            jax.grad(total)(FIELD.encodings)


class TestManyOfThem:
    def test_a_million_candidates(self):
        target = linear.target(linear.Affine(jnp.ones((3, 1)), jnp.zeros(1)))
        field = Candidates.of(0, np.linspace(-5, 5, 10**6, dtype=np.float32))
        x, outcome = jnp.array([[0.0, 1.0, 2.0]]), jnp.array([4.5])
        known = PartialRecord(Oracle.of(target), x, field, outcome, normal(0.1))
        found = attack(KEY, known)
        assert found.queries == 10**6
        guessed = field.encodings[found.guess[0], 0]
        np.testing.assert_allclose(guessed, 1.5, atol=1e-4)

    def test_memory_is_that_of_the_result(self):
        field = Candidates.of(np.arange(7), np.eye(7))
        network = MLP(1, (128,))
        variables = tiny.drawn(network, 0, (1, 20))
        target = Target.from_function(AffineFirst.from_linen(network), variables, (20,))

        def infer(record, outcome):
            known = PartialRecord(
                Oracle.of(target), record, field, outcome, normal(1.0)
            )
            return map_inference.attack(KEY, known)

        def temporary(victims):
            arguments = (
                jax.ShapeDtypeStruct((victims, 20), jnp.float32),
                jax.ShapeDtypeStruct((victims,), jnp.float32),
            )
            program = jax.jit(infer).lower(*arguments).compile()
            return program.memory_analysis().temp_size_in_bytes

        grown = temporary(10**6) - temporary(10**5)
        # A few copies of records and of posteriors; 7 hidden layers would be 3.2 GB.
        assert grown < 9e5 * 4 * (2 * 20 + 6 * 7)

    def test_more_queries_than_can_be_counted(self):
        field = Candidates.of(0, np.arange(10**5, dtype=np.float32))
        target = linear.target(linear.Affine(jnp.ones((2, 1)), jnp.zeros(1)))
        known = PartialRecord(Oracle.of(target), jnp.zeros((10**5, 2)), field)
        with pytest.raises(ValueError, match="more queries than a counter holds"):
            known.query(answers)


class TestRefused:
    def test_candidates_that_are_none(self):
        for arguments, message in [
            (([0, 1], np.eye(3)), r"candidates are \(3, 3\) but fill 2 columns"),
            ((0, [1.0, 1.0]), "spelled alike"),
            ((0, [1.0, 2.0], [0.5, 0.3, 0.2]), r"prior is \(3,\)"),
            ((0, [1.0, 2.0], [1.5, -0.5]), "least value -0.5"),
            ((0.5, [1.0, 2.0]), "columns are float64"),
        ]:
            with pytest.raises(ValueError, match=message):
                Candidates.of(*arguments)
        with pytest.raises(ValueError, match="encodings hold 1 values that are NaN"):
            Candidates.of(0, [1.0, np.nan]).check_values()
        with pytest.raises(ValueError, match="product already"):
            Candidates.product(Candidates.product(FIELD, OTHER))

    def test_errors_that_are_none(self):
        for deviation in (0.0, -1.0, np.nan):
            with pytest.raises(ValueError, match="must be positive"):
                normal(deviation)
        for error in (confusion, reliability):
            with pytest.raises(ValueError, match="none of them negative"):
                error([[1.0, -1.0], [0.0, 1.0]])

    def test_a_target_of_classes_needs_classes(self):
        target = Target.from_function(lambda w, x: x @ w, jnp.ones((6, 2)), (6,))
        with pytest.raises(ValueError, match="outcome is float32"):
            validate(
                PartialRecord(Oracle.of(target), jnp.ones((1, 6)), FIELD, jnp.zeros(1))
            )
        with pytest.raises(ValueError, match="outcome=, error="):
            map_inference.attack(
                KEY, PartialRecord(Oracle.of(target), jnp.ones((1, 6)), FIELD)
            )
