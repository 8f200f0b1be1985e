"""Soteria: hides the features that tell most of the image, in one layer's gradient.

The client zeroes rows of the gradient of one dense layer's kernel: those of the inputs
r_i of that layer with the smallest |dr_i/dx| / (|r_i| + 0.1), which an adversary needs
most and the task least. All other gradients are shared as they are.

Guarantees nothing. Known circumvention: an adversary who leaves the defended layer out
of the gradients that are matched sees an undefended update (Balunović et al. 2022).

Departure: the authors defend single images; for a batch, scores are averaged over it.

References:
  Sun et al. Soteria: provable defense against privacy leakage in federated learning
  from representation perspective. CVPR 2021. arXiv:2012.06043.
  Balunović et al. Bayesian framework for gradient leakage. ICLR 2022. arXiv:2111.04706.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from mijax.core import concrete
from mijax.defenses import Defense

_CHUNK = 32  # features that are differentiated at a time; changes no result
_OFFSET = 0.1  # the authors'


def soteria(
    features: Callable[[Array], Array],
    x: Array,
    rate: float | Array,
    layer: str = "logits",
) -> Defense:
    """Zeroes the rows of `rate` of all features in the kernel gradient of a layer.

    Unlike other defenses it depends on the client's own batch: make it where the batch
    is at hand, inside the `vmap` over clients.

    Args:
      features: `x [B, *shape] -> [B, F]`, the inputs of the layer, such as
        `Target.predict(x).features` of the layer `logits`.
      x: the client's batch, `[B, *shape]`.
      rate: the share of features that is hidden.
      layer: the name of the layer in the update's tree, which holds `kernel` `[F, O]`.

    Raises:
      ValueError: if `rate` is not in [0, 1], or (when used) if the update has no such
        layer.
    """
    kept = mask(features, x, rate)

    def hide(updates: Any, params: Any) -> Any:
        del params
        kernel = updates.get(layer, {}).get("kernel")
        if kernel is None or kernel.shape[:-1] != kept.shape:
            raise ValueError(
                f"The update has no kernel [{kept.shape[0]}, O] in a layer {layer!r}; "
                f"its layers are {', '.join(updates)}: name the dense layer that takes "
                "the features."
            )
        return updates | {layer: updates[layer] | {"kernel": kernel * kept[:, None]}}

    return Defense(update=optax.stateless(hide))


def mask(features: Callable[[Array], Array], x: Array, rate: float | Array) -> Array:
    """Returns which features are shared: `[F]` of 0 and 1, `floor(rate * F)` zeros.

    Arguments are those of `soteria`.
    """
    value = concrete(jnp.asarray(rate))
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"Soteria's rate is {rate}: it must lie in [0, 1].")
    values = features(x)  # [B, F]
    number = values.shape[1]

    def sensitivity(index: Array) -> Array:
        slope = jax.grad(lambda x: jnp.sum(features(x)[:, index]))(x)
        return jnp.linalg.norm(slope.reshape(x.shape[0], -1), axis=1)  # [B]

    slopes = jax.lax.map(sensitivity, jnp.arange(number), batch_size=_CHUNK).T
    scores = jnp.mean(slopes / (jnp.abs(values) + _OFFSET), 0)
    order = jnp.argsort(scores)
    hidden = jnp.arange(number) < jnp.floor(rate * number)
    return jnp.zeros(number).at[order].set(jnp.where(hidden, 0.0, 1.0))
