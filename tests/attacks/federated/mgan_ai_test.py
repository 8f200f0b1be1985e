"""The server tells one client's images from the others': a planted mark of its own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mijax.attacks import mgan_ai
from mijax.core import Target
from mijax.federation import Clients, Federation, Recipe, Selective
from mijax.knowledge import ServerSeat
from mijax.models.mlp import MLP

SHAPE = (6, 6, 1)
CONFIG = mgan_ai.Config(
    rounds=8, steps=10, generator_steps=400, samples=32, latent_size=4
)
REPRESENT = jax.jit(mgan_ai.represent)
GENERATE = jax.jit(mgan_ai.generate)


def marked(images):
    """Whether the last row is bright, the victim's mark."""
    return np.asarray(images)[..., -1, :, 0].mean(-1) > 0.5


def world(noise=False, **changes):
    """Three clients of two classes, a bar in either half; the second's have a mark.

    With `noise` the second's images are that alone.
    """
    rng, parts = np.random.default_rng(0), []
    for client in range(3):
        labels = np.arange(20) % 2
        x = rng.uniform(0, 0.2, (20, *SHAPE))
        for row, label in enumerate(labels):
            x[row, :3, 1 + 3 * label] += 0.8
        x[:, -1] += 0.8 * (client == 1)
        if noise and client == 1:
            x = rng.uniform(size=x.shape)
        parts.append((x.astype(np.float32), labels))
    module = MLP(2, (12,), nn.sigmoid)
    variables = module.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    target = Target.from_linen(module, variables, SHAPE)
    options = {"batch_size": 2, **changes}
    return Federation.of(
        Recipe(learning_rate=0.5), target, Clients.of(parts), **options
    )


def seat(isolated=False, noise=False):
    begun = world(noise)
    return ServerSeat.of(jax.random.key(1), begun, 1, isolated=isolated)


@pytest.mark.parametrize(
    "isolated", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_it_generates_the_victims_images_and_without_identity_everyones(isolated):
    target, known = REPRESENT(jax.random.key(2), seat(isolated), CONFIG)
    assert np.mean(marked(known.x[:, 0])) > 0.9
    assert np.mean(marked(known.x[:, 1:])) < 0.1
    found, judge = GENERATE(jax.random.key(3), target, known, CONFIG)
    assert np.mean(marked(found.x[0])) > 0.9
    clients = world().clients
    _, _, victim = jax.vmap(lambda x: judge.judge(target, x))(clients.x)
    assert np.min(victim[1]) > np.median(victim[::2])
    if not isolated:
        plain = dataclasses.replace(CONFIG, identity=False)
        found, _ = GENERATE(jax.random.key(3), target, known, plain)
        assert np.mean(marked(found.x[0])) < 0.7


def test_of_a_victim_of_noise_alone_it_reconstructs_noise():
    _, known = REPRESENT(jax.random.key(2), seat(noise=True), CONFIG)
    own, others = np.asarray(known.x[:, 0]), np.asarray(known.x[:, 1:])
    np.testing.assert_allclose(own.mean((0, 1)), 0.5, atol=0.3)
    assert others[..., 3:5, :, 0].mean() < 0.2  # their lower half is dark


def test_a_server_sees_each_clients_update_of_the_model_that_it_was_sent():
    seen = {}
    for isolated in (False, True):
        taken = seat(isolated)
        for _ in range(2):
            taken, seen[isolated] = taken.act()
    for isolated, shared in seen.items():
        kernel = shared.target.trained["hidden_0"]["kernel"]
        np.testing.assert_array_equal(kernel[1], kernel[2])
        assert np.array_equal(kernel[0], kernel[1]) != isolated
        # The mark's pixels are dark but in the victim's, whose update comes first.
        slope = np.abs(shared.update["hidden_0"]["kernel"][:, 0, -6:]).mean((1, 2))
        assert slope[0] > 2 * slope[1:].max()


def test_under_secure_aggregation_the_server_sees_one_update_of_all():
    begun = world()
    summed = ServerSeat.of(jax.random.key(1), begun, 1, summed=True)
    (after, one), (whole, each) = summed.act(), seat().act()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[0], b.mean(0), rtol=1e-5, atol=1e-7),
        one.update,
        each.update,
    )
    assert one.batch_size == 3 * each.batch_size
    kernels = [s.target.trained["hidden_0"]["kernel"] for s in (after, whole)]
    np.testing.assert_array_equal(*kernels)
    with pytest.raises(ValueError, match="set isolated or summed"):
        ServerSeat.of(jax.random.key(1), begun, 1, isolated=True, summed=True)


@pytest.mark.parametrize(
    ("victim", "changes", "message"),
    [
        (3, {}, "victim is 3: the clients are 0 to 2"),
        (0, {"participants": 2}, "2 of 3 clients take part"),
    ],
)
def test_seats_that_cannot_see_the_victim_are_refused(victim, changes, message):
    with pytest.raises(ValueError, match=message):
        ServerSeat.of(jax.random.key(0), world(**changes), victim)


def test_a_lone_client_and_a_selective_exchange_are_refused():
    begun = world()
    one = dataclasses.replace(
        begun, clients=jax.tree.map(lambda x: x[:1], begun.clients), participants=1
    )
    with pytest.raises(ValueError, match="The federation has 1 client"):
        ServerSeat.of(jax.random.key(0), one, 0)
    some = dataclasses.replace(begun, exchange=Selective())
    with pytest.raises(ValueError, match="Clients exchange parts of the model"):
        ServerSeat.of(jax.random.key(0), some, 0)
