"""PPA finds what was planted behind a generator, and nothing where nothing was."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax.attacks import ppa
from mijax.attacks.inversion import aggregation, augmentation, losses
from mijax.core import Prediction, Prior, Reconstruction, Target
from mijax.knowledge import WhiteBox

LATENT, SHAPE, CLASSES = 4, (8, 8, 1), 3
# Smooth orthonormal patterns, which views change little: products of cosines.
WAVES = [np.cos(np.pi * k * (np.arange(8) + 0.5) / 8) for k in range(3)]
BASIS = np.stack(
    [np.outer(WAVES[i], WAVES[j]).ravel() for i, j in [(0, 1), (1, 0), (1, 1), (0, 2)]]
)
BASIS = jnp.asarray(BASIS / np.linalg.norm(BASIS, axis=1)[:, None], jnp.float32)
PLANTED = 1.5 * jnp.eye(CLASSES, LATENT)  # the latent of each class
LABELS = jnp.arange(CLASSES, dtype=jnp.int32)
CONFIG = ppa.Config(
    samples=40,
    restarts=3,
    steps=80,
    final_views=8,
    mirrored=False,
    strong_view=augmentation.resized_crop,
    learning_rate=0.05,
    first_decay=0.9,
    second_decay=0.999,
)
attack = jax.jit(ppa.attack)


def generate(basis, z):
    return 0.5 + (z @ basis).reshape(-1, *SHAPE)


def invert(x):
    return (x - 0.5).reshape(*x.shape[:-3], 64) @ BASIS.T


def bumps(height, x):
    distances = jnp.sum((invert(x)[:, None] - PLANTED[None]) ** 2, -1)
    return height * jnp.exp(-distances / 2) - 1


def blind(height, x):
    return jnp.ones((1, CLASSES)) + 0 * height * x[:, 0, 0]


def broken(height, x):
    # XLA may take a constant NaN for one that cannot occur; this one is computed.
    return bumps(height, x) + 0 * jnp.sqrt(invert(x)[:, :1])


def knowing(function):
    def unmoved(critic, x):
        return critic * jnp.mean(x, axis=(1, 2, 3))

    prior = Prior(BASIS, jnp.float32(0), generate, unmoved, LATENT, SHAPE)
    target = Target.from_function(function, jnp.float32(10.0), SHAPE)
    return WhiteBox(target, LABELS, prior=prior)


def deceived(height, x):
    return jnp.roll(bumps(height, x), 1, 1)


def distances(x):
    return jnp.sum((invert(x)[:, None] - PLANTED[None]) ** 2, -1)


def test_finds_what_was_planted():
    found = attack(jax.random.key(0), knowing(bumps), CONFIG)
    assert np.all(np.argmin(distances(found.x), 1) == LABELS)
    np.testing.assert_allclose(invert(found.x), PLANTED, atol=0.4)


def test_surrogates_correct_what_deceives_the_target():
    known = knowing(deceived)
    alone = attack(jax.random.key(0), known, CONFIG)
    assert not np.any(np.argmin(distances(alone.x), 1) == LABELS)
    others = (knowing(bumps).target,) * 2
    known = dataclasses.replace(known, surrogates=others)
    together = attack(jax.random.key(0), known, CONFIG)
    assert np.all(np.argmin(distances(together.x), 1) == LABELS)


def test_latents_stay_on_the_sphere():
    config = dataclasses.replace(CONFIG, on_sphere=True)
    found = attack(jax.random.key(0), knowing(bumps), config)
    lengths = np.linalg.norm(invert(found.candidates), axis=-1)
    np.testing.assert_allclose(lengths, np.sqrt(LATENT), rtol=1e-4)
    assert np.all(np.argmin(distances(found.x), 1) == LABELS)


def test_surrogates_are_searched_alone():
    """The target that is deceived has no say until candidates are selected."""
    config = dataclasses.replace(CONFIG, surrogates_alone=True)
    others = (knowing(bumps).target,)
    known = dataclasses.replace(knowing(deceived), surrogates=others)
    found = attack(jax.random.key(0), known, config)
    alone = attack(jax.random.key(0), knowing(bumps), CONFIG)
    np.testing.assert_allclose(found.trace, alone.trace, atol=1e-5)
    assert np.all(found.losses > alone.losses + 0.1)
    with pytest.raises(ValueError, match="surrogates_alone needs surrogates"):
        attack(jax.random.key(0), knowing(bumps), config)


def test_models_take_turns():
    """Of two models one step each: the losses are the first's and the second's."""
    others = (knowing(bumps).target, knowing(deceived).target)
    known = dataclasses.replace(knowing(blind), surrogates=others)
    config = dataclasses.replace(
        CONFIG, surrogates_alone=True, in_turn=True, steps=3, samples=1, restarts=1
    )
    found, first, second = (
        attack(jax.random.key(0), k, config)
        for k in (
            known,
            dataclasses.replace(known, surrogates=others[:1]),
            dataclasses.replace(known, surrogates=others[1:]),
        )
    )
    gaps = [np.abs(found.trace - one.trace)[..., :2] for one in (first, second)]
    np.testing.assert_allclose(gaps[0][..., 0], 0, atol=1e-5)
    assert np.all(gaps[0][..., 1] > 1e-3) and np.all(gaps[1][..., 0] > 1e-3)


def test_each_stage_brings_it_closer():
    """Samples chosen are nearer than random ones, and optimized ones nearer still."""
    own = lambda x: float(np.mean(distances(x)[LABELS, LABELS]))
    chosen, random = (
        attack(
            jax.random.key(0), knowing(function), dataclasses.replace(CONFIG, steps=0)
        )
        for function in (bumps, blind)
    )
    optimized = attack(jax.random.key(0), knowing(bumps), CONFIG)
    assert own(optimized.x) < 0.5 * own(chosen.x) < 0.5 * own(random.x)


def test_a_target_that_tells_nothing_gives_chance():
    config = dataclasses.replace(CONFIG, restarts=1, steps=2, samples=3, final_views=1)
    found = jax.jit(
        lambda pools: jax.lax.map(
            lambda pool: (
                ppa.attack(
                    jax.random.key(1),
                    knowing(blind),
                    dataclasses.replace(config, pool=pool),
                ).x
            ),
            pools,
        )
    )(jnp.arange(400))
    # All victims get the same image, of which at most one is the right one.
    hits = [np.argmin(distances(x), 1) == LABELS for x in found]
    assert np.all(np.sum(hits, 1) == 1)


def test_nan_cannot_win():
    config = dataclasses.replace(CONFIG, steps=0, restarts=40)
    found = attack(jax.random.key(0), knowing(broken), config)
    failed = ~np.isfinite(found.losses)
    assert 0 < failed.sum() < failed.size
    assert np.isfinite(found.loss).all()


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("restarts is 41: it must be between 1 and the 40", {"restarts": 41}),
        ("final_views is 0", {"final_views": 0}),
    ],
)
def test_refuses_numbers_out_of_range(message, changes):
    with pytest.raises(ValueError, match=message):
        ppa.attack(
            jax.random.key(0), knowing(bumps), dataclasses.replace(CONFIG, **changes)
        )


def test_refuses_no_prior():
    knowledge = dataclasses.replace(knowing(bumps), prior=None)
    with pytest.raises(ValueError, match="PPA needs a prior"):
        ppa.attack(jax.random.key(0), knowledge, CONFIG)


def test_poincare_is_the_distance_in_the_ball():
    """Along a radius it is the difference of 2 artanh(norm)."""
    logits = jnp.array([[3.0, 1.0, 0.0], [50.0, 0.0, 0.0], [-1.0, 2.0, 1.0]])
    found = losses.poincare(Prediction(logits), jnp.zeros(3, jnp.int32), None)
    u = np.asarray(logits, np.float64) / np.abs(logits).sum(1, keepdims=True)
    v = np.array([1 - 1e-4, 0, 0])
    with np.errstate(divide="ignore"):
        inside = (1 - (u**2).sum(1)) * (1 - v @ v)
        expected = np.arccosh(1 + 2 * ((u - v) ** 2).sum(1) / inside)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-3)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-3)
    radius = losses.poincare(
        Prediction(jnp.array([[0.0, 0.0, 0.0]])), jnp.zeros(1, jnp.int32), None
    )
    np.testing.assert_allclose(radius, 2 * np.arctanh(1 - 1e-4), rtol=1e-3)


def test_poincare_is_finite_where_it_could_divide_by_zero():
    def total(logits):
        return jnp.sum(losses.poincare(Prediction(logits), jnp.array([0, 0]), None))

    value, gradient = jax.value_and_grad(total)(jnp.array([[9.0, 0, 0], [0, 0, 0]]))
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_a_crop_of_everything_is_the_image_and_of_a_ramp_a_ramp():
    image = jax.random.uniform(jax.random.key(0), (8, 6, 2))
    whole = augmentation.resized_crop(jax.random.key(1), image, (1.0, 1.0))
    np.testing.assert_allclose(whole, image, atol=1e-5)
    ramp = jnp.broadcast_to(jnp.arange(32.0)[None, :, None], (32, 32, 1))
    for seed in range(5):
        crop = augmentation.resized_crop(
            jax.random.key(seed), ramp, (0.3, 0.5), (0.8, 1.2)
        )
        slopes = np.diff(crop[0, :, 0])[2:-2]
        np.testing.assert_allclose(slopes, slopes[0], rtol=1e-2)
        assert 0.3 * 0.8 <= slopes[0] ** 2 <= 0.5 * 1.2 + 1e-3


def test_mirror_mirrors_half_the_time():
    image = jnp.arange(6.0).reshape(1, 6, 1)
    views = jax.vmap(augmentation.mirror, (0, None))(
        jax.random.split(jax.random.key(0), 400), image
    )
    share = np.mean(views[:, 0, 0, 0] == 5)
    assert abs(share - 0.5) < 4 * 0.025
    assert set(np.unique(views[:, 0, 0, 0])) == {0, 5}


def test_the_mean_leaves_out_what_failed():
    candidates = jnp.stack([jnp.full((2, *SHAPE), v) for v in (1.0, 3.0, jnp.nan)], 1)
    values = jnp.array([[0.1, 0.2, jnp.nan], [jnp.inf, 0.2, jnp.nan]])
    found = Reconstruction(
        candidates[:, 0], values[:, 0], candidates, values, values, jnp.int32(0)
    )
    np.testing.assert_allclose(aggregation.mean(found)[:, 0, 0, 0], [2, 3])


def test_the_mean_may_mirror():
    image = jax.random.uniform(jax.random.key(0), SHAPE)
    candidates = jnp.stack([image, image[:, ::-1]])[None]
    found = Reconstruction(
        image[None],
        jnp.zeros(1),
        candidates,
        jnp.zeros((1, 2)),
        jnp.zeros((1, 1, 2)),
        jnp.int32(0),
    )
    np.testing.assert_allclose(aggregation.mean(found, mirror=True)[0], image)
    plain = aggregation.mean(found)[0]
    np.testing.assert_allclose(plain, (image + image[:, ::-1]) / 2, rtol=1e-6)


def test_a_sketch_holds_candidates_near_it():
    """Of a target that says nothing, candidates go where the sketch is."""
    small = knowing(blind)
    prior = small.prior.resized(32, 32)
    sketch = prior.images(PLANTED)
    target = dataclasses.replace(small.target, shape=(32, 32, 1))
    known = WhiteBox(target, LABELS, prior=prior, sketch=sketch)

    def unlike(config):
        x = attack(jax.random.key(0), known, config).x - sketch
        x = x - x.mean((1, 2, 3), keepdims=True)
        return np.mean(x[:, 4:28, 4:28] ** 2)

    near = dataclasses.replace(CONFIG, sketch_weight=50.0)
    assert unlike(near) < 0.1 * unlike(CONFIG)
