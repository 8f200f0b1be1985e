"""Whole federated trainings beside closed forms: a quadratic loss around each image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax import federation
from mijax.core import Prediction, Target
from mijax.defenses import noise
from mijax.federation import Clients, Recipe

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


def train(recipe, **options):
    options = {"rounds": 200, "batch_size": 2, **options}
    after, who = federation.simulate(KEY, recipe, target(), clients(), **options)
    return after.trained[0], np.asarray(who)


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
    first, early = federation.simulate(
        KEY, recipe, target(), clients(), rounds=4, batch_size=2, participants=2
    )
    last, late = federation.simulate(
        KEY, recipe, first, clients(), rounds=6, batch_size=2, participants=2, start=4
    )
    np.testing.assert_array_equal(np.concatenate([early, late]), who)
    np.testing.assert_allclose(last.trained[0], whole, rtol=1e-5)


def test_noise_is_anew_for_each_client_and_round():
    def still(weights, x):
        zeros = jnp.zeros((x.shape[0], 2)) * weights[0]
        return Prediction(zeros)

    start = Target.from_function(still, jnp.zeros(20_000), (1, 1, 1))
    recipe = Recipe(half_square, learning_rate=1.0)
    after, _ = federation.simulate(
        KEY,
        recipe,
        start,
        clients(),
        rounds=5,
        batch_size=1,
        defense=noise.gaussian(0.3),
    )
    shares = COUNTS / COUNTS.sum()
    expected = 0.3 * np.sqrt(5 * np.sum(shares**2))
    assert np.std(after.trained) == pytest.approx(expected, rel=0.03)


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
        federation.simulate(KEY, Recipe(), target(), strange, rounds=1, batch_size=1)
