"""Soteria: hides the features that tell most of the image, in one layer's gradient.

The client zeroes rows of the gradient of one dense layer's kernel: those of the inputs
r_i of that layer with the smallest |dr_i/dx| / (|r_i| + 0.1), which an adversary needs
most and the task least. All other gradients are shared as they are.

Guarantees nothing. Known circumvention: an adversary who leaves the defended layer out
of the gradients that are matched sees an undefended update (Balunović et al. 2022).

Departures: the authors defend single images; for a batch, scores are averaged over it.
They divide by r_i, not by its magnitude: features below 0 (tanh) are ordered otherwise.

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

from mijax.core import Defense, Target, pytree, static
from mijax.defenses import strength

_CHUNK = 32  # features that are differentiated at a time; changes no result
_OFFSET = 0.1  # the authors'


def soteria(
    rate: float | Array, layer: str = "logits", examples: int | None = None
) -> Defense:
    """Zeroes the rows of `rate` of all features in the kernel gradient of a layer.

    Args:
      rate: the share of features that is hidden.
      layer: the name of the layer in the update's tree, which holds `kernel` `[F, O]`
        and whose inputs are the target's `Prediction.features`.
      examples: how many of the batch the scores are averaged over, the first ones;
        None for all. Each costs a gradient for each feature.

    Raises:
      ValueError: if `rate` is not in [0, 1], or (when used) if the update has no such
        layer, the target has no features, or the transformation is not given the extra
        arguments `target` and `x [B, *shape]`, as `federation.share` gives them.
    """
    if examples is not None and examples < 1:
        raise ValueError(f"examples is {examples}: it must be 1 or more.")
    hide = _Hide(strength.share("Soteria's rate", rate), layer, examples)
    return Defense(
        update=optax.GradientTransformationExtraArgs(strength.no_state, hide)
    )


@pytree
class _Hide:
    rate: Array
    layer: str = static()
    examples: int | None = static()

    def __call__(
        self,
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        target: Target | None = None,
        x: Array | None = None,
        **extra: Any,
    ) -> tuple[Any, Any]:
        del params, extra
        if target is None or x is None:
            raise ValueError(
                "Soteria depends on the client's batch: give its update the extra "
                "arguments target and x, as mijax.federation.share does."
            )
        kept = mask(_features(target), x[: self.examples], self.rate)
        kernel = updates.get(self.layer, {}).get("kernel")
        if kernel is None or kernel.shape[:-1] != kept.shape:
            raise ValueError(
                f"The update has no kernel [{kept.shape[0]}, O] in a layer "
                f"{self.layer!r}; its layers are {', '.join(updates)}: name the dense "
                "layer that takes the features."
            )
        hidden = updates[self.layer] | {"kernel": kernel * kept[:, None]}
        return updates | {self.layer: hidden}, state


def _features(target: Target) -> Callable[[Array], Array]:
    def features(x: Array) -> Array:
        found = target.predict(x).features
        if found is None:
            raise ValueError(
                "Soteria hides features, and the target returns none: give a network "
                "that returns Prediction(logits, features)."
            )
        return found

    return features


def mask(features: Callable[[Array], Array], x: Array, rate: float | Array) -> Array:
    """Returns which features are shared: `[F]` of 0 and 1, `floor(rate * F)` zeros.

    Args:
      features: `x [B, *shape] -> [B, F]`, the inputs of the layer.
      x: the client's batch, `[B, *shape]`.
      rate: the share of features that is hidden.

    Raises:
      ValueError: if `rate` is not in [0, 1].
    """
    rate = strength.share("Soteria's rate", rate)
    values = features(x)  # [B, F]
    number = values.shape[1]

    def sensitivity(index: Array) -> Array:
        slope = jax.grad(lambda x: jnp.sum(features(x)[:, index]))(x)
        return jnp.linalg.norm(slope.reshape(x.shape[0], -1), axis=1)  # [B]

    slopes = jax.lax.map(sensitivity, jnp.arange(number), batch_size=_CHUNK).T
    scores = jnp.mean(slopes / (jnp.abs(values) + _OFFSET), 0)
    order = jnp.argsort(scores)
    hidden = jnp.arange(number) < strength.number_of(rate, number)
    return jnp.zeros(number).at[order].set(jnp.where(hidden, 0.0, 1.0))
