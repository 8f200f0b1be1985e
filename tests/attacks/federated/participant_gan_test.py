"""A participant's GAN recovers the one image that a class consists of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mijax.attacks import participant_gan
from mijax.core import Target
from mijax.federation import Clients, Federation, Recipe, client_update
from mijax.knowledge import FederationSeat
from mijax.models.mlp import MLP

SHAPE = (6, 6, 1)
RUN = jax.jit(participant_gan.take_part)
CONFIG = participant_gan.Config(
    rounds=40, steps=20, injected=4, samples=8, latent_size=8, learning_rate=1e-3
)


def images(pattern, number, seed):
    noise = np.random.default_rng(seed).uniform(-0.2, 0.2, (number, *SHAPE))
    return np.clip(pattern + noise, 0, 1).astype(np.float32)


def patterns():
    """Classes 0 and 1: a bar each; the adversary has the second alone."""
    bars = np.zeros((2, *SHAPE))
    bars[0, :, 1], bars[1, 4, :] = 1, 1
    return bars


def seat(has_wanted, rate=None):
    bars = patterns()
    other = [images(bars[0] if has_wanted else bars[1], 20, 1), images(bars[1], 20, 2)]
    labels = np.repeat([0 if has_wanted else 1, 1], 20)
    clients = Clients.of([(np.concatenate(other), labels)])
    module = MLP(3, (16,), nn.relu)
    variables = module.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    world = Federation.of(
        Recipe(local_steps=5, local_batch=8, learning_rate=0.2),
        Target.from_linen(module, variables, SHAPE),
        clients,
        batch_size=40,
        server_rate=jnp.float32(1.0 if rate is None else rate),
    )
    x = jnp.asarray(images(bars[1], 20, 3))
    return FederationSeat.of(
        jax.random.key(1), world, x, jnp.ones(20, int), wanted=jnp.int32(0)
    )


def likeness(found):
    mean = np.asarray(found.x[0]).mean(0).ravel()
    return np.corrcoef(mean, patterns()[0].ravel())[0, 1]


def test_it_recovers_what_others_have_and_nothing_where_no_one_has_it():
    after, found = RUN(jax.random.key(2), seat(True), CONFIG)
    assert likeness(found) > 0.6
    _, none = RUN(jax.random.key(2), seat(False), CONFIG)
    assert likeness(none) < 0.3
    still, control = RUN(jax.random.key(2), seat(True, 0.0), CONFIG)
    assert likeness(control) < likeness(found) - 0.2
    before = jax.tree.leaves(seat(True).target.params)
    for leaf, expected in zip(
        jax.tree.leaves(still.target.params), before, strict=True
    ):
        np.testing.assert_array_equal(leaf, expected)
    assert after.target.num_classes == 3
    best = np.argmin(found.losses[0])
    np.testing.assert_array_equal(found.x[0], found.candidates[0, best])


def test_an_honest_share_is_that_of_a_client_of_its_data():
    """Without injection, the seat's change is a client's of the same batch."""
    config = dataclasses.replace(CONFIG, injected=0, rounds=1, steps=1)
    one = seat(True)
    alike = dataclasses.replace(
        one, x=jnp.broadcast_to(one.x[:1], one.x.shape), labels=one.labels
    )
    after, _ = participant_gan.take_part(jax.random.key(2), alike, config)
    batch = jnp.broadcast_to(one.x[:1], (40, *SHAPE)), jnp.ones(40, int)
    own = client_update(one.recipe, one.target, *batch).change
    expected = one.act(own).target.params
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        after.target.params,
        expected,
    )
