"""Whole federated trainings beside closed forms: a quadratic loss around each image."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax import federation
from mijax.core import Prediction, Target
from mijax.defenses import noise
from mijax.federation import Clients, Federation, Recipe, Selective

KEY = jax.random.key(0)
CENTERS, COUNTS = np.array([0.0, 1.0, 4.0]), np.array([1, 3, 4])
MEAN = np.average(CENTERS, weights=COUNTS)


def offset(weight, x):
    difference = weight[None] - x.reshape(-1, 1)
    return Prediction(jnp.concatenate([difference, 0 * difference], 1))


def half_square(prediction, labels):
    del labels
    return prediction.logits[:, 0] ** 2 / 2


def target():
    """One weight, 10 at first."""
    return Target.from_function(offset, jnp.array([10.0]), (1, 1, 1))


def clients():
    """Each has copies of one pixel; what pads them is not a number."""
    padded = Clients.of(
        [
            (np.full((count, 1, 1, 1), center, np.float32), np.zeros(count, int))
            for center, count in zip(CENTERS, COUNTS, strict=True)
        ]
    )
    unused = np.arange(4)[None] >= COUNTS[:, None]
    x = jnp.where(jnp.asarray(unused)[:, :, None, None, None], jnp.nan, padded.x)
    return Clients(x, padded.labels, padded.counts)


def begin(recipe, **options):
    options = {"batch_size": 2, **options}
    return Federation.of(recipe, target(), clients(), **options)


def train(recipe, rounds=200, misbehave=None, **options):
    after, who = federation.simulate(
        KEY, begin(recipe, **options), rounds=rounds, misbehave=misbehave
    )
    return after.target.trained[0], np.asarray(who)


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("rounds", [1, 7, 200])
def test_the_weight_nears_the_weighted_mean_as_the_closed_form_does(steps, rounds):
    recipe = Recipe(half_square, local_steps=steps, learning_rate=0.02)
    weight, who = train(recipe, rounds=rounds)
    shrunk = 0.98 ** (rounds * max(steps, 1))
    np.testing.assert_allclose(weight, MEAN + shrunk * (10 - MEAN), rtol=1e-4)
    np.testing.assert_array_equal(np.sort(who), np.tile(np.arange(3), (rounds, 1)))


def test_a_whole_step_ends_where_the_last_participant_is():
    for rounds in (1, 2, 3, 4):
        recipe = Recipe(half_square, learning_rate=1.0)
        weight, who = train(recipe, rounds=rounds, participants=1)
        np.testing.assert_allclose(weight, CENTERS[who[-1, 0]], atol=1e-5)


def test_each_client_takes_part_as_often_and_once_a_round():
    _, who = train(Recipe(half_square), rounds=600, participants=2)
    assert np.all(who[:, 0] != who[:, 1])
    taken = np.bincount(who.ravel(), minlength=3)
    assert np.all(np.abs(taken - 400) < 4 * np.sqrt(600 * 2 / 9))


def test_pieces_train_as_the_whole_does():
    recipe = Recipe(half_square, learning_rate=0.1)
    whole, who = train(recipe, rounds=10, participants=2)
    start = begin(recipe, participants=2)
    first, early = federation.simulate(KEY, start, rounds=4)
    last, late = federation.simulate(KEY, first, rounds=6)
    np.testing.assert_array_equal(np.concatenate([early, late]), who)
    np.testing.assert_allclose(last.target.trained[0], whole, rtol=1e-5)


def test_noise_is_anew_for_each_client_and_round():
    def still(weights, x):
        zeros = jnp.zeros((x.shape[0], 2)) * weights[0]
        return Prediction(zeros)

    start = Target.from_function(still, jnp.zeros(20_000), (1, 1, 1))
    recipe = Recipe(half_square, learning_rate=1.0)
    begun = Federation.of(
        recipe, start, clients(), batch_size=1, defense=noise.gaussian(0.3)
    )
    after, _ = federation.simulate(KEY, begun, rounds=5)
    shares = COUNTS / COUNTS.sum()
    expected = 0.3 * np.sqrt(5 * np.sum(shares**2))
    assert np.std(after.target.trained) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds is 0: it must be 1 or more"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"participants": 4}, "participants is 4: it must be 1 to 3, the clients"),
        ({"participants": 0}, "participants is 0"),
    ],
)
def test_bad_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        train(Recipe(half_square), **options)


def test_clients_without_data_and_strange_labels_are_refused():
    one, none = np.zeros((1, 1, 1, 1)), np.zeros((0, 1, 1, 1))
    with pytest.raises(ValueError, match=r"have \[1, 0\] examples"):
        Clients.of([(one, np.zeros(1, int)), (none, np.zeros(0, int))])
    with pytest.raises(ValueError, match=r"have \[\] examples"):
        Clients.of([])
    strange = Clients.of([(one, np.full(1, 7))])
    with pytest.raises(ValueError, match="labels hold 7"):
        Federation.of(Recipe(), target(), strange, batch_size=1)


def test_a_schedule_says_who_trains_on_what():
    parts = [
        (np.array([a, b]).reshape(2, 1, 1, 1), np.zeros(2, int))
        for a, b in ((0.0, 1.0), (10.0, 20.0))
    ]
    rows = jnp.array([[[0], [0]], [[1], [0]], [[1], [1]]])
    scheduled = dataclasses.replace(Clients.of(parts), rows=rows)
    start = Federation.of(
        Recipe(half_square, learning_rate=1.0), target(), scheduled, batch_size=1
    )
    means = lambda target, _: target.trained[0]
    _, weights = federation.simulate(KEY, start, rounds=4, record=means)
    np.testing.assert_allclose(weights, [5.0, 5.5, 10.5, 5.0], rtol=1e-5)
    with pytest.raises(ValueError, match=r"rows are \(3, 2, 1\): .*\('T', 2, 2\)"):
        Federation.of(Recipe(), target(), scheduled, batch_size=2)


def test_who_misbehaves_is_told_the_round_and_the_model():
    def misbehave(key, t, target):
        del key
        return t + 0.0 * target.trained

    recipe = Recipe(half_square, learning_rate=1.0, local_steps=1)
    weight, _ = train(recipe, rounds=1, misbehave=misbehave)
    others = (MEAN - 10) * COUNTS.sum()  # of a share of 8 : 8 / 3
    assert weight == pytest.approx(10 + others / (8 + 8 / 3), rel=1e-5)
    own = lambda target, round_: round_.change[-1, 0]
    _, told = federation.simulate(
        KEY, begin(recipe), rounds=4, misbehave=misbehave, record=own
    )
    np.testing.assert_array_equal(told, [0, 1, 2, 3])


# Selective exchange -------------------------------------------------------------------


def linear(weights, x):
    """Logits whose loss has the gradient `x` in the weights."""
    return Prediction(
        jnp.stack([x.reshape(len(x), -1) @ weights, jnp.zeros(len(x))], 1)
    )


def first_logit(prediction, labels):
    del labels
    return prediction.logits[:, 0]


def exchanged(length, rounds=1, **options):
    """Two clients of one image each, whose changes are minus that image."""
    images = np.random.default_rng(0).normal(size=(2, 1, length, 1, 1))
    parts = [(image.astype(np.float32), np.zeros(1, int)) for image in images]
    start = Federation.of(
        Recipe(first_logit, local_steps=1, learning_rate=1.0),
        Target.from_function(linear, jnp.zeros(length), (length, 1, 1)),
        Clients.of(parts),
        batch_size=1,
        exchange=Selective(**options) if options else None,
    )
    after, shared = federation.simulate(
        KEY, start, rounds=rounds, record=lambda _, round_: round_
    )
    order = np.argsort(shared.who, 1)[..., None]
    return after, np.take_along_axis(shared.change, order, 1), -images.reshape(2, -1)


@pytest.mark.parametrize(("length", "number"), [(30, 3), (31, 4), (109, 11)])
def test_exactly_the_largest_changes_are_uploaded(length, number):
    after, shared, changes = exchanged(length, upload=0.1)
    for sent, change in zip(shared[0], changes, strict=True):
        largest = np.argsort(-np.abs(change))[:number]
        assert set(np.flatnonzero(sent)) == set(largest)
        np.testing.assert_allclose(sent[largest], change[largest], rtol=1e-6)
    np.testing.assert_allclose(after.target.trained, shared[0].mean(0), rtol=1e-6)


def test_all_of_everything_is_averaging():
    selective, _, _ = exchanged(30, rounds=3, upload=1.0, download=1.0)
    averaging, _, changes = exchanged(30, rounds=3)
    expected = 3 * changes.mean(0)
    np.testing.assert_allclose(averaging.target.trained, expected, rtol=1e-5)
    np.testing.assert_allclose(selective.target.trained, expected, rtol=1e-5)


def test_a_tenth_is_downloaded_of_what_is_uploaded_most():
    after, shared, changes = exchanged(30, rounds=1, upload=0.2, download=0.1)
    uploads = (shared[0] != 0).sum(0)
    np.testing.assert_array_equal(after.uploads, uploads)
    np.testing.assert_allclose(
        np.asarray(after.local), changes, rtol=1e-6
    )  # nothing to download
    again, _, _ = exchanged(30, rounds=2, upload=0.2, download=0.1)
    local = np.asarray(again.local)
    fresh = ~np.isclose(local, 2 * changes, rtol=1e-5)
    np.testing.assert_array_equal(fresh.sum(1), [3, 3])
    assert np.all(uploads[fresh[0]] >= np.sort(uploads)[-3])
    server = np.asarray(after.target.trained)
    np.testing.assert_allclose(local[fresh], (server + changes)[fresh], rtol=1e-5)


def test_changes_are_clipped_thresholded_and_noised():
    _, bare, _ = exchanged(30, upload=1.0)
    _, cut, _ = exchanged(30, upload=1.0, clip=0.5, threshold=0.25)
    expected = np.where(np.abs(bare) >= 0.25, np.clip(bare, -0.5, 0.5), 0)
    np.testing.assert_allclose(cut, expected, rtol=1e-6)
    _, noised, _ = exchanged(20_000, upload=0.5, noise=0.1)
    _, still, _ = exchanged(20_000, upload=0.5)
    added = (noised - still)[still != 0]
    assert np.all(noised[still == 0] == 0)
    assert np.abs(added).mean() == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upload": 0.0}, "upload is 0.0: it is a share"),
        ({"download": 1.5}, "download is 1.5: it is a share"),
        ({"clip": 0.0}, "clip is 0.0: it must be positive"),
        ({"threshold": -1.0}, "threshold is -1.0: it must be 0 or more"),
        ({"noise": -1.0}, "noise is -1.0: it must be 0 or more"),
    ],
)
def test_bad_exchanges_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Selective(**options)


def test_gradients_are_not_exchanged_selectively():
    with pytest.raises(ValueError, match="set its local_steps to 1 or more"):
        begin(Recipe(half_square), exchange=Selective())
