"""Attacks on missing fields, on models whose answer is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.tree import DecisionTreeClassifier

from mijax.attacks import (
    approximate_inference,
    attribute_advantage,
    csmia,
    influence_game,
    lomia,
    poisoned_regression,
    tree_inversion,
)
from mijax.core import Target
from mijax.knowledge import (
    Candidates,
    Oracle,
    PartialRecord,
    PoisonedTraining,
    confusion,
)
from mijax.models import linear, trees

KEY = jax.random.key(0)
THREE = Candidates.of(0, [0.0, 1.0, 2.0])


def is_the_prior(found, known, tolerance):
    prior = np.broadcast_to(known.log_prior, found.log_posterior.shape)
    np.testing.assert_allclose(found.log_posterior, prior, atol=tolerance)


def looked_up(table, x):
    """Logits by the first column, `table [3, K]`."""
    return table[x[:, 0].astype(int)]


def scores_of(probabilities, records, outcome, field=THREE, **more):
    """A model whose confidences are those of a table, by the value of the field."""
    table = jnp.log(jnp.asarray(probabilities, jnp.float32))
    target = Target.from_function(looked_up, table, (2,))
    records = jnp.zeros((records, 2))
    return PartialRecord(
        Oracle.of(target), records, field, jnp.asarray(outcome, jnp.int32), **more
    )


@pytest.fixture(scope="module")
def tree():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (300, 3)).astype(np.float32)
    y = ((x[:, 0] > 0) & (x[:, 1] > 0)).astype(np.int32)
    y = np.where(rng.uniform(size=300) < 0.1, 1 - y, y)
    return x, y, DecisionTreeClassifier(max_depth=4, random_state=0).fit(x, y)


class TestTreeInversion:
    attack = staticmethod(jax.jit(tree_inversion.attack))

    @pytest.mark.parametrize("labeled", [False, True])
    def test_white_box_is_the_papers_formula(self, tree, labeled):
        x, y, model = tree
        prior = np.array([0.5, 0.3, 0.2])
        known = PartialRecord(
            Oracle.of(trees.from_sklearn(model)),
            x[:40],
            Candidates.of(0, [0.0, 1.0, 2.0], prior),
            jnp.asarray(y[:40]) if labeled else None,
            paths=trees.paths(model),
        )
        found = self.attack(KEY, known)
        leaves = model.apply(x)
        expected = np.zeros((40, 3))
        boxes = jax.device_get(known.paths)
        share = boxes.counts.sum(1) / len(x)
        for v, value in enumerate([0.0, 1.0, 2.0]):
            filled = x[:40].copy()
            filled[:, 0] = value
            there = leaves[None] == model.apply(filled)[:, None]  # [40, 300]
            if labeled:
                there &= y[None] == y[:40, None]
            allows = (boxes.low[:, 0] < value) & (value <= boxes.high[:, 0])
            expected[:, v] = prior[v] * there.mean(1) / share[allows].sum()
        expected /= expected.sum(1, keepdims=True)
        np.testing.assert_allclose(np.exp(found.log_posterior), expected, atol=1e-5)
        assert found.queries == 0

    def test_black_box_reads_a_deep_tree_of_its_members_alone(self):
        rng = np.random.default_rng(0)
        x = rng.integers(0, 2, (600, 9)).astype(np.float32)
        y = rng.integers(0, 6, 600).astype(np.int32)  # Nothing but memory.
        model = DecisionTreeClassifier(random_state=0).fit(x[:300], y[:300])
        told = confusion(np.eye(6) + 0.05)
        known = PartialRecord(
            Oracle.of(trees.from_sklearn(model)),
            jnp.asarray(x),
            Candidates.of(0, [0.0, 1.0]),
            jnp.asarray(y),
            told,
        )
        right = np.asarray(self.attack(KEY, known).guess) == x[:, 0]
        assert right[:300].mean() > 0.7
        assert abs(right[300:].mean() - 0.5) < 0.1

    def test_a_tree_without_the_field_gives_the_prior_back(self, tree):
        x, y, _ = tree
        model = DecisionTreeClassifier(max_depth=3).fit(x * [0, 1, 1], y)
        field = Candidates.of(0, [0.0, 1.0, 2.0], [0.5, 0.3, 0.2])
        known = PartialRecord(
            Oracle.of(trees.from_sklearn(model)),
            x,
            field,
            jnp.asarray(y),
            confusion(np.eye(2) + 1),
        )
        for told in (known, dataclasses.replace(known, paths=trees.paths(model))):
            found = self.attack(KEY, told)
            is_the_prior(found, known, 1e-5)

    def test_paths_of_another_model_are_refused(self, tree):
        _, _, model = tree
        target = linear.target(linear.Affine(jnp.ones((4, 2)), jnp.zeros(2)))
        known = PartialRecord(
            Oracle.of(target), jnp.ones((1, 4)), THREE, paths=trees.paths(model)
        )
        with pytest.raises(ValueError, match="paths are of 3 columns"):
            tree_inversion.attack(KEY, known)


class TestCsmia:
    attack = staticmethod(jax.jit(csmia.attack))

    @pytest.mark.parametrize(
        ("probabilities", "guess", "shares"),
        [
            ([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1]], 1, [0, 1, 0]),  # case 1
            ([[0.3, 0.7], [0.2, 0.8], [0.9, 0.1]], 1, [7 / 15, 8 / 15, 0]),  # case 2
            ([[0.7, 0.3], [0.8, 0.2], [0.6, 0.4]], 2, [3 / 9, 2 / 9, 4 / 9]),  # case 3
        ],
    )
    def test_its_three_cases(self, probabilities, guess, shares):
        found = self.attack(KEY, scores_of(probabilities, 1, [1]))
        assert found.guess[0] == guess
        np.testing.assert_allclose(np.exp(found.log_posterior[0]), shares, atol=1e-5)

    def test_counts_completions_of_other_fields(self):
        # Right with value 0 twice and with value 1 once, but then surer.
        table = jnp.log(jnp.array([0.49, 0.45, 0.01, 0.9]))
        target = Target.from_function(
            lambda p, x: jnp.stack(
                [
                    p[(2 * x[:, 0] + x[:, 1]).astype(int)],
                    jnp.log1p(-jnp.exp(p[(2 * x[:, 0] + x[:, 1]).astype(int)])),
                ],
                1,
            ),
            table,
            (2,),
        )
        bit = [0.0, 1.0]
        both = Candidates.product(Candidates.of(0, bit), Candidates.of(1, bit))
        known = PartialRecord(
            Oracle.of(target), jnp.zeros((1, 2)), both, jnp.array([1])
        )
        assert self.attack(KEY, known).guess[0] == 0

    def test_a_model_that_ignores_the_field_leaves_it_to_chance(self):
        found = self.attack(KEY, scores_of([[0.3, 0.7]] * 3, 3000, [1] * 3000))
        np.testing.assert_allclose(np.exp(found.log_posterior), 1 / 3, rtol=1e-5)
        shares = np.bincount(found.guess, minlength=3) / 3000
        np.testing.assert_allclose(shares, 1 / 3, atol=0.04)

    def test_a_model_that_is_surely_wrong_leaves_it_to_chance(self):
        known = scores_of([[1.0, 1e-30]] * 3, 3000, [1] * 3000)
        likely = jnp.log(jnp.array([0.8, 0.1, 0.1]))
        candidates = dataclasses.replace(known.candidates, log_prior=likely)
        found = self.attack(KEY, dataclasses.replace(known, candidates=candidates))
        np.testing.assert_allclose(np.exp(found.log_posterior), 1 / 3, rtol=1e-5)
        shares = np.bincount(found.guess, minlength=3) / 3000
        np.testing.assert_allclose(shares, 1 / 3, atol=0.04)


class TestLomia:
    attack = staticmethod(jax.jit(lomia.attack))

    def records(self, leaks):
        """The sign of column 1 is the value.

        The model tells it where column 2 is on, but as likely its opposite, by column
        3: what is to be learned is no rule of the outcome.
        """
        rng = np.random.default_rng(0)
        x = rng.normal(size=(400, 4)).astype(np.float32)
        value = (x[:, 1] > 0).astype(np.float32)
        x[:, 2:] = rng.uniform(size=(400, 2)) < 0.5

        def logits(params, x):
            del params
            told = jnp.where(x[:, 2] > 0, jnp.abs(x[:, 0] - x[:, 3]), 0.0) * leaks
            return jnp.stack([1 - told, told], 1)

        oracle = Oracle.of_labels(Target.from_function(logits, None, (4,)))
        outcome = np.where(x[:, 2] > 0, abs(value - x[:, 3]), 0).astype(np.int32)
        field = Candidates.of(0, [0.0, 1.0], [0.7, 0.3])
        return PartialRecord(oracle, x, field, jnp.asarray(outcome)), value

    def test_learns_from_case_one_what_it_infers_of_the_rest(self):
        known, value = self.records(leaks=True)
        for keep in (True, False):
            found = self.attack(KEY, known, lomia.Config(keep_case_one=keep))
            assert (np.asarray(found.guess) == value).mean() > 0.9
            assert found.queries == 800

    def test_where_nothing_leaks_it_keeps_the_prior(self):
        known, _ = self.records(leaks=False)
        found = self.attack(KEY, known)
        is_the_prior(found, known, 1e-6)


class TestApproximateInference:
    attack = staticmethod(jax.jit(approximate_inference.attack))
    probabilities = ((0.3, 0.7), (0.1, 0.9), (0.8, 0.2))

    def test_posterior_is_by_the_score(self):
        found = self.attack(KEY, scores_of(self.probabilities, 2, [0, 1]))
        table = np.array(self.probabilities).T
        expected = table / table.sum(1, keepdims=True)
        np.testing.assert_allclose(np.exp(found.log_posterior), expected, rtol=1e-5)
        np.testing.assert_array_equal(found.guess, [2, 1])

    def test_scores_that_need_no_outcome(self):
        known = scores_of(self.probabilities, 1, [0])
        known = dataclasses.replace(known, outcome=None)
        p = np.array(self.probabilities)
        for score, expected in [
            (approximate_inference.confidence, np.log(p.max(1))),
            (approximate_inference.negative_entropy, (p * np.log(p)).sum(1)),
        ]:
            config = approximate_inference.Config(score, temperature=0.5)
            found = self.attack(KEY, known, config)
            np.testing.assert_allclose(
                np.exp(found.log_posterior[0]), softmax(expected / 0.5), rtol=1e-5
            )

    def test_a_radius_prefers_company(self):
        p = [[0.6, 0.4], [0.7, 0.3], [0.01, 0.99]]
        field = Candidates.of(0, [0.0, 1.0, 2.0])
        known = scores_of(p, 1, [1], field)
        assert self.attack(KEY, known).guess[0] == 2
        known = dataclasses.replace(
            known,
            candidates=dataclasses.replace(
                field, encodings=jnp.array([[0.0], [1], [2]])
            ),
        )
        near = approximate_inference.Config(radius=1.0, temperature=2.0)
        assert self.attack(KEY, known, near).guess[0] == 1

    def test_neighbors_are_that_far(self):
        x = jax.random.bernoulli(KEY, shape=(50, 12)).astype(jnp.float32)
        for distance in (0, 1, 5, 12):
            other = approximate_inference.neighbors(KEY, x, distance)
            np.testing.assert_array_equal(jnp.abs(other - x).sum(1), distance)
        with pytest.raises(ValueError, match="distance is 13"):
            approximate_inference.neighbors(KEY, x, 13)

    def test_what_it_cannot_measure_is_refused(self):
        known = scores_of(self.probabilities, 1, [0])
        many = Candidates.of(0, np.arange(5000.0))
        config = approximate_inference.Config(radius=1.0)
        with pytest.raises(ValueError, match="5,000 candidates"):
            wide = dataclasses.replace(known, candidates=many)
            approximate_inference.attack(KEY, wide, config)


class TestAttributeAdvantage:
    attack = staticmethod(jax.jit(attribute_advantage.attack))

    def known(self, outcome):
        weights = linear.Affine(jnp.array([[1.0], [0.0]]), jnp.zeros(1))
        field = Candidates.of(0, [0.0, 1.0, 2.0], [0.2, 0.5, 0.3])
        outcome = jnp.asarray(outcome, jnp.float32)
        records = jnp.zeros((len(outcome), 2))
        return PartialRecord(Oracle.of(linear.target(weights)), records, field, outcome)

    def test_takes_the_first_accepted_in_the_order_of_the_prior(self):
        config = attribute_advantage.Config(training=0.6)
        found = self.attack(KEY, self.known([0.5, 1.5, -0.1, 9.0]), config)
        np.testing.assert_array_equal(found.guess, [1, 1, 0, -1])
        expected = [[2 / 7, 5 / 7, 0], [0, 5 / 8, 3 / 8], [1, 0, 0], [0.2, 0.5, 0.3]]
        np.testing.assert_allclose(np.exp(found.log_posterior), expected, atol=1e-6)

    def test_advantages_are_those_of_normal_errors(self):
        rng = np.random.default_rng(0)
        train, test = rng.normal(0, 1, 10**6), rng.normal(0, 3, 10**6)
        for test_of, expected in [
            (
                attribute_advantage.within_deviation,
                attribute_advantage.unknown_deviation,
            ),
            (
                attribute_advantage.likelier_in_training,
                attribute_advantage.known_deviations,
            ),
        ]:
            accepted = [float(jnp.mean(test_of(e, 1.0, 3.0))) for e in (train, test)]
            advantage = float(expected(jnp.asarray(3.0)))
            np.testing.assert_allclose(accepted[0] - accepted[1], advantage, atol=3e-3)


class TestInfluenceGame:
    """Closed forms, within three in a hundred."""

    @staticmethod
    def gain(function, hidden, flip=0.0):
        config = influence_game.Config(flip)
        play = jax.jit(
            lambda key: influence_game.play(
                key, function, 8, hidden, config, trials=4000
            )
        )
        return float(play(KEY).mean()) - 0.5

    def test_a_dictators_bit(self):
        assert abs(self.gain(lambda x: x[:, 2], [2]) - 0.5) < 0.03
        assert abs(self.gain(lambda x: x[:, 2], [3])) < 0.03

    def test_a_parity(self):
        parity = lambda x: x.sum(1) % 2
        assert abs(self.gain(parity, [0]) - 0.5) < 0.03
        assert abs(self.gain(parity, [0, 5])) < 0.03

    def test_a_constant(self):
        assert abs(self.gain(lambda x: 0 * x[:, 0], [0])) < 0.03

    def test_noise(self):
        assert abs(self.gain(lambda x: x[:, 2], [2], flip=0.2) - 0.3) < 0.03

    def test_without_noise_half_the_influence_is_gained(self):
        majority = lambda x: (x[:, :3].sum(1) > 1.5).astype(jnp.float32)
        influence = influence_game.influence(majority, 8)
        np.testing.assert_allclose(influence, [0.5] * 3 + [0] * 5)
        assert abs(self.gain(majority, [1]) - influence[1] / 2) < 0.03


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(600, 6)).astype(np.float32)
    value = rng.integers(0, 3, 600)
    x[:, :3] = np.eye(3)[value]
    y = (0.2 * value + x[:, 3:] @ [0.3, -0.3, 0.2]).astype(np.float32)
    train, victims = jnp.asarray(x[:400]), jnp.asarray(x[400:])

    def learn(more_x, more_y):
        rows = jnp.concatenate([train, more_x])
        outcomes = jnp.concatenate([jnp.asarray(y[:400]), more_y])
        target = linear.target(linear.ridge(rows, outcomes, 1e-4))
        return target, target.predict(victims).logits[:, 0]

    field = Candidates.of([0, 1, 2], np.eye(3))
    known = PoisonedTraining(train, jnp.asarray(y[:400]), field, 1e-4, learn, 40)
    return known, value[400:]


class TestPoisonedRegression:
    def accuracy(self, world, poison):
        known, value = world
        config = poisoned_regression.Config(poison, steps=100)
        found = jax.jit(poisoned_regression.attack)(KEY, known, config)
        assert found.queries == 0
        return (np.asarray(found.guess) == value).mean()

    def test_poison_makes_the_field_readable(self, world):
        clean = self.accuracy(world, lambda key, k, c: (k.x[:1], k.y[:1]))
        corner = self.accuracy(world, poisoned_regression.corner)
        gradient = self.accuracy(world, poisoned_regression.gradient)
        assert clean + 0.03 < corner < gradient and gradient > 0.95

    def test_the_gradient_brings_the_model_to_the_field_alone(self, world):
        known, _ = world
        poison = jax.jit(poisoned_regression.gradient)
        target, _ = known.learn(*poison(KEY, known, poisoned_regression.Config()))
        weights = np.abs(np.asarray(target.params.weights[:, 0]))
        honest, _ = known.learn(known.x[:1], known.y[:1])
        others = np.abs(np.asarray(honest.params.weights[3:, 0]))
        assert weights[3:].max() < 0.1 * others.max()

    def test_rows_stay_in_the_box_of_the_data(self, world):
        known, _ = world
        config = poisoned_regression.Config(steps=5)
        for poison in (poisoned_regression.corner, poisoned_regression.gradient):
            x, y = jax.jit(poison)(KEY, known, config)
            assert x.shape == (40, 6) and y.shape == (40,)
            assert jnp.all(x >= known.x.min(0)[None] - 1e-6)
            assert jnp.all(x <= known.x.max(0)[None] + 1e-6)
            assert known.y.min() - 1e-6 <= y.min() and y.max() <= known.y.max() + 1e-6

    def test_a_field_that_does_not_matter_is_not_found(self):
        rng = np.random.default_rng(1)
        x = jnp.asarray(rng.uniform(size=(400, 6)), jnp.float32)
        y = x[:, 3] + 0.0

        def learn(more_x, more_y):
            del more_x, more_y  # The trainer leaves the poison out.
            target = linear.target(linear.ridge(x, y, 1e-4))
            return target, jnp.asarray(rng.uniform(size=200), jnp.float32)

        field = Candidates.of([0, 1, 2], np.eye(3), [0.3, 0.4, 0.3])
        blind = PoisonedTraining(x, y, field, 1e-4, learn, 40)
        found = jax.jit(poisoned_regression.attack)(KEY, blind)
        np.testing.assert_array_equal(found.guess, 1)
