"""Small networks of encoded records, as targets."""

import jax
import jax.numpy as jnp
import optax

from mijax import training
from mijax.core import Target
from mijax.models.mlp import MLP


def classifier(
    key: jax.Array,
    x: jax.Array,
    labels: jax.Array,
    num_classes: int,
    *,
    width: int,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
) -> Target:
    """Trains an MLP of one hidden layer by Adam, all of it as one program."""
    module = MLP(num_classes, (width,), jax.nn.relu)
    optimizer = optax.adam(learning_rate)
    start_key, fit_key = jax.random.split(key)
    state = training.train_state(start_key, module, x.shape[1:], optimizer)

    @jax.jit
    def train(key: jax.Array, state: training.TrainState) -> training.TrainState:
        data = x, labels.astype(jnp.int32)
        step = training.supervised(module, optimizer)
        size = min(batch_size, len(x))
        return training.fit(key, state, step, data, batch_size=size, steps=steps)[0]

    variables = train(fit_key, state).variables
    return Target.from_linen(module, variables, x.shape[1:])
