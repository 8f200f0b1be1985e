"""Metrics against closed forms, independent references and planted failures."""

import ast
import pathlib

import jax.numpy as jnp
import numpy as np
import prdc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from mijax import metrics
from mijax.metrics import distribution, identity, images, intervals


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_metrics_stand_alone():
    for path in pathlib.Path(metrics.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert all(not x.name.startswith("mijax") for x in node.names)
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                assert node.module.partition(".")[0] != "mijax" or (
                    node.module == "mijax.metrics"
                )


class TestImages:
    def test_closed_forms(self):
        x = jnp.full((2, 8, 8, 3), 0.5)
        x_hat = x + jnp.array([0.1, 0.01]).reshape(2, 1, 1, 1)
        np.testing.assert_allclose(images.mse(x, x_hat), [1e-2, 1e-4], rtol=1e-4)
        np.testing.assert_allclose(images.psnr(x, x_hat), [20, 40], rtol=1e-4)

    def test_identical_images_are_finite(self):
        x = jnp.linspace(0, 1, 2 * 12 * 12).reshape(2, 12, 12, 1)
        np.testing.assert_allclose(images.mse(x, x), 0)
        np.testing.assert_allclose(images.psnr(x, x), 100)
        np.testing.assert_allclose(images.ssim(x, x), 1, atol=5e-6)

    def test_nan_stays_with_its_image(self):
        x = jnp.zeros((2, 12, 12, 1))
        x_hat = x.at[1, 3, 3, 0].set(jnp.nan)
        for metric in (images.mse, images.psnr, images.ssim):
            assert np.isnan(metric(x, x_hat)).tolist() == [False, True]

    def test_ssim_of_constants(self):
        x, x_hat = jnp.full((1, 11, 11, 1), 0.2), jnp.full((1, 11, 11, 1), 0.6)
        expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
        np.testing.assert_allclose(images.ssim(x, x_hat), expected, rtol=1e-3)

    @pytest.mark.parametrize("window", [images.GAUSSIAN_11, images.UNIFORM_7])
    def test_ssim_equals_a_loop_over_windows(self, rng, window):
        x = rng.random((2, 13, 15, 2))
        x_hat = np.clip(x + 0.2 * rng.standard_normal(x.shape), 0, 1)
        weights = np.outer(window, window)
        size = len(window)
        assert weights.sum() == pytest.approx(1)
        expected = np.zeros(2)
        for b in range(2):
            local = []
            for c in range(2):
                for i in range(13 - size + 1):
                    for j in range(15 - size + 1):
                        u = x[b, i : i + size, j : j + size, c]
                        v = x_hat[b, i : i + size, j : j + size, c]
                        mu, nu = (weights * u).sum(), (weights * v).sum()
                        uu = (weights * (u - mu) ** 2).sum()
                        vv = (weights * (v - nu) ** 2).sum()
                        uv = (weights * (u - mu) * (v - nu)).sum()
                        local.append(
                            (2 * mu * nu + 1e-4)
                            * (2 * uv + 9e-4)
                            / ((mu**2 + nu**2 + 1e-4) * (uu + vv + 9e-4))
                        )
            expected[b] = np.mean(local)
        got = images.ssim(x.astype(np.float32), x_hat.astype(np.float32), window)
        np.testing.assert_allclose(got, expected, atol=2e-5)

    def test_bad_shapes(self):
        x = jnp.zeros((2, 8, 8, 1))
        with pytest.raises(ValueError, match=r"\(2, 8, 8, 1\).*\(1, 8, 8, 1\)"):
            images.mse(x, x[:1])
        with pytest.raises(ValueError, match="smaller than the window"):
            images.ssim(x, x)


class TestTopK:
    def test_planted(self):
        logits = np.array([[3, 2, 1, 0], [3, 2, 1, 0], [0, 1, 2, 3]])
        labels = np.array([0, 1, 0])
        assert identity.top_k(logits, labels, 1).tolist() == [1, 0, 0]
        assert identity.top_k(logits, labels, 2).tolist() == [1, 1, 0]
        assert identity.top_k(logits, labels, 4).tolist() == [1, 1, 1]

    def test_ties_confirm_nothing(self):
        assert not identity.top_k(np.zeros((3, 5)), np.arange(3), 4).any()

    def test_nan_has_no_verdict(self):
        logits = np.array([[np.nan, 0.0], [1.0, 0.0], [-np.inf, 0.0]])
        verdicts = identity.top_k(logits, np.array([1, 0, 1]), 1)
        np.testing.assert_array_equal(verdicts, [np.nan, 1, 1])

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_never_falls_with_k(self, seed):
        rng = np.random.default_rng(seed)
        logits, labels = rng.integers(0, 4, (6, 7)), rng.integers(0, 7, 6)
        hits = [identity.top_k(logits, labels, k) for k in range(1, 8)]
        assert (np.diff(hits, axis=0) >= 0).all() and hits[-1].all()

    def test_bad_input(self):
        logits = np.zeros((2, 3))
        with pytest.raises(ValueError, match="labels from 0 to 3"):
            identity.top_k(logits, np.array([0, 3]), 1)
        with pytest.raises(ValueError, match="k = 4"):
            identity.top_k(logits, np.array([0, 1]), 4)
        with pytest.raises(ValueError, match="labels"):
            identity.top_k(logits, np.array([0, 1, 2]), 1)
        with pytest.raises(ValueError, match="float"):
            identity.top_k(logits, np.array([0.0, 1.0]), 1)

    def test_any_of_k_is_another_metric(self):
        hits = np.array([[0, 0, 1], [0, 0, 0], [1, 1, 1]])
        assert identity.any_of_k(hits).tolist() == [1, 0, 1]
        assert np.isnan(identity.any_of_k([[0, np.nan]])).all()
        with pytest.raises(ValueError, match="hits"):
            identity.any_of_k([0, 1])


class TestDistances:
    reference = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 10.0]])
    people = np.array([0, 0, 1])

    def test_planted(self):
        features = np.array([[3.0, 0.0], [3.0, 0.0]])
        arguments = (features, self.reference, np.array([0, 1]), self.people)
        np.testing.assert_allclose(identity.knn_distance(*arguments), [1, 109])
        np.testing.assert_allclose(identity.feature_distance(*arguments), [1, 109])
        assert identity.identity_1nn(*arguments).tolist() == [1, 0]
        found = identity.nearest_neighbor(features, self.reference, self.people)
        assert found.tolist() == [0, 0]

    def test_squared_and_to_the_centroid(self):
        features, labels = np.array([[0.0, 0.0]]), np.array([0])
        arguments = (features, self.reference, labels, self.people)
        np.testing.assert_allclose(identity.knn_distance(*arguments), 0)
        np.testing.assert_allclose(identity.feature_distance(*arguments), 4)

    def test_equal_to_double_loops(self, rng):
        features = rng.standard_normal((9, 5)).astype(np.float32)
        reference = rng.standard_normal((20, 5)).astype(np.float32)
        labels, people = rng.integers(0, 3, 9), np.arange(20) % 4
        nearest, center, hit = [], [], []
        for x, label in zip(features, labels, strict=True):
            to_all = [float(((x - r) ** 2).sum()) for r in reference]
            same = [i for i in range(20) if people[i] == label]
            nearest.append(min(to_all[i] for i in same))
            center.append(((x - reference[same].mean(0)) ** 2).sum())
            hit.append(people[int(np.argmin(to_all))] == label)
        arguments = (features, reference, labels, people)
        np.testing.assert_allclose(
            identity.knn_distance(*arguments), nearest, rtol=1e-5
        )
        np.testing.assert_allclose(
            identity.feature_distance(*arguments), center, rtol=1e-5
        )
        np.testing.assert_array_equal(identity.identity_1nn(*arguments), hit)

    def test_nothing_in_the_features_gives_chance(self, rng):
        people = np.repeat(np.arange(10), 20)
        arguments = rng.standard_normal((2, 200, 8))
        hits = identity.identity_1nn(*arguments, people, people)
        interval = intervals.proportion(hits)
        assert interval.low < 0.1 < interval.high

    @pytest.mark.parametrize(
        "metric",
        [identity.knn_distance, identity.feature_distance, identity.identity_1nn],
    )
    def test_failures_are_named(self, metric):
        reference, people = self.reference, self.people
        features = np.array([[0.0, 1.0], [np.nan, 0.0]])
        values = metric(features, reference, np.array([0, 0]), people)
        assert np.isnan(values).tolist() == [False, True]
        with pytest.raises(ValueError, match=r"no reference image.*7"):
            metric(features, reference, np.array([0, 7]), people)
        with pytest.raises(ValueError, match="reference is not finite"):
            metric(features, reference + np.inf, np.array([0, 0]), people)
        with pytest.raises(ValueError, match="3 dimensions"):
            metric(np.zeros((2, 3)), reference, np.array([0, 0]), people)
        with pytest.raises(ValueError, match="reference_labels"):
            metric(features, reference, np.array([0, 0]), people[:2])

    def test_nearest_neighbor_of_nan(self):
        with pytest.raises(ValueError, match="nearest to a NaN"):
            identity.nearest_neighbor([[np.nan, 0]], self.reference, self.people)


class TestDistribution:
    def test_frechet_is_zero_for_itself(self, rng):
        real = rng.standard_normal((50, 6))
        assert distribution.frechet_distance(real, real) == pytest.approx(0, abs=1e-8)

    def test_frechet_of_a_shift_and_a_scale(self, rng):
        real = rng.standard_normal((50, 6))
        shifted = distribution.frechet_distance(real, real + 2)
        assert shifted == pytest.approx(6 * 4)
        center = real.mean(axis=0)
        scaled = distribution.frechet_distance(real, center + 3 * (real - center))
        assert scaled == pytest.approx(4 * np.trace(np.cov(real.T)))

    def test_frechet_equals_the_square_root_formula(self, rng):
        real = rng.standard_normal((80, 5)) @ rng.standard_normal((5, 5))
        fake = rng.standard_normal((60, 5)) @ rng.standard_normal((5, 5)) + 0.3
        one, two = np.cov(real.T), np.cov(fake.T)
        root = np.real(linalg.sqrtm(one @ two))
        expected = np.square(real.mean(0) - fake.mean(0)).sum()
        expected += np.trace(one + two - 2 * root)
        assert distribution.frechet_distance(real, fake) == pytest.approx(expected)
        assert distribution.frechet_distance(fake, real) == pytest.approx(expected)

    def test_frechet_does_not_depend_on_declared_range(self, rng):
        real, fake = rng.random((2, 40, 4))
        in_bytes = distribution.frechet_distance(255 * real, 255 * fake)
        assert in_bytes == pytest.approx(
            255**2 * distribution.frechet_distance(real, fake)
        )

    @pytest.mark.parametrize(("n", "m"), [(6, 50), (50, 6)])
    def test_frechet_refuses_too_few(self, rng, n, m):
        real, fake = rng.random((n, 6)), rng.random((m, 6))
        with pytest.raises(ValueError, match=r"6 (real|fake) images.*at least 7"):
            distribution.frechet_distance(real, fake)

    @pytest.mark.parametrize("k", [3, 5])
    @pytest.mark.parametrize(("n", "m"), [(60, 25), (25, 60), (40, 40)])
    def test_prdc_equals_the_package(self, rng, capsys, n, m, k):
        real, fake = rng.standard_normal((n, 4)), 1.2 * rng.standard_normal((m, 4))
        expected = prdc.compute_prdc(real, fake, k)
        got = distribution.precision_recall_density_coverage(real, fake, k)
        assert got.precision.shape == got.density.shape == (m,)
        assert got.recall.shape == got.coverage.shape == (n,)
        for name, value in expected.items():
            assert getattr(got, name).mean() == pytest.approx(value, abs=1e-6)
        assert 0 < expected["precision"] < 1 or 0 < expected["recall"] < 1

    def test_prdc_of_strangers_is_zero(self, rng):
        real = rng.random((20, 3))
        far = distribution.precision_recall_density_coverage(real, real + 100)
        assert all(not verdicts.any() for verdicts in far)

    def test_bad_input(self, rng):
        real = rng.random((20, 3))
        hole = real.copy()
        hole[4, 0] = np.nan
        for metric in (
            distribution.frechet_distance,
            distribution.precision_recall_density_coverage,
        ):
            with pytest.raises(ValueError, match=r"fake.*finite for 19 of 20"):
                metric(real, hole)
            with pytest.raises(ValueError, match="one feature space"):
                metric(real, real[:, :2])
        with pytest.raises(ValueError, match="k = 20"):
            distribution.precision_recall_density_coverage(real, real, 20)


class TestIntervals:
    def test_mean_agrees_with_the_normal_interval(self, rng):
        values = rng.standard_normal(400)
        interval = intervals.mean(values)
        half = 1.96 * values.std() / 20
        assert interval.value == pytest.approx(values.mean())
        assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
        assert interval.high == pytest.approx(values.mean() + half, abs=0.02)
        assert interval.n == 400
        assert intervals.mean(values) == interval  # one seed, one interval

    def test_restarts_are_not_more_victims(self, rng):
        victims = rng.standard_normal(30)
        alone = intervals.mean(victims)
        copies, names = np.repeat(victims, 8), np.repeat(np.arange(30), 8)
        together = intervals.mean(copies, clusters=names)
        assert together[:3] == pytest.approx(alone[:3])
        naive = intervals.mean(copies)
        assert naive.high - naive.low < 0.6 * (together.high - together.low)

    def test_unequal_clusters_keep_the_mean(self, rng):
        values, names = rng.random(9), np.array([0, 0, 0, 0, 1, 1, 2, 3, 3])
        interval = intervals.mean(values, clusters=names)
        assert interval.value == pytest.approx(values.mean())
        assert interval.low <= interval.value <= interval.high

    @pytest.mark.parametrize("successes", [0, 1, 8, 10])
    def test_wilson_equals_scipy(self, successes):
        hits = np.arange(10) < successes
        interval = intervals.proportion(hits)
        expected = stats.binomtest(successes, 10).proportion_ci(method="wilson")
        assert interval == pytest.approx((successes / 10, *expected, 10), abs=1e-12)
        each_alone = intervals.proportion(hits, clusters=np.arange(10))
        assert each_alone[:2] == pytest.approx(interval[:2], abs=0.02)

    def test_no_success_is_not_certainty(self):
        interval = intervals.proportion(np.zeros(20))
        assert interval.low == 0 and interval.high > 0.1
        by_victim = intervals.proportion(
            np.zeros(100), clusters=np.repeat(np.arange(20), 5)
        )
        assert by_victim[:3] == pytest.approx(interval[:3]) and by_victim.n == 100

    def test_restarts_that_agree_are_one_trial(self):
        hits, names = np.repeat([1, 0, 0, 1, 0] * 8, 4), np.repeat(np.arange(40), 4)
        by_victim = intervals.proportion(hits, clusters=names)
        alone = intervals.proportion(hits[::4])
        assert by_victim[:3] == pytest.approx(alone[:3], abs=0.01)
        unlike = intervals.proportion(hits, clusters=np.tile(np.arange(32), 5))
        assert unlike.high - unlike.low < by_victim.high - by_victim.low

    def test_leakage_closed_forms(self, rng):
        baseline = rng.random(50)
        assert intervals.leakage(baseline, baseline, 1.0)[:3] == (0, 0, 0)
        full = intervals.leakage(np.ones(50), baseline, 1.0)
        assert full[:3] == pytest.approx((1, 1, 1))
        # Half of the way at every victim; low is good here, as with a distance.
        half = intervals.leakage(baseline / 2, baseline, 0.0)
        assert half[:3] == pytest.approx((0.5, 0.5, 0.5))
        assert intervals.leakage(np.zeros(50), baseline, 1.0).value < 0

    def test_pairing_narrows_leakage(self, rng):
        baseline = rng.random(200)
        attack = np.clip(baseline + 0.1 + 0.01 * rng.standard_normal(200), 0, 1)
        paired = intervals.leakage(attack, baseline, 1.0)
        apart = intervals.leakage(attack, baseline[:199], 1.0)
        assert paired.value == pytest.approx(apart.value, abs=0.02)
        assert paired.high - paired.low < (apart.high - apart.low) / 2
        number = intervals.leakage(attack, baseline.mean(), np.ones(200))
        assert number.value == pytest.approx(paired.value)

    def test_leakage_by_victim(self, rng):
        hits = rng.integers(0, 2, 12)
        alone = intervals.leakage(hits, 0.1, 1.0)
        names = np.repeat(np.arange(12), 5)
        copies = intervals.leakage(np.repeat(hits, 5), 0.1, 1.0, clusters=names)
        assert copies[:3] == pytest.approx(alone[:3])
        with pytest.raises(ValueError, match="for each victim first"):
            intervals.leakage(hits, np.zeros(5), 1.0, clusters=np.arange(12))

    def test_coverage_of_the_intervals(self):
        hits = {intervals.mean: 0, intervals.proportion: 0}
        for seed in range(300):
            rng = np.random.default_rng(seed)
            person = rng.random(40)
            values = (rng.random((40, 5)) < person[:, None]).astype(float).ravel()
            names = np.repeat(np.arange(40), 5)
            for interval in hits:
                found = interval(values, clusters=names)
                hits[interval] += found.low <= 0.5 <= found.high
        assert all(0.9 <= count / 300 <= 0.98 for count in hits.values())

    def test_bad_input(self):
        with pytest.raises(ValueError, match="3 attempted, 2 finite"):
            intervals.mean([1.0, np.nan, 2.0])
        with pytest.raises(ValueError, match="3 attempted, 2 finite"):
            intervals.leakage([1.0, np.inf, 2.0], 0, 1)
        with pytest.raises(ValueError, match="at least two"):
            intervals.mean([1.0])
        with pytest.raises(ValueError, match="at least two"):
            intervals.mean([1.0, 2.0], clusters=[3, 3])
        with pytest.raises(ValueError, match="clusters"):
            intervals.mean([1.0, 2.0], clusters=[3])
        with pytest.raises(ValueError, match="0 or 1"):
            intervals.proportion([0.5])
        with pytest.raises(ValueError, match="at least 1"):
            intervals.proportion([])
        with pytest.raises(ValueError, match="already perfect"):
            intervals.leakage([0, 1], 1.0, 1.0)
        with pytest.raises(ValueError, match="perfect in some resamples"):
            intervals.leakage([0.0, 1.0], [0.0, 1.0], 1.0)
        with pytest.raises(ValueError, match="perfect"):
            intervals.leakage([0.0, 1.0, 1.0], 0.0, [1.0, 1.0])


def test_students_interval_is_that_of_the_tables():
    value, low, high, n = intervals.student([1.0, 2.0, 3.0])
    half = 4.302653 / np.sqrt(3)  # t of 2 degrees of freedom at 0.975
    assert (value, n) == (2.0, 3)
    np.testing.assert_allclose([low, high], [2 - half, 2 + half], atol=1e-6)
    assert intervals.student([5.0, 5.0])[:3] == (5.0, 5.0, 5.0)
    with pytest.raises(ValueError, match="at least two values"):
        intervals.student([1.0])


def test_the_inception_score_is_1_of_one_class_and_k_of_all():
    sure = 50 * np.eye(4)
    assert distribution.inception_score(sure) == pytest.approx(4)
    assert distribution.inception_score(sure[[2, 2, 2]]) == pytest.approx(1)
    assert distribution.inception_score(0 * sure) == pytest.approx(1)
    assert distribution.inception_score(sure[[0, 0, 1, 1]]) == pytest.approx(2)


class TestRankCorrelation:
    def test_is_spearmans_and_holds_what_was_planted(self, rng):
        x = rng.normal(size=60)
        found = intervals.rank_correlation(x, np.exp(x))
        assert found[:3] == pytest.approx((1, 1, 1)) and found.n == 60
        y = x + rng.normal(size=60)
        found = intervals.rank_correlation(x, y)
        assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
        assert 0 < found.low < found.value < found.high < 1
        null = intervals.rank_correlation(x, rng.normal(size=60))
        assert null.low < 0 < null.high

    def test_repeats_of_one_setting_are_not_independent(self, rng):
        x, y = rng.normal(size=12), rng.normal(size=12)
        alone = intervals.rank_correlation(x, y)
        names = np.repeat(np.arange(12), 4)
        fourfold = np.repeat(x, 4), np.repeat(y, 4)
        clustered = intervals.rank_correlation(*fourfold, clusters=names)
        assert clustered[:3] == pytest.approx(alone[:3], abs=0.02)
        naive = intervals.rank_correlation(*fourfold)
        assert naive.high - naive.low < 0.7 * (alone.high - alone.low)

    def test_what_has_no_ranks(self):
        with pytest.raises(ValueError, match="has one value"):
            intervals.rank_correlation([1, 2, 3], [4, 4, 4])
        with pytest.raises(ValueError, match="at least three clusters: got 2"):
            intervals.rank_correlation([1, 2, 3], [4, 5, 6], clusters=[0, 0, 1])
        with pytest.raises(ValueError, match="3 values and y 2"):
            intervals.rank_correlation([1, 2, 3], [4, 5])
