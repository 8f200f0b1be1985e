"""Attacks on shared updates: planted batches are found, and others are not."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import linen as nn

from mijax import federation
from mijax.attacks import (
    bayes_optimal,
    cpl,
    dlg,
    ggl,
    grad_inversion,
    idlg,
    imprint,
    inverting_gradients,
    learning_to_invert,
    linear_leak,
    order_invariant,
)
from mijax.attacks.leakage import gradient_distance, initial_images, label_rules
from mijax.attacks.leakage.total_variation import total_variation
from mijax.core import Prior, Target
from mijax.defenses import noise, pruning, quantization
from mijax.federation import Recipe
from mijax.knowledge import SharedUpdate
from mijax.models.mlp import MLP

KEY = jax.random.key(0)
CLASSES = 5
SHARE = jax.jit(federation.share)
L_BFGS = {"steps": 8, "history": 20}


@functools.cache
def network(activation=nn.sigmoid):
    """Wide weights, as those of the papers' LeNet, and few of them."""
    module = MLP(CLASSES, widths=(24,), activation=activation)
    like = jax.eval_shape(module.init, KEY, jnp.zeros((1, *tiny.SHAPE)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(-0.5, 0.5, leaf.shape), jnp.float32), like
    )
    return Target.from_linen(module, variables, tiny.SHAPE)


@functools.cache
def batches(victims, batch):
    """Smooth images, `[V, B, *shape]`, of distinct labels, `[V, B]`."""
    coarse = jax.random.uniform(jax.random.key(5), (victims * batch, 3, 3, 1))
    x = jax.image.resize(coarse, (victims * batch, *tiny.SHAPE), "linear")
    labels = (jnp.arange(victims * batch) % CLASSES).reshape(victims, batch)
    return x.reshape(victims, batch, *tiny.SHAPE), labels


@functools.cache
def shared(victims=2, batch=1, recipe=Recipe(), activation=nn.sigmoid):
    target = network(activation)
    update = SHARE(KEY, recipe, target, *batches(victims, batch)).change
    return SharedUpdate(target, update, batch, recipe)


@functools.cache
def run(attack):
    return jax.jit(attack.attack)


def errors(found, truth):
    return np.mean((np.asarray(found.x) - np.asarray(truth)) ** 2, (2, 3, 4))


PLANTED = [
    (dlg, dlg.Config(**L_BFGS, seed=initial_images.uniform, restarts=6)),
    (idlg, idlg.Config(**L_BFGS, seed=initial_images.uniform)),
    (cpl, cpl.Config(**L_BFGS, seed=initial_images.Patterned(4), label_weight=0.0)),
    (inverting_gradients, inverting_gradients.Config(steps=400, tv_weight=1e-3)),
    (linear_leak, linear_leak.Config()),
]


@pytest.mark.parametrize(("attack", "config"), PLANTED)
def test_a_planted_image_is_found_and_another_is_not(attack, config):
    x, labels = batches(2, 1)
    knowledge = shared()
    found = run(attack)(KEY, knowledge, config)
    np.testing.assert_array_equal(found.labels, labels)
    alone = errors(found, x)
    assert np.all(alone < 1e-3)
    # The null: the update of the other victim tells of the other victim.
    swapped = jax.tree.map(lambda leaf: leaf[::-1], knowledge.update)
    other = run(attack)(KEY, dataclasses.replace(knowledge, update=swapped), config)
    mean = x.mean(0, keepdims=True)
    assert np.all(errors(other, x) > np.mean((x - mean) ** 2, (2, 3, 4)))


def test_several_images_of_known_labels_are_found():
    x, labels = batches(1, 2)
    knowledge = dataclasses.replace(shared(1, 2), labels=labels)
    config = cpl.Config(steps=20, history=40, label_weight=0.0)
    assert np.all(errors(run(cpl)(KEY, knowledge, config), x) < 1e-3)


def test_local_steps_are_unrolled():
    recipe = Recipe(local_steps=3, learning_rate=0.05)
    config = inverting_gradients.Config(steps=400, tv_weight=1e-3)
    found = run(inverting_gradients)(KEY, shared(recipe=recipe), config)
    assert np.all(errors(found, batches(2, 1)[0]) < 1e-3)


def test_the_order_of_local_steps_is_searched():
    """Labels that the client took as 1, 0 are found in that order, by the loss."""
    recipe = Recipe(local_steps=2, local_batch=1, learning_rate=0.2)
    x, labels = (leaf[:, ::-1] for leaf in batches(1, 2))
    update = SHARE(KEY, recipe, network(), x, labels).change
    knowledge = SharedUpdate(network(), update, 2, recipe)
    config = inverting_gradients.Config(steps=400, restarts=2, tv_weight=1e-4)
    found = run(inverting_gradients)(KEY, knowledge, config)
    np.testing.assert_array_equal(found.labels, labels)
    assert np.all(errors(found, x) < 0.01)
    with pytest.raises(ValueError, match="2 orders, but restarts is 1"):
        inverting_gradients.attack(KEY, knowledge)


def test_the_label_regularizer_is_in_the_loss():
    none, some = (
        run(cpl)(KEY, shared(), cpl.Config(steps=0, label_weight=weight)).loss
        for weight in (0.0, 2.0)
    )
    assert np.all(some > none + 0.01)


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(12)(x.reshape(len(x), -1))
        x = nn.sigmoid(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(CLASSES)(x)


@pytest.fixture(scope="module")
def knowledge():
    """Of one client who normalizes by its batch of three."""
    variables = Normalized().init(KEY, jnp.zeros((1, *tiny.SHAPE)))
    target = Target.from_linen(Normalized(), variables, tiny.SHAPE)
    recipe = Recipe(train=True, share_statistics=True)
    update = SHARE(KEY, recipe, target, *batches(1, 3))
    return SharedUpdate(target, update.change, 3, recipe)


class TestGradInversion:
    CONFIG = grad_inversion.Config(steps=0, restarts=2)

    @pytest.mark.parametrize(
        "weight",
        [
            "gradient_weight",
            "tv_weight",
            "norm_weight",
            "statistics_weight",
            "group_weight",
        ],
    )
    def test_every_weight_changes_the_loss(self, weight, knowledge):
        losses = [
            run(grad_inversion)(
                KEY, knowledge, dataclasses.replace(self.CONFIG, **{weight: value})
            ).losses
            for value in (0.0, 10.0)
        ]
        assert np.all(losses[1] > losses[0])

    def test_a_group_of_one_agrees_with_itself(self, knowledge):
        configs = [
            grad_inversion.Config(steps=0, restarts=1, group_weight=weight)
            for weight in (0.0, 10.0)
        ]
        alone, weighted = (
            run(grad_inversion)(KEY, knowledge, c).losses for c in configs
        )
        np.testing.assert_array_equal(alone, weighted)

    def test_the_group_draws_together(self, knowledge):
        def apart(weight):
            config = grad_inversion.Config(
                steps=60, restarts=2, noise=0.0, group_weight=weight
            )
            found = run(grad_inversion)(KEY, knowledge, config)
            return np.mean((found.candidates[:, 0] - found.candidates[:, 1]) ** 2)

        assert apart(10.0) < 0.5 * apart(0.0)

    def test_shared_statistics_are_zero_away_at_the_batch(self, knowledge):
        x, labels = batches(1, 3)
        target, recipe = knowledge.target, knowledge.recipe
        statistics = SHARE(KEY, recipe, target, x, labels).statistics
        informed = dataclasses.replace(knowledge, statistics=statistics, labels=labels)
        informed = dataclasses.replace(informed, similar=x)
        config = grad_inversion.Config(
            steps=0, seed=initial_images.same_class, tv_weight=0.0, norm_weight=0.0
        )
        np.testing.assert_allclose(
            run(grad_inversion)(KEY, informed, config).losses, 0, atol=1e-6
        )


class TestLinearLeak:
    def test_is_exact(self):
        found = run(linear_leak)(KEY, shared(4), linear_leak.Config())
        assert np.all(errors(found, batches(4, 1)[0]) < 1e-12)
        np.testing.assert_allclose(found.loss, 0, atol=1e-6)

    def test_refuses_more_than_one_example_and_step(self):
        for knowledge, message in [
            (shared(1, 2), "batch is 2"),
            (shared(recipe=Recipe(local_steps=2)), "local_steps 2"),
        ]:
            with pytest.raises(ValueError, match=message):
                linear_leak.attack(KEY, knowledge)


class TestImprint:
    BINS, BATCH, VICTIMS = 40, 8, 12

    def recovered(self, gain=1.0):
        public = jax.random.uniform(jax.random.key(8), (400, *tiny.SHAPE))
        x = jax.random.uniform(
            jax.random.key(9), (self.VICTIMS, self.BATCH, *tiny.SHAPE)
        )
        labels = jnp.zeros((self.VICTIMS, self.BATCH), int)
        target = imprint.plant(network(), public, self.BINS, gain)
        update = SHARE(KEY, Recipe(), target, x, labels).change
        found = run(imprint)(
            KEY, SharedUpdate(target, update, self.BATCH), imprint.Config()
        )
        pairs = (np.asarray(found.x)[:, None] - np.asarray(x)[:, :, None]) ** 2
        return np.mean(pairs.mean((3, 4, 5)).min(2) < 1e-8), found

    def test_recovers_as_many_as_are_expected_alone(self):
        rate, found = self.recovered()
        expected = imprint.expected_rate(self.BINS, self.BATCH)
        assert abs(rate - expected) < 0.1
        assert np.all((found.loss >= 0) & (found.loss < 0.5))

    def test_expected_rate_is_that_of_balls_in_bins(self):
        rng = np.random.default_rng(0)
        bins = rng.integers(0, 40, (4000, 8))
        alone = np.mean((bins[:, :, None] == bins[:, None]).sum(2) == 1)
        np.testing.assert_allclose(imprint.expected_rate(40, 8), alone, atol=0.01)

    def test_bad_plants_are_refused(self):
        public = jnp.zeros((8, *tiny.SHAPE))
        for images, bins, message in [
            (public, 1, "bins is 1"),
            (public, 9, "bins is 9 but there are 8 public images"),
            (public[:, :4], 4, r"public images are \(4, 8, 1\)"),
        ]:
            with pytest.raises(ValueError, match=message):
                imprint.plant(network(), images, bins)
        with pytest.raises(ValueError, match="no imprint layer"):
            imprint.attack(KEY, shared())


def _drawn(w, z):
    return jax.nn.sigmoid(z @ w).reshape(-1, *tiny.SHAPE)


class TestGgl:
    CONFIG = ggl.Config(steps=60, population=40, elite=8)

    @functools.cached_property
    def world(self):
        w = jax.random.normal(jax.random.key(3), (3, 64))
        prior = Prior(w, None, _drawn, lambda w, x: x[:, 0, 0, 0], 3, tiny.SHAPE)
        x = _drawn(w, jax.random.normal(jax.random.key(4), (2, 3)))[:, None]
        target = network()
        update = SHARE(KEY, Recipe(), target, x, batches(2, 1)[1]).change
        return x, SharedUpdate(target, update, prior=prior)

    def pruned(self, knowledge, keep):
        def largest(leaf):
            flat = jnp.abs(leaf).reshape(len(leaf), -1)
            least = jnp.quantile(flat, 1 - keep, axis=1)
            least = least.reshape(-1, *[1] * (leaf.ndim - 1))
            return jnp.where(jnp.abs(leaf) >= least, 0.01 * leaf, 0)

        update = jax.tree.map(largest, knowledge.update)
        return dataclasses.replace(knowledge, update=update)

    def test_finds_what_the_generator_can_draw(self):
        x, knowledge = self.world
        found = run(ggl)(KEY, knowledge, self.CONFIG)
        assert np.all(errors(found, x) < 1e-3)
        np.testing.assert_array_equal(found.loss, found.trace[:, 0, -1])

    def test_adapts_to_clipping_and_pruning(self):
        x, knowledge = self.world
        defended = self.pruned(knowledge, 0.2)
        unaware = dataclasses.replace(self.CONFIG, adapt=ggl.as_computed)
        adapted = errors(run(ggl)(KEY, defended, self.CONFIG), x)
        assert np.all(adapted < 5e-3)
        assert adapted.mean() < 0.2 * errors(run(ggl)(KEY, defended, unaware), x).mean()

    @pytest.mark.parametrize("keep", [0.5, 0.1, 0.01])
    def test_does_to_the_truth_what_its_defense_did(self, keep):
        _, knowledge = self.world
        observed = self.pruned(knowledge, keep).update
        adapted = jax.vmap(ggl.as_observed)(knowledge.update, observed)
        jax.tree.map(
            lambda a, o: np.testing.assert_allclose(a, o, rtol=1e-5, atol=1e-8),
            adapted,
            observed,
        )

    def test_does_to_the_truth_what_signs_did(self):
        _, knowledge = self.world
        defense = quantization.sign().update

        def signs(update):
            return defense.update(update, defense.init(update))[0]

        observed = jax.vmap(signs)(knowledge.update)
        adapted = jax.vmap(ggl.as_observed)(knowledge.update, observed)
        jax.tree.map(
            lambda a, o: np.testing.assert_allclose(a, o, rtol=1e-6), adapted, observed
        )

    def test_another_gradient_is_not_found(self):
        x, knowledge = self.world
        swapped = jax.tree.map(lambda leaf: leaf[::-1], knowledge.update)
        found = run(ggl)(
            KEY, dataclasses.replace(knowledge, update=swapped), self.CONFIG
        )
        assert np.all(errors(found, x) > 1e-2)

    def test_needs_a_prior_of_the_images_shape(self):
        with pytest.raises(ValueError, match=r"draws images \(8, 8, 1\).*has none"):
            ggl.attack(KEY, shared())


class TestSeeds:
    @pytest.mark.parametrize(
        "seed",
        [
            initial_images.normal,
            initial_images.uniform,
            initial_images.gray_noise,
            initial_images.Patterned(3),
        ],
    )
    def test_draws_differ_by_key(self, seed):
        first, other = (seed(jax.random.key(i), (2, 8, 8, 3), None) for i in (0, 1))
        assert first.shape == (2, 8, 8, 3) and not np.array_equal(first, other)

    def test_patterns_repeat(self):
        x = initial_images.Patterned(3)(KEY, (2, 8, 8, 1), None)
        np.testing.assert_array_equal(x[:, :3, :3], x[:, 3:6, 3:6])
        np.testing.assert_array_equal(x[:, :2, :2], x[:, 6:, 6:])
        with pytest.raises(ValueError, match="side is 0"):
            initial_images.Patterned(0)

    def test_colors(self):
        for seed, color in [
            (initial_images.DARK, 0),
            (initial_images.LIGHT, 1),
            (initial_images.RED, [1, 0, 0]),
        ]:
            x = seed(KEY, (1, 2, 2, 3), None)
            np.testing.assert_array_equal(x, np.broadcast_to(color, (1, 2, 2, 3)))

    def test_an_image_of_the_class_is_asked_for(self):
        with pytest.raises(ValueError, match="similar"):
            cpl.attack(KEY, shared(), cpl.Config(seed=initial_images.same_class))


def test_distances():
    a, b = {"x": jnp.array([3.0, 0.0])}, {"x": jnp.array([0.0, 4.0])}
    assert gradient_distance.squared(a, b) == 25
    assert gradient_distance.cosine(a, b) == 1
    np.testing.assert_allclose(gradient_distance.cosine(a, a), 0, atol=1e-6)
    assert gradient_distance.length(b) == 4


def test_total_variation_of_a_ramp():
    ramp = jnp.broadcast_to(jnp.arange(4.0)[None, :, None, None], (2, 4, 5, 1))
    np.testing.assert_allclose(total_variation(ramp), [1, 1])


def test_restarts_are_chosen_by_the_distance_of_gradients_alone():
    config = inverting_gradients.Config(steps=3, restarts=3, tv_weight=0.1)
    found = run(inverting_gradients)(KEY, shared(), config)
    np.testing.assert_array_equal(found.loss, found.losses.min(1))
    assert np.all(found.trace.min(-1) > found.losses)  # Those hold total variation.


@pytest.mark.parametrize(
    ("distances", "roughness", "best"),
    [
        ([4.0, 1.0, 3.0, 1.5, 9.0, 8.5], [4, 4, 4, 1, 1, 0.9], 3),
        ([4.0, 1.0, 3.0, 2.6, 9.0, 8.5], [4, 4, 4, 1, 1, 0.9], 1),
        ([4.0, 3.0, 2.0, 2.5, 1.0, 0.9], [4, 4, 4, 1, 1, 0.9], 5),
        ([1.0, np.inf, np.inf, np.inf, 9.0, np.inf], [0.1, 0.1, 0.1, 0.1, 0, 0], 0),
    ],
)
def test_the_corner_of_distance_and_roughness_is_chosen(distances, roughness, best):
    tried = jnp.array([distances, distances[::-1]]), jnp.array([roughness] * 2)
    found = inverting_gradients.at_the_corner(*tried, 3)
    assert found[0] == best


def test_the_choice_among_weights_is_near_the_best_by_the_truth():
    config = inverting_gradients.Config(steps=200)
    x, _ = batches(2, 1)
    found = run(inverting_gradients)(KEY, shared(activation=nn.relu), config)
    each = np.mean((np.asarray(found.candidates) - x[:, None]) ** 2, (2, 3, 4, 5))
    assert each.shape == (2, 4) and np.all(each.max(1) > 2 * each.min(1))
    assert np.all(errors(found, x)[:, 0] < 1.5 * each.min(1))


def test_a_rule_of_labels_can_be_chosen():
    config = cpl.Config(steps=0, label_rule=label_rules.yin)
    np.testing.assert_array_equal(run(cpl)(KEY, shared(), config).labels, [[0], [1]])


class TestLearningToInvert:
    """A trained inverter meets the defense that it was trained through."""

    CONFIG = learning_to_invert.Config(steps=300, batch_size=32, width=64)

    @pytest.mark.parametrize(
        "defense",
        [
            noise.gaussian(0.01),
            pytest.param(pruning.prune(0.9), marks=pytest.mark.slow),
        ],
    )
    def test_sees_through_a_defense_that_it_knows_of(self, defense):
        public = batches(128, 1)[0].reshape(-1, *tiny.SHAPE)
        coarse = jax.random.uniform(jax.random.key(6), (16, 3, 3, 1))
        x = jax.image.resize(coarse, (16, *tiny.SHAPE), "linear")[:, None]
        labels = jnp.arange(16)[:, None] % CLASSES
        config = dataclasses.replace(self.CONFIG, defense=defense)

        update = SHARE(KEY, Recipe(), network(), x, labels, defense).change
        known = SharedUpdate(network(), update, public=public)
        found = run(learning_to_invert)(KEY, known, config)
        mean = np.mean((np.asarray(public.mean(0)) - np.asarray(x)) ** 2)
        assert errors(found, x).mean() < 0.6 * mean
        assert errors(found, jnp.roll(x, 1, 0)).mean() > mean  # Others' updates.

    def test_refuses_large_batches_and_no_images(self):
        for known, message in [
            (
                dataclasses.replace(shared(1, 5), public=jnp.zeros((64, *tiny.SHAPE))),
                "5",
            ),
            (shared(1), "give the knowledge"),
        ]:
            with pytest.raises(ValueError, match=message):
                learning_to_invert.attack(KEY, known, self.CONFIG)


class TestBayesOptimal:
    """Each defense's density; the likeliest batch through it."""

    OBSERVED = {"a": jnp.array([0.0, 4.0, -2.0]), "b": jnp.array([1.0, 0.0])}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("density", "change", "cost"),
        [
            (bayes_optimal.gaussian(0.5), {"b": jnp.array([2.0, 1.0])}, 4.0),
            (bayes_optimal.laplace(0.5), {"b": jnp.array([2.0, -1.0])}, 4.0),
            (bayes_optimal.shown(), {"b": jnp.array([1.0, 9.0])}, 0.0),
            (bayes_optimal.pruned(), {"a": jnp.array([0.9, 4.0, -2.0])}, 0.0),
            (bayes_optimal.pruned(True), {"a": jnp.array([1.9, 4.0, -2.0])}, 0.0),
            (bayes_optimal.signs(), {"a": jnp.array([5.0, 9.0, -1.0])}, 0.0),
            (bayes_optimal.signs(), {"b": jnp.array([-1.0, 0.0])}, 2.0),
            (bayes_optimal.rounded(4.0), {"b": jnp.array([1.0, 0.125])}, np.log(2)),
            (
                bayes_optimal.clipped(0.5, bayes_optimal.gaussian(1.0)),
                {"a": jnp.zeros(3), "b": jnp.array([9.0, 0.0])},
                (4.0**2 + 2.0**2 + 0.5**2) / 2,
            ),
        ],
    )
    def test_costs_are_closed_forms(self, density, change, cost):
        update = {**self.OBSERVED, **change}
        np.testing.assert_allclose(density(update, self.OBSERVED), cost, atol=1e-5)

    @pytest.mark.parametrize("layers", [False, True])
    def test_what_was_pruned_was_no_larger_than_what_was_not(self, layers):
        update = {**self.OBSERVED, "a": jnp.array([2.1, 4.0, -2.0])}
        assert bayes_optimal.pruned(layers)(update, self.OBSERVED) > 10

    @pytest.mark.parametrize(
        ("defense", "density"),
        [
            (noise.gaussian(0.02), bayes_optimal.gaussian(0.02)),
            (noise.laplace(0.02), bayes_optimal.laplace(0.02)),
            (pruning.prune(0.5), bayes_optimal.pruned()),
        ],
    )
    def test_sees_more_through_a_defense_that_it_knows_of(self, defense, density):
        x, labels = batches(8, 1)
        update = SHARE(KEY, Recipe(), network(), x, labels, defense).change
        public = jax.image.resize(
            jax.random.uniform(jax.random.key(6), (32, 3, 3, 1)),
            (32, *tiny.SHAPE),
            "linear",
        )
        known = SharedUpdate(network(), update, labels=labels, public=public)
        naive, own = (
            errors(run(bayes_optimal)(KEY, known, config), x).mean()
            for config in (
                bayes_optimal.Config(steps=200),
                bayes_optimal.Config(steps=200, density=density),
            )
        )
        mean = np.mean((np.asarray(public.mean(0)) - np.asarray(x)) ** 2)
        assert own < min(0.7 * naive, mean)


class TestOrderInvariant:
    """Epochs in orders that nobody knows."""

    CONFIG = order_invariant.Config(steps=400, tv_weight=1e-3)

    @staticmethod
    def known(rate=0.05):
        """Two epochs of two steps each, in orders of their own, as if one long one."""
        x, labels = batches(2, 4)
        orders = np.array([2, 0, 3, 1, 1, 3, 2, 0])
        once = Recipe(local_steps=4, local_batch=2, learning_rate=rate)
        update = SHARE(KEY, once, network(), x[:, orders], labels[:, orders]).change
        return SharedUpdate(network(), update, 4, once, labels=labels)

    def test_finds_images_where_a_fixed_order_does_not(self):
        x, _ = batches(2, 4)
        known = self.known()
        fixed = inverting_gradients.Config(steps=400, tv_weight=1e-3)
        found, other = (
            matched(run(attack)(KEY, known, config), x)
            for attack, config in [
                (order_invariant, self.CONFIG),
                (inverting_gradients, fixed),
            ]
        )
        mean = np.mean((x - x.mean((0, 1), keepdims=True)) ** 2)
        assert found < 0.5 * mean and found < other

    def test_images_are_matched_within_their_labels(self):
        x = jax.random.uniform(KEY, (4, 2, 2, 1))
        labels = jnp.array([3, 1, 3, 0])
        orders = jnp.array([[0, 1, 2, 3], [2, 3, 0, 1], [3, 1, 0, 2]])
        found = order_invariant._matched(x[orders], labels[orders])
        np.testing.assert_allclose(found, x, atol=1e-6)

    def test_epochs_of_the_same_images_do_not_disagree(self):
        x = jax.random.uniform(KEY, (1, 1, 2, 4, 2, 2, 1))
        same = jnp.stack([x[:, :, 0], x[:, :, 0, ::-1]], 2)
        apart, together = map(order_invariant._disagreement, (x, same))
        assert apart > 1e-3 and abs(together) < 1e-6

    def test_parts_of_epochs_are_refused(self):
        recipe = Recipe(local_steps=3, local_batch=2)
        known = dataclasses.replace(self.known(), recipe=recipe)
        with pytest.raises(ValueError, match=r"is 3, which takes some .* 2 times"):
            order_invariant.attack(KEY, known)


def matched(found, x):
    """The mean squared error of each image to the nearest of its batch."""
    pairs = np.mean((np.asarray(found.x)[:, :, None] - x[:, None]) ** 2, (3, 4, 5))
    return np.mean(pairs.min(1))
