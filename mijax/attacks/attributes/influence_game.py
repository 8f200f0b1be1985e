"""Model-inversion game: what a Boolean function adds to knowing nothing of it.

Wu, Fredrikson, Jha, Naughton (2016). A bit string x is drawn uniformly, and the
adversary is given y = f(x), flipped with a known probability, and all bits of x but
some. The black-box adversary may also ask f. Its *gain* is how much more often it
guesses a hidden bit than the best adversary who has no f.

`attack` is the best such adversary, Bayes'. `play` and `influence` are the paper's
experiment and no attack: a dictator's bit is gained by 1/2, any bit of a parity whose
others are known by 1/2 and with another unknown by 0, a constant's by 0.

Departures from the paper: it defines the game for any sampler, trainer and target; here
are its closed-form Boolean cases, where the model is f itself.

References:
  Wu et al. A methodology for formalizing model-inversion attacks. CSF 2016.
  doi:10.1109/CSF.2016.32.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from mijax import core
from mijax.attacks.attributes import map_inference
from mijax.core import Target, hyper_parameters
from mijax.knowledge import Candidates, Oracle, PartialRecord, confusion

Boolean = Callable[[Array], Array]


@hyper_parameters
class Config:
    """The game's noise.

    Attributes:
      flip: the probability that the outcome was flipped.
    """

    flip: float | Array = 0.0


def attack(
    key: Array, knowledge: PartialRecord, config: Config = Config()
) -> core.Inference:
    """Recovers a hidden bit from the other bits and a noisy outcome.

    Args:
      key: the key is consumed; the method itself is deterministic.
      knowledge: two classes, with `outcome`; the game's noise takes the place of an
        error model.
      config: the noise.

    Returns:
      The posterior of the sensitive values, `[V, S]`; `V * K` queries.

    Raises:
      ValueError: if the outcome is missing, or there are not two classes.
    """
    if knowledge.oracle.num_classes != 2:
        raise ValueError(
            f"The game is of Boolean functions, not {knowledge.oracle.num_classes} "
            "classes: use map_inference."
        )
    flip = jnp.asarray(config.flip, jnp.float32)
    noise = confusion(jnp.stack([1 - flip, flip, flip, 1 - flip]).reshape(2, 2))
    return map_inference.attack(key, dataclasses.replace(knowledge, error=noise))


def play(
    key: Array,
    function: Boolean,
    bits: int,
    hidden: Sequence[int],
    config: Config = Config(),
    *,
    trials: int = 1000,
) -> Array:
    """Plays the game; whether the adversary named the first hidden bit, `[trials]`.

    Args:
      key: the key is consumed.
      function: `x [B, bits] -> [B]`, of 0 and 1.
      bits: how many.
      hidden: which of them the adversary does not see; the first is sought.
      config: the noise.
      trials: how often to play.
    """
    draw_key, flip_key, attack_key = jax.random.split(key, 3)
    x = jax.random.bernoulli(draw_key, shape=(trials, bits)).astype(jnp.float32)
    flipped = jax.random.bernoulli(flip_key, config.flip, (trials,))
    outcome = jnp.where(flipped, 1 - function(x), function(x)).astype(jnp.int32)

    def logits(params: None, x: Array) -> Array:
        del params  # The function has none.
        return 100 * jax.nn.one_hot(function(x).astype(jnp.int32), 2)

    oracle = Oracle.of(Target.from_function(logits, None, (bits,)))
    fields = [Candidates.of(bit, [0.0, 1.0]) for bit in hidden]
    knowledge = PartialRecord(oracle, x, Candidates.product(*fields), outcome)
    found = attack(attack_key, knowledge, config)
    return (found.guess == x[:, hidden[0]]).astype(jnp.float32)


def influence(function: Boolean, bits: int) -> Array:
    """How often flipping each bit flips the function, over all strings, `[bits]`."""
    every = jnp.arange(2**bits)[:, None] >> jnp.arange(bits)[None] & 1
    x = every.astype(jnp.float32)
    flips = jnp.eye(bits)[:, None]  # [bits, 1, bits]
    flipped = jax.vmap(lambda flip: function(jnp.abs(x - flip)))(flips)
    return jnp.mean(flipped != function(x)[None], 1)
