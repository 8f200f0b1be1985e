"""The labels of a batch, read from the last layer of its update.

Each rule is `(knowledge) -> labels [V, B]`, sorted. With cross-entropy, the gradient of
the last layer's bias is, for class k of K,

    mean confidence in k  -  share of the batch that has label k,

and that of its weights is the same with each example weighted by its features. The
rules differ in what they assume of confidences and features; each docstring says when
it is exact. Where there is a weight but no bias, the sum over features stands in for
the bias, which is right where features are not negative (sigmoid, ReLU).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mijax.attacks.leakage import dense_layers
from mijax.knowledge import SharedUpdate

Rule = Callable[[SharedUpdate], Array]

_PROBES = 32  # images that stand in for the batch where nothing public is known


class LastLayer(NamedTuple):
    """What the last layer's mean gradient says of each class.

    Attributes:
      weight: `[V, F, K]`.
      bias: `[V, K]`; None where the layer has none.
    """

    weight: Array
    bias: Array | None


def labels_of(knowledge: SharedUpdate, rule: Rule) -> Array:
    """Returns the labels that are known, or else what a rule recovers, `[V, B]`."""
    return rule(knowledge) if knowledge.labels is None else knowledge.labels


def idlg(knowledge: SharedUpdate) -> Array:
    """The one class whose gradient is negative: exact for a batch of 1.

    Departure: the bias tells, where there is one, whatever the sign of the features.

    Raises:
      ValueError: if the batch is larger.

    References:
      Zhao, Mopuri, Bilen. iDLG: improved deep leakage from gradients. 2020.
      arXiv:2001.02610.
    """
    if knowledge.batch_size != 1:
        raise ValueError(
            f"iDLG's rule is for a batch of 1, not {knowledge.batch_size}: use "
            "label_recovery.bias_corrected, yin or wainakh."
        )
    return _sorted(jnp.argmin(_evidence(knowledge), 1, keepdims=True))


def yin(knowledge: SharedUpdate) -> Array:
    """The classes with the most negative weight gradients: exact for distinct labels.

    Where features are not negative. A label that repeats is found once, and another
    class in its place.

    Raises:
      ValueError: if the batch is larger than the number of classes.

    References:
      Yin et al. See through gradients: image batch recovery via GradInversion. CVPR
      2021. arXiv:2104.07586.
    """
    classes = knowledge.target.num_classes
    if knowledge.batch_size > classes:
        raise ValueError(
            f"Yin's rule finds distinct labels, but {knowledge.batch_size} examples "
            f"share {classes} classes: use label_recovery.bias_corrected."
        )
    least = jnp.min(last_layer(knowledge).weight, 1)  # [V, K]
    return _sorted(jnp.argsort(least, 1)[:, : knowledge.batch_size])


def wainakh(knowledge: SharedUpdate) -> Array:
    """LLG: as often as a class's gradient holds the impact of one example.

    Exact, also for labels that repeat, for an untrained network (confidences near
    1/K, features alike) where each class that is present has more than B/K examples
    and the classes present are few among K.

    References:
      Wainakh et al. User-level label leakage from gradients in federated learning
      (LLG). PETS 2022. arXiv:2105.09369.
    """
    batch, classes = knowledge.batch_size, knowledge.target.num_classes
    evidence = jnp.sum(last_layer(knowledge).weight, 1)  # [V, K]
    negative = jnp.sum(jnp.minimum(evidence, 0), 1)
    impact = negative * (1 + 1 / classes) / batch  # [V]
    return _counted(evidence, evidence < 0, impact, batch)


def bias_corrected(knowledge: SharedUpdate) -> Array:
    """The bias's gradient, less the confidences that the model has in any image.

    Exact, also for labels that repeat, where the mean confidence of the batch in each
    class is known to less than half an example: for untrained networks, and for others
    where `public` images are like the batch. Without public images, noise stands in.
    Where clients normalize by their batches, public images are normalized likewise.
    A layer without bias must tell its features, whose mean sum is measured likewise.

    Departure: breaching's rule estimates an example's impact by the sum of the negative
    gradients; here it is 1 / B, which is what it is, and confidences are subtracted.

    References:
      Geiping et al. Inverting gradients: how easy is it to break privacy in federated
      learning? NeurIPS 2020. arXiv:2003.14053.
    """
    batch, victims = knowledge.batch_size, knowledge.victims
    confidence, weight = _mean_response(knowledge)
    gradient = _evidence(knowledge)
    if last_layer(knowledge).bias is None:
        gradient = gradient / weight
    impact = jnp.full((victims,), -1 / batch)
    return _counted(gradient - confidence[None], gradient < 0, impact, batch)


def last_layer(knowledge: SharedUpdate) -> LastLayer:
    """Finds the last layer's mean gradient in the update.

    Of local steps, the mean over them is taken, as if the weights had not moved.

    Raises:
      ValueError: if no layer, or more than one, can be the last.
    """
    layer, recipe = dense_layers.last(knowledge.target), knowledge.recipe
    leaves = jax.tree.leaves(knowledge.update)
    if recipe.local_steps:
        scale = -1 / (recipe.learning_rate * recipe.local_steps)
        leaves = [leaf * scale for leaf in leaves]
    bias = None if layer.bias is None else leaves[layer.bias]
    return LastLayer(leaves[layer.weight], bias)


def step_size(knowledge: SharedUpdate) -> int:
    """Returns how many examples a client takes at once."""
    recipe = knowledge.recipe
    return (recipe.local_steps and recipe.local_batch) or knowledge.batch_size


def _evidence(knowledge: SharedUpdate) -> Array:
    """The bias's gradient, or what stands in for it, `[V, K]`."""
    layer = last_layer(knowledge)
    return jnp.sum(layer.weight, 1) if layer.bias is None else layer.bias


def _mean_response(knowledge: SharedUpdate) -> tuple[Array, Array]:
    """What the model makes of public images, or of noise, on average.

    Where clients normalize by their batches, so are these: as many at a time.

    Returns:
      Its confidence in each class, `[K]`, and the sum of its features; 1 where it does
      not tell those.
    """
    target, recipe = knowledge.target, knowledge.recipe
    images = knowledge.public
    if images is None:
        images = jax.random.uniform(jax.random.key(0), (_PROBES, *target.shape))
    number = images.shape[0]
    size = min(step_size(knowledge), number) if recipe.train else 1
    groups = images[jnp.arange(-(-number // size) * size) % number]

    def respond(group: Array) -> tuple[Array, Array]:
        (logits, features), _ = target.observe(group, recipe.train)
        weight = jnp.ones(()) if features is None else jnp.sum(features) / size
        return jnp.mean(jax.nn.softmax(logits), 0), weight

    responses = lax.map(
        respond,
        groups.reshape(-1, size, *target.shape),
        batch_size=max(1, _PROBES // size),
    )
    confidence, weight = jax.tree.map(lambda leaf: jnp.mean(leaf, 0), responses)
    return confidence, weight


def _counted(evidence: Array, certain: Array, impact: Array, batch: int) -> Array:
    """Takes a batch of labels by their evidence; those that are certain come first.

    Args:
      evidence: the more negative, the more examples, `[V, K]`.
      certain: which classes are there at least once, `[V, K]`.
      impact: what one example adds to the evidence of its class, `[V]`.
      batch: B.
    """

    def of_victim(evidence: Array, certain: Array, impact: Array) -> Array:
        def take(state: tuple[Array, Array], _: Any) -> tuple[Any, Array]:
            evidence, certain = state
            rank = jnp.where(
                certain, evidence - 2 * jnp.max(jnp.abs(evidence)), evidence
            )
            label = jnp.argmin(rank)
            state = evidence.at[label].add(-impact), certain.at[label].set(False)
            return state, label

        return lax.scan(take, (evidence, certain), length=batch)[1]

    return _sorted(jax.vmap(of_victim)(evidence, certain, impact))


def _sorted(labels: Array) -> Array:
    return jnp.sort(labels.astype(jnp.int32), 1)
