import jax
import jax.numpy as jnp
import numpy as np

from mijax.models.causal_conv import CausalConv, losses

MODULE = CausalConv(7, width=8, dilations=(1, 2))
TEXTS = jnp.array([[0, 0, 3, 1, 5], [2, 6, 3, 1, 5]])
PARAMS = jax.jit(MODULE.init)(jax.random.key(0), TEXTS)
EVERYWHERE = jax.jit(lambda x: MODULE.apply(PARAMS, x, method="everywhere"))
LOSSES = jax.jit(lambda x: losses(MODULE, PARAMS["params"], x))


def test_sees_nothing_after_a_place_and_no_further_back_than_it_says():
    whole = EVERYWHERE(TEXTS)
    np.testing.assert_allclose(MODULE.apply(PARAMS, TEXTS).logits, whole[:, -1], 1e-5)
    changed = EVERYWHERE(TEXTS.at[:, 3].set(4))
    np.testing.assert_allclose(changed[:, :3], whole[:, :3], rtol=1e-5)
    assert not np.allclose(changed[:, 3:], whole[:, 3:], atol=1e-3)
    before = EVERYWHERE(TEXTS.at[1, 0].set(4))  # five places, and four are in sight
    np.testing.assert_allclose(before[:, 4], whole[:, 4], rtol=1e-5)
    assert not np.allclose(before[1, 3], whole[1, 3], atol=1e-3)


def test_a_pad_is_as_no_symbol():
    longer = jnp.pad(TEXTS, ((0, 0), (3, 0)))
    whole = jax.jit(lambda x: MODULE.apply(PARAMS, x, method="everywhere"))(longer)
    np.testing.assert_allclose(whole[:, 3:], EVERYWHERE(TEXTS), rtol=1e-4, atol=1e-5)


def test_losses_are_of_symbols_and_not_of_pads():
    found = LOSSES(TEXTS)
    log = jax.nn.log_softmax(EVERYWHERE(jnp.pad(TEXTS, ((0, 0), (1, 0)))[:, :-1]))
    by_hand = [
        -np.mean([log[row, i, symbol] for i, symbol in enumerate(text) if symbol])
        for row, text in enumerate(np.asarray(TEXTS))
    ]
    np.testing.assert_allclose(found, by_hand, rtol=1e-4)
    np.testing.assert_array_equal(LOSSES(jnp.zeros_like(TEXTS)), 0)
