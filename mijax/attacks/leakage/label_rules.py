"""The labels of a batch, read from the last layer of its update.

Each rule is `(knowledge) -> labels [V, B]`, sorted. With cross-entropy, the gradient of
the last layer's bias is, for class k of K,

    mean confidence in k  -  share of the batch that has label k,

and that of its weights is the same with each example weighted by its features. The
rules differ in what they assume of confidences and features; each docstring says when
it is exact. Where there is a weight but no bias, the sum over features stands in for
the bias, which is right where features are not negative (sigmoid, ReLU).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.scipy.special import gammaln

from mijax.attacks.leakage import dense_layers, local_steps
from mijax.core import Target
from mijax.federation import Recipe
from mijax.knowledge import SharedUpdate

Rule = Callable[[SharedUpdate], Array]

_NEVER = 100.0  # the cost of a count that is impossible
_ROUNDS = 2  # in which labels tell of confidences, and those of labels
_RIDGE = 1e-4  # of second moments, whose largest is near 1
_PROBES = 32  # images that stand in for the batch where nothing public is known


class LastLayer(NamedTuple):
    """What the last layer's mean gradient says of each class.

    Attributes:
      weight: `[V, F, K]`.
      bias: `[V, K]`; None where the layer has none.
    """

    weight: Array
    bias: Array | None


class _Responses(NamedTuple):
    """Of public images: logits `[V, N, K]`; mean features `[V, F]`, or None.

    V is 1 where all clients had one model.
    """

    logits: Array
    features: Array | None


def labels_of(knowledge: SharedUpdate, rule: Rule) -> Array:
    """Returns the labels that are known, or else what a rule recovers, `[V, B]`.

    Raises:
      ValueError: if local steps leave out examples, or as the rule does.
    """
    local_steps.visits(knowledge)
    return rule(knowledge) if knowledge.labels is None else knowledge.labels


def labels_of_restarts(knowledge: SharedUpdate, rule: Rule, restarts: int) -> Array:
    """Returns the labels that each restart takes for true, `[V, R, B]`.

    A rule finds which labels there are, but not which local step took which: the
    restarts try all orders in turn.

    Raises:
      ValueError: as `labels_of`, or if there are more orders than restarts.
    """
    labels = labels_of(knowledge, rule)
    if knowledge.labels is not None:
        return jnp.repeat(labels[:, None], restarts, 1)
    orders = local_steps.orders(knowledge, restarts)
    return labels[:, orders[np.arange(restarts) % len(orders)]]


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
            "label_rules.bias_corrected, yin or wainakh."
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
            f"share {classes} classes: use label_rules.bias_corrected."
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
    Where clients normalize by their batches, public images are normalized likewise; and
    where they take several steps, confidences are those of the model halfway.
    A layer without bias must tell its features, whose mean sum is measured likewise.
    Where a model tells its features, the batch's own are read from the gradient of the
    weights (`_confidence_of_batch`), and public confidences moved accordingly.
    Of local steps that take some examples twice and others once, several batches may
    leave the same counts of visits; the likeliest is returned.

    No paper has this rule: it is named for that of the code `breaching`.

    Departure: breaching's rule estimates an example's impact by the sum of the negative
    gradients; here it is 1 / B, which is what it is, and confidences are subtracted.

    References:
      Fowl, Geiping, et al. Breaching, a framework for attacks against privacy in
      federated learning. https://github.com/JonasGeiping/breaching
    """
    visits = local_steps.visits(knowledge)
    if visits[0] < 2 * visits[-1]:
        return _with_equal_impact(knowledge, knowledge.batch_size)
    return _likeliest(visited(knowledge), knowledge.batch_size)


def visited(knowledge: SharedUpdate) -> Array:
    """Counts the visits of local steps to examples of each class, `[V, K]` int32.

    It finds them as `bias_corrected` finds labels, of which it is the finer form where
    steps take some examples twice and others once.
    """
    total = int(local_steps.visits(knowledge).sum())
    labels = _with_equal_impact(knowledge, total)
    one_hot = jax.nn.one_hot(labels, knowledge.target.num_classes, dtype=jnp.int32)
    return jnp.sum(one_hot, 1)


def learning_rate(knowledge: SharedUpdate) -> Array:
    """Estimates the rate of the clients' local steps, of each client, `[V]`.

    A class that no example has moves the last layer's bias by its mean confidence alone
    (see the top), which public images tell. Exact where there is such a class, and
    otherwise too low. The recipe's rate only sets a scale.

    Raises:
      ValueError: if clients share a gradient, which has no rate.
    """
    if not knowledge.recipe.local_steps:
        raise ValueError(
            "local_steps is 0: clients share a gradient, and no rate is in it."
        )
    gradient = _as_of_bias(knowledge)
    confidence = jnp.mean(jax.nn.softmax(_public_responses(knowledge).logits), 1)
    share = gradient / confidence
    most = jnp.max(share, 1, keepdims=True)
    one_example = 1 / (confidence * knowledge.batch_size)  # in units of `most`
    absent = share > most * (1 - jnp.minimum(0.5 * one_example, 1))
    total = jnp.sum(jnp.where(absent, gradient, 0), 1)
    expected = jnp.sum(jnp.where(absent, confidence, 0), 1)
    return knowledge.recipe.learning_rate * total / expected


def _with_equal_impact(knowledge: SharedUpdate, number: int) -> Array:
    """The labels of so many visits or examples, `[V, number]`."""
    public, gradient = _public_responses(knowledge), _as_of_bias(knowledge)
    certain = gradient < 0
    impact = jnp.full((knowledge.victims,), -1 / number)
    confidence = jnp.mean(jax.nn.softmax(public.logits), 1)
    labels = _counted(gradient - confidence, certain, impact, number)
    if public.features is None:
        return labels
    logits, features = (
        jnp.broadcast_to(leaf, (knowledge.victims, *leaf.shape[1:]))
        for leaf in (public.logits, public.features)
    )
    last = dense_layers.last(knowledge.target)
    weights = jax.tree.leaves(knowledge.target.trained)[last.weight]
    slopes = last_layer(knowledge).weight
    for _ in range(_ROUNDS):
        one_hot = jax.nn.one_hot(labels, knowledge.target.num_classes)
        shares = jnp.mean(one_hot, 1)
        of_batches = jax.vmap(_confidence_of_batch, (0, 0, 0, 0, 0, None))
        confidence = of_batches(shares, slopes, gradient, logits, features, weights)
        labels = _counted(gradient - confidence, certain, impact, number)
    return labels


def _confidence_of_batch(
    shares: Array,
    slopes: Array,
    gradient: Array,
    logits: Array,
    features: Array,
    weights: Array,
) -> Array:
    """The batch's mean confidences, by what the update tells of its features, `[K]`.

    The weights' gradient is the mean over examples of features times z, where z are
    confidences less the label's one-hot. If labels have these shares, and confidences
    vary as those of public images do, there is a combination of classes in which z is
    nearly 1 for every example: what the gradient then holds is the features' mean.

    Args:
      shares: of the labels, `[K]`.
      slopes: the gradient of the last layer's weights, `[F, K]`.
      gradient: that of its bias, `[K]`.
      logits: of public images, `[N, K]`.
      features: their mean, `[F]`.
      weights: of the last layer, `[F, K]`.
    """
    p = jax.nn.softmax(logits)
    mean = jnp.mean(p, 0)
    products = jnp.matmul(p.T, p, precision="highest") / len(p)
    crossed = jnp.outer(mean, shares)
    second_moment = products - crossed - crossed.T + jnp.diag(shares)
    ridge = _RIDGE * jnp.eye(len(mean))
    combined = jnp.linalg.solve(second_moment + ridge, mean - shares)
    told = jnp.matmul(slopes, combined, precision="highest")
    move = told - jnp.sum(gradient * combined) * features
    shift = jnp.matmul(move, weights, precision="highest")
    return jnp.mean(jax.nn.softmax(logits + shift[None]), 0)


def _likeliest(visits: Array, batch: int) -> Array:
    """The likeliest labels of a batch whose examples were taken once or twice each.

    Of `visits` to a class, m examples explain `visits - m` second ones; the counts m
    that most orders of the batch agree with are found one example at a time, which is
    the best there is, as each class's cost is convex.
    """

    def cost(examples: Array) -> Array:
        twice, once = visits - examples, 2 * examples - visits
        wrong = jnp.maximum(-twice, 0) + jnp.maximum(-once, 0)
        twice, once = jnp.maximum(twice, 0), jnp.maximum(once, 0)
        return gammaln(twice + 1.0) + gammaln(once + 1.0) + _NEVER * wrong

    def take(examples: Array, _: Any) -> tuple[Array, Array]:
        label = jnp.argmin(cost(examples + 1) - cost(examples), 1)
        return examples + jax.nn.one_hot(label, visits.shape[1]), label

    labels = lax.scan(take, jnp.zeros(visits.shape), length=batch)[1]
    return _sorted(labels.T)


def last_layer(knowledge: SharedUpdate) -> LastLayer:
    """Finds the last layer's mean gradient in the update.

    Of local steps, the mean over them is taken, as if the weights had not moved but by
    what an optimizer does to them itself.

    Raises:
      ValueError: if no layer, or more than one, can be the last, or if the clients'
        optimizer does not move as gradients add up.
    """
    layer, recipe = dense_layers.last(knowledge.target), knowledge.recipe
    indices = layer.weight, layer.bias
    weight, bias = (
        dense_layers.leaf_of(knowledge.update, index, layer.name) for index in indices
    )
    change = LastLayer(weight, bias)
    if not recipe.local_steps:
        return change
    if recipe.optimizer is optax.sgd:
        scale = -1 / (recipe.learning_rate * recipe.local_steps)
        return jax.tree.map(lambda leaf: leaf * scale, change)
    _refuse_others_than_sums(knowledge)
    leaves = jax.tree.leaves(knowledge.target.trained)
    weight, bias = (None if i is None else leaves[i] for i in indices)
    start = LastLayer(jnp.asarray(weight), bias)

    def mean(change: Array, start: Array) -> Array:
        still, moved = (_moved(recipe, start, gradient) for gradient in (0.0, 1.0))
        return (change - still[None]) / (moved - still)[None]

    return jax.tree.map(mean, change, start)


def _moved(recipe: Recipe, start: Array, gradient: float) -> Array:
    """How far local steps of the same gradient everywhere move weights."""
    optimizer = recipe.optimizer(recipe.learning_rate)

    def step(state: tuple[Any, Any], _: Any) -> tuple[Any, None]:
        weights, moments = state
        slope = jnp.full_like(weights, gradient)
        change, moments = optimizer.update(slope, moments, weights)
        return (optax.apply_updates(weights, change), moments), None

    state = start, optimizer.init(start)
    return lax.scan(step, state, length=recipe.local_steps)[0][0] - start


def _refuse_others_than_sums(knowledge: SharedUpdate) -> None:
    """Raises ValueError where a change is no sum of gradients, all counted alike."""
    recipe = dataclasses.replace(knowledge.recipe, learning_rate=1e-3)
    with jax.ensure_compile_time_eval():
        still, once, twice = (_moved(recipe, jnp.ones(()), g) for g in (0.0, 1.0, 2.0))
        proportional = np.isclose(twice - still, 2 * (once - still), rtol=1e-3)
    if not proportional:
        raise ValueError(
            f"The clients' optimizer, {recipe.optimizer}, does not move twice as far "
            "for twice the gradient (Adam), so that labels cannot be read from its "
            "change: give them in the knowledge."
        )
    if local_steps.size(knowledge) < knowledge.batch_size:
        raise ValueError(
            f"The clients' optimizer, {recipe.optimizer}, counts the examples of early "
            "local steps more than those of late ones, so that labels cannot be read "
            "from its change: give them in the knowledge."
        )


def _evidence(knowledge: SharedUpdate) -> Array:
    """The bias's gradient, or what stands in for it, `[V, K]`."""
    layer = last_layer(knowledge)
    return jnp.sum(layer.weight, 1) if layer.bias is None else layer.bias


def _as_of_bias(knowledge: SharedUpdate) -> Array:
    """The same in units of the bias's gradient, by the sum of public features."""
    if last_layer(knowledge).bias is not None:
        return _evidence(knowledge)
    features = _public_responses(knowledge).features
    sums = jnp.ones((1,)) if features is None else jnp.sum(features, 1)
    return _evidence(knowledge) / sums[:, None]


def _public_responses(knowledge: SharedUpdate) -> _Responses:
    """What the models make of public images, or of noise.

    Where clients normalize by their batches, so are these: as many at a time. Where
    they take several steps, the model is that of halfway: it learns its labels.
    """
    recipe, target = knowledge.recipe, knowledge.target
    if recipe.local_steps < 2:
        return jax.tree.map(lambda x: x[None], _responses_of(knowledge, target))
    # Gradients are of all weights but the last.
    halfway = (recipe.local_steps - 1) / (2 * recipe.local_steps)

    def of_client(change: Any) -> _Responses:
        weights = jax.tree.map(
            lambda c, w: w if c is None else w + halfway * c,
            change,
            target.trained,
            is_leaf=lambda leaf: leaf is None,
        )
        return _responses_of(knowledge, target.with_trained(weights))

    return lax.map(of_client, knowledge.update)


def _responses_of(knowledge: SharedUpdate, target: Target) -> _Responses:
    """What one model makes of those images: logits `[N, K]`, features `[F]`."""
    recipe, images = knowledge.recipe, knowledge.public
    if images is None:
        images = jax.random.uniform(jax.random.key(0), (_PROBES, *target.shape))
    number = images.shape[0]
    size = min(local_steps.size(knowledge), number) if recipe.train else 1
    groups = images[jnp.arange(-(-number // size) * size) % number]

    def respond(group: Array) -> _Responses:
        (logits, features), _ = target.observe(group, recipe.train)
        if features is not None:
            features = jnp.mean(features.reshape(len(features), -1), 0)
        return _Responses(logits, features)

    logits, features = lax.map(
        respond,
        groups.reshape(-1, size, *target.shape),
        batch_size=max(1, _PROBES // size),
    )
    mean = None if features is None else jnp.mean(features, 0)
    return _Responses(logits.reshape(-1, logits.shape[-1]), mean)


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
