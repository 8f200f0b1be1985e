"""Defenses of what a client shares: each promise, and that a broken one is noticed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, stats

from mijax import federation
from mijax.core import Prediction, Target
from mijax.defenses import (
    chain,
    clipping,
    dp_sgd,
    noise,
    pruning,
    quantization,
    soteria,
)

UPDATE = {
    "conv": jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4)), jnp.float32),
    "dense": {"bias": jnp.array([0.5, -2.0, 0.0]), "kernel": jnp.ones((5, 3))},
}
RECIPE = federation.Recipe()
DEFENSES = {
    "gaussian": noise.gaussian(0.1),
    "laplace": noise.laplace(0.1),
    "clip_update": clipping.clip_update(0.1),
    "clip_examples": clipping.clip_examples(0.1),
    "prune": pruning.prune(0.5),
    "prune_layers": pruning.prune_layers(0.5),
    "threshold": pruning.threshold(0.01),
    "sign": quantization.sign(),
    "stochastic": quantization.stochastic(4),
    "dp_sgd": dp_sgd.dp_sgd(0.1, 1.0, 2),
}


def apply(defense, updates, key=None):
    """The update as it is shared."""
    transformation = optax.with_extra_args_support(defense.update)
    extra = {} if key is None else {"key": key}
    return transformation.update(updates, transformation.init(updates), **extra)[0]


def client(tree, i):
    """What client `i` shared."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def share(target, x, labels, defense, key=0):
    key = jax.random.key(key)
    return federation.share(key, RECIPE, target, x, labels, defense).change


@pytest.fixture(scope="module")
def batch():
    """Three clients of two examples each."""
    x = jax.random.uniform(jax.random.key(9), (3, 2, 8, 8, 1))
    return x, jnp.array([[0, 1], [2, 2], [1, 0]])


class TestEveryDefense:
    def test_none_changes_nothing(self, target, batch):
        bare = federation.share(jax.random.key(0), RECIPE, target, *batch).change
        chained = share(target, *batch, chain())
        np.testing.assert_allclose(flat(chained), flat(bare), rtol=1e-5, atol=1e-8)

    def test_each_changes_each_client(self, target, batch):
        @jax.jit
        def defended(target, x, labels):
            everyone = {"none": chain()} | DEFENSES
            return {n: share(target, x, labels, d) for n, d in everyone.items()}

        shared = defended(target, *batch)
        gradient = shared.pop("none")
        for name, tree in shared.items():
            for i in range(3):
                own = flat(client(tree, i))
                assert np.isfinite(own).all(), name
                assert not np.allclose(own, flat(client(gradient, i)), rtol=1e-3), name

    def test_a_client_is_defended_alike_alone_and_among_others(self):
        updating = {n: d for n, d in DEFENSES.items() if d.update is not None}

        @jax.jit
        def defended(tree, key):
            return {name: apply(d, tree, key) for name, d in updating.items()}

        trees = jax.tree.map(lambda leaf: jnp.stack([leaf, -0.3 * leaf]), UPDATE)
        keys = jax.random.split(jax.random.key(1))
        together = jax.jit(jax.vmap(defended))(trees, keys)
        for i in range(2):
            alone = defended(client(trees, i), keys[i])
            np.testing.assert_allclose(
                flat(client(together, i)), flat(alone), rtol=1e-6
            )


class TestNoise:
    LARGE = {"a": jnp.zeros((300, 20)), "b": jnp.full((4000,), 3.0)}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("make", "law"), [(noise.gaussian, stats.norm), (noise.laplace, stats.laplace)]
    )
    def test_the_scale_is_right_and_half_of_it_is_not(self, make, law):
        shared = apply(make(0.2), self.LARGE, jax.random.key(0))
        drawn = flat(jax.tree.map(jnp.subtract, shared, self.LARGE))
        assert stats.kstest(drawn, law(scale=0.2).cdf).pvalue > 0.01
        for wrong in (0.1, 0.4):
            assert stats.kstest(drawn, law(scale=wrong).cdf).pvalue < 1e-9

    def test_clients_rounds_and_seeds_draw_their_own(self):
        defense, other = noise.gaussian(1.0), noise.gaussian(1.0, seed=1)
        keys = jax.random.split(jax.random.key(0))
        zeros = {"a": jnp.zeros(50)}
        draws = [
            flat(apply(d, zeros, key))
            for d in (defense, other)
            for key in (*keys, None)
        ]
        assert len({draw.tobytes() for draw in draws}) == len(draws)
        assert np.abs(np.corrcoef(draws) - np.eye(6)).max() < 0.6
        again = flat(apply(defense, zeros, keys[0]))
        np.testing.assert_array_equal(draws[0], again)

        state = defense.update.init(zeros)
        first, state = defense.update.update(zeros, state)
        second, _ = defense.update.update(zeros, state)
        assert not np.array_equal(first["a"], second["a"])

    def test_clients_of_one_round_draw_their_own(self, target, batch):
        same = jax.tree.map(lambda leaf: jnp.repeat(leaf[:1], 3, 0), batch)
        noisy = share(target, *same, noise.gaussian(1.0))
        first, second = flat(client(noisy, 0)), flat(client(noisy, 1))
        assert not np.allclose(first, second)

    @pytest.mark.parametrize("make", [noise.gaussian, noise.laplace])
    def test_refuses_a_negative_scale(self, make):
        with pytest.raises(
            ValueError, match=r"(scale|deviation) is -1.0: .* 0 or more"
        ):
            make(-1.0)


class TestClipping:
    @pytest.mark.parametrize("norm", [1e-3, 0.5, 3.0])
    def test_no_update_is_longer(self, norm):
        shared = flat(apply(clipping.clip_update(norm), UPDATE))
        assert np.linalg.norm(shared) <= norm * (1 + 1e-6)
        original = flat(UPDATE)
        cosine = shared @ original / np.linalg.norm(shared) / np.linalg.norm(original)
        assert cosine == pytest.approx(1, abs=1e-6)

    def test_a_short_update_is_left_alone(self):
        shared = apply(clipping.clip_update(1e3), UPDATE)
        np.testing.assert_array_equal(flat(shared), flat(UPDATE))

    def test_an_update_that_is_not_finite_is_none(self):
        broken = jax.tree.map(
            lambda leaf: leaf.at[(0,) * leaf.ndim].set(jnp.inf), UPDATE
        )
        assert not np.any(flat(apply(clipping.clip_update(1.0), broken)))

    def test_no_example_is_longer_whatever_it_holds(self):
        rows = [0.1, 1.0, 1e4, 1e30, jnp.inf, jnp.nan, 0.0]
        gradients = {
            "a": jnp.stack([jnp.full((4,), row) for row in rows]),
            "b": jnp.ones((len(rows), 2, 3)),
        }
        clipped = clipping.clip_examples(0.5).example_gradient(gradients)
        lengths = [np.linalg.norm(flat(client(clipped, i))) for i in range(len(rows))]
        assert np.max(lengths) <= 0.5 * (1 + 1e-6)
        np.testing.assert_allclose(lengths[:3], 0.5, rtol=1e-6)
        assert lengths[4] == lengths[5] == 0

    def test_short_examples_keep_their_bits(self):
        gradients = jax.random.normal(jax.random.key(0), (3, 7))
        kept = clipping.clip_examples(1e3).example_gradient(gradients)
        np.testing.assert_array_equal(kept, gradients)

    @pytest.mark.parametrize("make", [clipping.clip_update, clipping.clip_examples])
    @pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
    def test_refuses_a_norm_that_is_none(self, make, norm):
        with pytest.raises(ValueError, match=r"clipping norm is .* above 0"):
            make(norm)


class TestPruning:
    @pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.9, 0.99, 1.0])
    def test_exactly_so_many_are_kept(self, rate):
        shared, original = flat(apply(pruning.prune(rate), UPDATE)), flat(UPDATE)
        kept = original.size - int(rate * original.size)
        # One of the numbers is 0 itself.
        assert np.count_nonzero(shared) == min(kept, np.count_nonzero(original))
        np.testing.assert_array_equal(shared[shared != 0], original[shared != 0])
        if 0 < rate < 1:
            assert (
                np.abs(original[shared == 0]).max() <= np.abs(shared[shared != 0]).min()
            )

    @pytest.mark.parametrize("size", [100, 1000, 10**5])
    def test_a_rate_that_no_float_holds_drops_as_many_as_asked(self, size):
        ones = {"a": jnp.ones(size)}
        kept = jax.jit(lambda rate: jnp.sum(apply(pruning.prune(rate), ones)["a"]))
        for percent in (7, 14, 28, 29, 55, 56, 57, 58):
            expected = size * (100 - percent) // 100
            assert kept(percent / 100) == expected
            assert kept(np.float32(percent / 100)) == expected
        assert kept(0.299) == size - int(29.9 * size / 100)

    def test_exactly_so_many_of_each_layer(self):
        shared = apply(pruning.prune_layers(0.6), UPDATE)
        assert np.count_nonzero(shared["conv"]) == 36 - 21
        # All fifteen are equal: the first six stay.
        np.testing.assert_array_equal(
            shared["dense"]["kernel"].ravel(), [1] * 6 + [0] * 9
        )
        np.testing.assert_array_equal(shared["dense"]["bias"], [0.5, -2.0, 0.0])
        harder = apply(pruning.prune_layers(0.7), UPDATE)["dense"]["bias"]
        np.testing.assert_array_equal(harder, [0.0, -2.0, 0.0])

    def test_threshold(self):
        shared = apply(pruning.threshold(0.6), UPDATE)
        np.testing.assert_array_equal(shared["dense"]["bias"], [0.0, -2.0, 0.0])
        np.testing.assert_array_equal(shared["dense"]["kernel"], 1)

    @pytest.mark.parametrize("make", [pruning.prune, pruning.prune_layers])
    def test_refuses_a_rate_that_is_none(self, make):
        with pytest.raises(ValueError, match=r"rate is 1.5: it must be in \[0, 1\]"):
            make(1.5)


class TestQuantization:
    def test_sign(self):
        shared = apply(quantization.sign(), UPDATE)
        mean = 2.5 / 3
        np.testing.assert_allclose(shared["dense"]["bias"], [mean, -mean, 0])

    def test_levels(self):
        shared = apply(quantization.stochastic(4), UPDATE, jax.random.key(0))
        step = np.abs(UPDATE["conv"]).max() / 4
        levels = np.asarray(shared["conv"]) / step
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-5)
        assert np.abs(shared["conv"] - UPDATE["conv"]).max() <= step * (1 + 1e-5)
        assert np.abs(levels).max() <= 4 + 1e-5

    def test_right_on_average(self):
        keys = jax.random.split(jax.random.key(0), 4000)
        shared = jax.vmap(lambda k: apply(quantization.stochastic(2), UPDATE, k))(keys)
        step = np.abs(UPDATE["conv"]).max() / 2
        error = np.asarray(shared["conv"]).mean(0) - UPDATE["conv"]
        assert np.abs(error).max() < 5 * step / 2 / np.sqrt(4000)

    def test_zero_stays_zero(self):
        zeros = {"a": jnp.zeros(3)}
        for defense in (quantization.sign(), quantization.stochastic(4)):
            np.testing.assert_array_equal(apply(defense, zeros)["a"], 0)


class TestDPSGD:
    NORM, MULTIPLIER = 0.5, 3.0

    def adversarial(self):
        """Examples that each pull the sum as far as they can."""
        far = 1e6 * jax.random.normal(jax.random.key(0), (8, 40))
        return {"a": far.at[1].set(-far[0]).at[2].set(jnp.inf)}

    def test_one_example_changes_the_sum_by_at_most_the_norm(self):
        clip = dp_sgd.dp_sgd(self.NORM, 1.0, 8).example_gradient
        batch = self.adversarial()
        whole = 8 * clip(batch)["a"].mean(0)
        for i in range(8):
            others = {"a": jnp.delete(batch["a"], i, axis=0)}
            change = np.linalg.norm(whole - 8 * clip(others)["a"].mean(0))
            assert change <= self.NORM * (1 + 1e-5)

    @pytest.mark.parametrize("number", [1, 5])
    def test_divides_by_the_expected_size_whatever_came(self, number):
        clip = dp_sgd.dp_sgd(self.NORM, 1.0, 100).example_gradient
        ones = {"a": jnp.ones((number, 4))}  # of length 2, so that all are clipped
        length = np.linalg.norm(clip(ones)["a"].mean(0))
        np.testing.assert_allclose(length, number * self.NORM / 100, rtol=1e-5)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"local_steps": 2}, "local_steps=2"),
            ({"share_statistics": True}, "share_statistics=False"),
            ({"train": True}, "train=False"),
        ],
    )
    def test_what_would_pass_by_it_is_refused(self, target, batch, changes, message):
        defense = dp_sgd.dp_sgd(1.0, 1.0, 2)
        with pytest.raises(ValueError, match=message):
            federation.share(
                jax.random.key(0),
                federation.Recipe(**changes),
                target,
                *batch,
                defense,
            )

    @pytest.mark.parametrize("size", [1, 16])
    def test_noise_is_of_the_sum_before_it_is_divided(self, size):
        defense = dp_sgd.dp_sgd(self.NORM, self.MULTIPLIER, size)
        mean = {"a": jnp.zeros(20_000)}
        of_sum = size * flat(apply(defense, mean, jax.random.key(0)))
        scale = self.NORM * self.MULTIPLIER
        assert stats.kstest(of_sum, stats.norm(scale=scale).cdf).pvalue > 0.01
        for wrong in (scale / 2, scale * size if size > 1 else 2 * scale):
            assert stats.kstest(of_sum, stats.norm(scale=wrong).cdf).pvalue < 1e-9

    def test_as_a_client_shares_it(self, target, batch):
        x, labels = batch
        defense = dp_sgd.dp_sgd(1e-3, 0.0, 2)
        shared = share(target, x, labels, defense)
        for i in range(3):
            length = np.linalg.norm(flat(client(shared, i)))
            assert length <= 1e-3 * (1 + 1e-5)

    @pytest.mark.parametrize("multiplier", [0.5, 1.0, 4.0])
    def test_epsilon_of_one_update_is_the_closed_form(self, multiplier):
        pytest.importorskip("dp_accounting")
        delta = 1e-5

        def excess(epsilon):  # Balle and Wang 2018, theorem 8
            a, b = 1 / (2 * multiplier), epsilon * multiplier
            return (
                stats.norm.cdf(a - b) - np.exp(epsilon) * stats.norm.cdf(-a - b) - delta
            )

        closed = optimize.brentq(excess, 0, 50)
        found = dp_sgd.epsilon(multiplier, 1.0, 1, delta)
        assert found == pytest.approx(closed, rel=1e-3)

    def test_epsilon_of_a_known_training(self):
        pytest.importorskip("dp_accounting")
        # TensorFlow Privacy's tutorial: 60,000 examples, batch 250, noise 1.3, 15
        # epochs, delta 1e-5 is about 1.18 by Rényi's bound; this one is tighter.
        epsilon = dp_sgd.epsilon(1.3, 250 / 60_000, 3600, 1e-5)
        assert 0.8 < epsilon < 1.18
        assert dp_sgd.epsilon(1.3, 250 / 60_000, 36, 1e-5) < epsilon
        assert dp_sgd.epsilon(2.6, 250 / 60_000, 3600, 1e-5) < epsilon

    def test_no_noise_guarantees_nothing(self):
        pytest.importorskip("dp_accounting")
        assert dp_sgd.epsilon(0.0, 0.1, 10, 1e-5) == np.inf

    @pytest.mark.parametrize(
        "arguments", [(-1.0, 0.1, 1, 0.1), (1.0, 2.0, 1, 0.1), (1.0, 0.1, 1, 0.0)]
    )
    def test_refuses_what_is_out_of_range(self, arguments):
        with pytest.raises(ValueError, match=r"noise multiplier|probabilities"):
            dp_sgd.epsilon(*arguments)

    def test_refuses_an_infinite_norm_and_noise(self):
        with pytest.raises(ValueError, match="clipping norm is inf: it must be"):
            dp_sgd.dp_sgd(np.inf, 1.0, 2)
        with pytest.raises(ValueError, match="noise_multiplier is inf: it must be"):
            dp_sgd.dp_sgd(1.0, np.inf, 2)
        with pytest.raises(ValueError, match="noise multiplier is nan: it must be"):
            dp_sgd.epsilon(np.nan, 0.1, 1, 0.1)

    def test_refuses_no_batch(self):
        with pytest.raises(ValueError, match="batch_size is 0"):
            dp_sgd.dp_sgd(1.0, 1.0, 0)


class TestSoteria:
    # Feature i is its weight times the mean pixel of an image.
    WEIGHTS = jnp.array([4.0, 0.1, 3.0, 0.2, 2.0])

    def features(self, x):
        return jnp.mean(x, (1, 2))[:, :1] * self.WEIGHTS[None]

    def model(self):
        def function(params, x):
            features = self.features(x)
            logits = (
                features @ params["logits"]["kernel"] + params["logits"]["bias"][None]
            )
            return Prediction(logits, features)

        kernel = jax.random.normal(jax.random.key(0), (5, 3))
        params = {"logits": {"kernel": kernel, "bias": jnp.zeros(3)}}
        return Target.from_function(function, params, (4, 4, 1))

    def test_hides_the_features_that_barely_move(self):
        # |dr/dx| = w / 4 and r = w / 2, so the score grows with w.
        x = jnp.full((2, 4, 4, 1), 0.5)
        kept = soteria.mask(self.features, x, 0.4)
        np.testing.assert_array_equal(kept, [1, 0, 1, 0, 1])
        kept = soteria.mask(self.features, x, 0.6)
        np.testing.assert_array_equal(kept, [1, 0, 1, 0, 0])

    def test_exactly_so_many_rows_are_hidden_and_nothing_else(self):
        target = self.model()
        x = jax.random.uniform(jax.random.key(1), (3, 1, 4, 4, 1))
        labels = jnp.array([[0], [1], [2]])
        bare = share(target, x, labels, chain())

        def one(x, labels):
            return share(target, x[None], labels[None], soteria.soteria(0.4))

        hidden = jax.tree.map(
            lambda leaf: leaf[:, 0], jax.jit(jax.vmap(one))(x, labels)
        )
        np.testing.assert_allclose(
            hidden["logits"]["bias"], bare["logits"]["bias"], rtol=1e-6
        )
        rows = np.abs(np.asarray(hidden["logits"]["kernel"])).max(2) > 0  # [V, F]
        np.testing.assert_array_equal(rows.sum(1), 3)
        np.testing.assert_allclose(
            np.asarray(hidden["logits"]["kernel"])[rows],
            np.asarray(bare["logits"]["kernel"])[rows],
            rtol=1e-5,
        )

    def test_the_mask_is_of_the_clients_own_batch(self):
        def features(x):  # The brighter half's own feature barely moves.
            left, right = (
                jnp.mean(x[:, :, :2], (1, 2, 3)),
                jnp.mean(x[:, :, 2:], (1, 2, 3)),
            )
            return jnp.stack([jnp.tanh(3 * left), jnp.tanh(3 * right)], 1)

        x = jnp.zeros((1, 4, 4, 1)).at[:, :, :2].set(1.0)
        np.testing.assert_array_equal(soteria.mask(features, x, 0.5), [0, 1])
        np.testing.assert_array_equal(
            soteria.mask(features, x[:, :, ::-1], 0.5), [1, 0]
        )

    def test_refuses_a_layer_that_is_not_there(self):
        x, labels = jnp.ones((1, 1, 4, 4, 1)), jnp.zeros((1, 1), int)
        with pytest.raises(ValueError, match=r"no kernel \[5, O\] in a layer 'fc'"):
            share(self.model(), x, labels, soteria.soteria(0.4, layer="fc"))
        with pytest.raises(ValueError, match="extra arguments target and x"):
            apply(soteria.soteria(0.4), {"logits": {"kernel": jnp.ones((5, 3))}})
        bare = Target.from_function(
            lambda w, x: Prediction(x.reshape(len(x), -1) @ w),
            jnp.ones((16, 3)),
            (4, 4, 1),
        )
        with pytest.raises(ValueError, match="the target returns none"):
            share(bare, x, labels, soteria.soteria(0.4))
        with pytest.raises(ValueError, match=r"rate is 2"):
            soteria.mask(self.features, jnp.ones((1, 4, 4, 1)), 2)
