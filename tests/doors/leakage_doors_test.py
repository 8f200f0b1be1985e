"""What gradient leakage cannot work with is refused in one sentence, or works."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

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
)
from mijax.attacks.leakage import gradient_distance, label_rules
from mijax.attacks.leakage.total_variation import total_variation
from mijax.core import Target
from mijax.defenses import quantization, soteria
from mijax.federation import Recipe
from mijax.knowledge import SharedUpdate, validate

KEY = jax.random.key(0)
STEPS = inverting_gradients.Config(steps=2, tv_weight=1e-2)
INVERTED = jax.jit(inverting_gradients.attack)
LEAKED = jax.jit(linear_leak.attack)
SHARED = jax.jit(functools.partial(federation.share, KEY, Recipe()))


@functools.cache
def client(shape=tiny.SHAPE):
    """Knowledge of two clients of one example each, of a dense network."""
    x = jax.random.uniform(KEY, (2, 1, *shape))
    variables = tiny.drawn(tiny.CLASSIFIER, 1, (1, *shape))
    target = Target.from_linen(tiny.CLASSIFIER, variables, shape)
    return SharedUpdate(target, SHARED(target, x, jnp.array([[0], [2]])).change), x


@functools.partial(jax.jit, static_argnums=3)
def apart(*arguments):
    return gradient_distance.between(*arguments)[0]


def changed(change, shape=tiny.SHAPE):
    knowledge, _ = client(shape)
    update = jax.tree.map(change, knowledge.update)
    return dataclasses.replace(knowledge, update=update)


def image(shape):
    return np.random.default_rng(0).uniform(size=(2, *shape)).astype(np.float32)


class TestTotalVariation:
    def test_a_column_varies_only_down(self):
        x = image((8, 1, 2))
        expected = np.abs(np.diff(x, axis=1)).mean((1, 2, 3))
        np.testing.assert_allclose(total_variation(x), expected, rtol=1e-6)

    def test_a_pixel_does_not_vary(self):
        np.testing.assert_array_equal(total_variation(image((1, 1, 3))), 0)

    @pytest.mark.slow
    def test_images_one_pixel_wide_are_attacked(self):
        found = inverting_gradients.attack(KEY, client((8, 1, 1))[0], STEPS)
        assert np.all(np.isfinite(found.loss)) and found.x.shape == (2, 1, 8, 1, 1)

    @pytest.mark.parametrize("attack", [inverting_gradients, grad_inversion])
    def test_vectors_are_refused(self, attack):
        with pytest.raises(ValueError, match=r"shape \(9,\).*images \(H, W, C\)"):
            attack.attack(KEY, client((9,))[0])

    def test_a_vector_has_no_square(self):
        with pytest.raises(ValueError, match=r"shape \(9,\), but a square is tiled"):
            cpl.attack(KEY, client((9,))[0])


class TestUpdates:
    def test_half_precision_is_summed_in_float32(self):
        g = {"w": jnp.asarray(image((400, 3)), jnp.bfloat16)}
        assert abs(gradient_distance.cosine(g, g)) < 1e-6
        assert gradient_distance.cosine(g, g).dtype == jnp.float32
        half = changed(lambda leaf: leaf.astype(jnp.bfloat16))
        told = dataclasses.replace(half, labels=jnp.array([[0], [2]]))
        losses = INVERTED(KEY, told, STEPS).losses
        assert np.all((losses > 0) & np.isfinite(losses))

    @pytest.mark.parametrize("scale", [1e-18, 1.0])
    def test_small_updates_leak_as_much(self, scale):
        found = LEAKED(KEY, changed(lambda leaf: scale * leaf))
        np.testing.assert_allclose(found.x, client()[1], atol=1e-4)

    def test_a_dead_first_layer_is_refused(self):
        knowledge, _ = client()
        update = jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf if leaf.shape[-1] == tiny.CLASSES else 0 * leaf,
            knowledge.update,
        )
        dead = dataclasses.replace(knowledge, update=update)
        with pytest.raises(ValueError, match=r"first layer's gradient of client 0 is"):
            linear_leak.attack(KEY, dead)
        found = LEAKED(KEY, dead)
        np.testing.assert_array_equal(found.loss, 1)
        assert np.all(np.isfinite(found.x))

    @pytest.mark.parametrize("attack", [dlg, idlg, inverting_gradients, linear_leak])
    def test_a_client_without_the_first_axis(self, attack):
        with pytest.raises(ValueError, match=r"must be \('V', .*\) for V clients"):
            attack.attack(KEY, changed(lambda leaf: leaf[0]))

    def test_leaves_that_are_not_shared_are_not_compared(self):
        knowledge, _ = client()
        leaves, tree = jax.tree.flatten(knowledge.update)
        first = [leaf.shape[-1] == tiny.CLASSES for leaf in leaves]
        frozen = [
            None if last else leaf for last, leaf in zip(first, leaves, strict=True)
        ]
        partial = dataclasses.replace(knowledge, update=tree.unflatten(frozen))
        with pytest.raises(ValueError, match=r"update withholds .*: give labels"):
            inverting_gradients.attack(KEY, partial, STEPS)
        labels = jnp.array([[0], [2]])
        told = dataclasses.replace(partial, labels=labels)
        found = INVERTED(KEY, told, STEPS)
        assert np.all(np.isfinite(found.loss))
        _, x = client()
        distances = apart(told, x[:, None], labels[:, None], gradient_distance.squared)
        np.testing.assert_allclose(distances, 0, atol=1e-10)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (1, "labels are an int: they must be an array of integers"),
        (jnp.array([0, 2]), r"labels are \(2,\): they must be \(2, 1\)"),
        (jnp.array([[0.0], [2.0]]), "labels are float32: they must be integers"),
        ([[0], [2]], "labels are a list: they must be an array"),
    ],
)
def test_labels_of_other_kinds(labels, message):
    with pytest.raises(ValueError, match=message):
        told = dataclasses.replace(client()[0], labels=labels)
        inverting_gradients.attack(KEY, told, STEPS)


class TestStandardized:
    MEAN, DEVIATION = 0.4, 0.2

    def knowledge(self, target):
        x = client()[1]
        standard = (x - self.MEAN) / self.DEVIATION
        update = SHARED(target, standard, jnp.array([[0], [2]])).change
        return SharedUpdate(
            target, update, mean=jnp.array([self.MEAN]), deviation=self.DEVIATION
        )

    def test_images_come_back_in_pixels(self):
        knowledge = self.knowledge(client()[0].target)
        found = LEAKED(KEY, knowledge)
        np.testing.assert_allclose(found.x, client()[1], atol=1e-4)
        seen = knowledge.checked()
        labels = jnp.array([[[0]], [[2]]])
        x = client()[1][:, None]
        distances = apart(seen, x, labels, gradient_distance.cosine)
        np.testing.assert_allclose(distances, 0, atol=1e-5)
        np.testing.assert_array_equal(label_rules.idlg(seen), [[0], [2]])

    def test_an_imprint_is_in_pixels(self):
        public = jax.random.uniform(jax.random.key(1), (40, *tiny.SHAPE))
        standard = (public - self.MEAN) / self.DEVIATION
        planted = imprint.plant(client()[0].target, standard, 8)
        found = jax.jit(imprint.attack)(KEY, self.knowledge(planted))
        np.testing.assert_allclose(found.x, client()[1], atol=1e-3)

    def test_a_mean_without_deviation(self):
        half = dataclasses.replace(client()[0], mean=0.5)
        with pytest.raises(ValueError, match="deviation None: give both"):
            inverting_gradients.attack(KEY, half, STEPS)


class TestImages:
    """Public and similar ones."""

    PUBLIC = image((8, 8, 1))

    @pytest.mark.parametrize(
        ("public", "message"),
        [
            ((255 * PUBLIC).astype(np.uint8), r"images are of uint8: .*pixels / 255"),
            ([1, 2], "public images are a list: give an array"),
            (PUBLIC[:, :2], r"are \(2, 2, 8, 1\), but the target takes \(8, 8, 1\)"),
            (PUBLIC[:0], r"are \(0, 8, 8, 1\), .* of one or more"),
            (PUBLIC[0], r"are \(8, 8, 1\): they must be \('M', 8, 8, 1\)"),
        ],
    )
    def test_of_another_kind(self, public, message):
        known = dataclasses.replace(client()[0], public=public)
        with pytest.raises(ValueError, match=message):
            inverting_gradients.attack(KEY, known, STEPS)

    @pytest.mark.parametrize("name", ["public", "similar"])
    def test_that_are_no_pixels(self, name):
        images = 255 * self.PUBLIC[:, None]
        images = images[:, 0] if name == "public" else images
        known = dataclasses.replace(client()[0], **{name: images})
        with pytest.raises(ValueError, match=rf"{name} images lie in \[.*, 25.*\]: g"):
            validate(known)

    def test_similar_ones_of_integers(self):
        similar = np.zeros((2, 1, *tiny.SHAPE), np.uint8)
        known = dataclasses.replace(client()[0], similar=similar)
        with pytest.raises(ValueError, match="similar images are of uint8"):
            cpl.attack(KEY, known)


@pytest.mark.parametrize(
    ("attack", "changes", "message"),
    [
        (inverting_gradients, {"tv_weight": -1.0}, r"tv_weight is -1.0: give a weight"),
        (inverting_gradients, {"tv_weight": ()}, r"tv_weight is \(\): give a weight"),
        (grad_inversion, {"tv_weight": -1.0}, r"tv_weight is -1.0: give a weight"),
        (inverting_gradients, {"tv_weight": "1e-2"}, "'1e-2': it must be a number"),
        (inverting_gradients, {"steps": 2.5}, "steps is 2.5: it must be a whole"),
        (inverting_gradients, {"restarts": "2"}, "restarts is '2': it must be a whole"),
        (inverting_gradients, {"seed": 1}, "seed is 1: it must be a function"),
        (learning_to_invert, {"width": 0}, "width is 0: it must be 1 or more"),
        (learning_to_invert, {"features": 0}, "features is 0: it must be 1 or more"),
        (learning_to_invert, {"batch_size": 0}, "batch_size is 0: it must be 1 or"),
        (learning_to_invert, {"batch_size": 4}, "are 2 public images, .* takes 4: 4"),
        (learning_to_invert, {"defense": None}, "defense is None: give what the"),
        (bayes_optimal, {"density": None}, "density is None: give the defense's"),
    ],
)
def test_hyper_parameters_of_other_kinds(attack, changes, message):
    known = dataclasses.replace(client()[0], public=TestImages.PUBLIC)
    with pytest.raises(ValueError, match=message):
        attack.attack(KEY, known, attack.Config(**changes))


def test_public_images_may_be_of_numpy():
    known = dataclasses.replace(client()[0], public=TestImages.PUBLIC)
    sizes = {"batch_size": 2, "width": 4, "features": 8}
    config = learning_to_invert.Config(steps=1, **sizes)
    found = jax.jit(learning_to_invert.attack)(KEY, known, config)
    eager = learning_to_invert.attack(KEY, known, config)
    np.testing.assert_allclose(found.x, eager.x, atol=1e-6)


@pytest.mark.parametrize("given", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["gaussian", "laplace", "rounded", "clipped"])
def test_densities_of_no_noise(name, given):
    rest = (bayes_optimal.exact(),) if name == "clipped" else ()
    with pytest.raises(
        ValueError, match="it must be above 0 and finite; of no defense"
    ):
        getattr(bayes_optimal, name)(given, *rest)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quantization.stochastic(1.5), "levels is 1.5: .* whole and finite"),
        (lambda: soteria.soteria(0.4, examples=0), "examples is 0: it must be 1 or"),
        (lambda: label_rules.learning_rate(client()[0]), "local_steps is 0: clients"),
        (
            lambda: imprint.plant(client()[0].target, TestImages.PUBLIC[:0], 4),
            "bins is 4 but there are 0 public images",
        ),
        (
            lambda: federation.share(KEY, Recipe(), None, None, None, 0.1),
            r"defense is 0.1: give one of mijax.defenses, or Defense\(\) for",
        ),
        (
            lambda: dataclasses.replace(client()[0], batch_size=1.0),
            "batch_size is 1.0: it must be a whole number",
        ),
        (
            lambda: ggl.attack(
                KEY, dataclasses.replace(client()[0], prior=lambda z: z)
            ),
            "prior is a function: give a mijax.core.Prior",
        ),
    ],
)
def test_other_numbers_and_kinds(make, message):
    with pytest.raises(ValueError, match=message):
        make()
