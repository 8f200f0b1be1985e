import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax.defenses import chain, clipping, pruning, quantization
from mijax.defenses.released_weights import released, round_fraction

WEIGHTS = {"w": jax.random.normal(jax.random.key(0), (40, 25)), "b": jnp.zeros(3)}


@pytest.mark.parametrize("bits", [3, 7, 10])
def test_low_bits_are_gone_and_the_rest_is_near(bits):
    found = released(round_fraction(bits), WEIGHTS)
    raw = jax.lax.bitcast_convert_type(found["w"], jnp.uint32)
    assert not np.any(raw & (2 ** (23 - bits) - 1))
    np.testing.assert_allclose(found["w"], WEIGHTS["w"], rtol=2.0 ** -(bits + 1))
    np.testing.assert_array_equal(found["b"], 0)


def test_seven_bits_are_bfloat16():
    found = released(round_fraction(7), WEIGHTS)["w"]
    expected = WEIGHTS["w"].astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_array_equal(found, expected)


def test_all_bits_change_nothing():
    found = released(round_fraction(23), WEIGHTS)
    np.testing.assert_array_equal(found["w"], WEIGHTS["w"])


def test_a_defense_of_updates_is_one_of_weights():
    pruned = released(pruning.prune_layers(0.5), WEIGHTS)
    assert np.sum(pruned["w"] == 0) == 500
    coarse = released(quantization.stochastic(4.0), WEIGHTS)
    assert len(np.unique(coarse["w"])) <= 9
    for defense in (chain(), clipping.clip_examples(1.0)):
        with pytest.raises(ValueError, match="give one of updates"):
            released(defense, WEIGHTS)
