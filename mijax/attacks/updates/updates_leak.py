"""Updates-Leak: the labels and images of an update, from answers before and after.

Salem, Bhattacharya, Backes, Fritz, Zhang (2020). The model is asked about a probing set
before and after an update. A shadow model is cloned, each clone is updated with another
set of public images, and a network learns from the differences of the clones' answers
what was in the set: its labels (`attack`: of one image, or the distribution of many),
or its image (`reconstruct`, where a set is one image).

The shadow model is trained on the first half of the public images, clones are updated
with sets of the other half. A target's differences may all be longer than a shadow's,
as one that was trained less moves more: a network that reads distributions would be
sure and wrong, so that `class_means` keeps the direction alone.

Departures: an update is `recipe.local_steps` of SGD on the whole set; differences are
standardized by the clones'; single images are decoded by one perceptron, where the
paper first trains an autoencoder; 2,000 clones, where the paper has 10,000. Sets of
many images are not reconstructed.

References:
  Salem, Bhattacharya, Backes, Fritz, Zhang. Updates-Leak: data set inference and
  reconstruction attacks in online learning. USENIX Security 2020. arXiv:1904.01067.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array

from mijax.attacks.updates import shadow_updates
from mijax.core import Inference, Reconstruction, hyper_parameters, infer, static
from mijax.federation import Recipe
from mijax.knowledge.updated_model import UpdatedModel
from mijax.models.decoders import DenseDecoder
from mijax.models.mlp import MLP
from mijax.priors import decoder
from mijax.training import Training, TrainState


def flattened(differences: Array) -> Array:
    """Returns differences `[S, P, K]` as they are, `[S, P K]`."""
    return differences.reshape(differences.shape[0], -1)


def class_means(differences: Array) -> Array:
    """Returns what confidence each class lost, up to a scale, `[S, P, K] -> [S, K]`.

    Of the P probing images and K classes it keeps K numbers: the mean over all probing
    images, divided by the length of the K. What an update does to one probing image
    depends on the weights that the model happens to have, and a network that learned it
    from the shadow model is wrong about the target. That a set full of one class lifts
    the confidence in this class on average holds for both.
    """
    means = jnp.mean(differences, 1)
    length = jnp.linalg.norm(means, axis=1, keepdims=True)
    return means / jnp.maximum(length, 1e-12)


def perceptron(classes: int) -> nn.Module:
    """Returns a shadow model of 64 hidden units."""
    return MLP(classes, (64,), nn.relu)


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      recipe: how the service updates its model.
      shadow: the shadow model, from the number of classes.
      summary: of differences, `[S, P, K] -> [S, F]`.
      widths: of the network that reads them.
      clones: shadow updates (10,000 in the paper).
      set_size: images of an update (1 and 100 in the paper).
      shadow_steps: of the shadow model's training.
      steps: of the training of the network that reads.
      batch_size: clones a step; all of them where there are fewer.
      concentration: of the Dirichlet law of a set's labels; large for uniform sets.
      learning_rate: of the network that reads, by AMSGrad.
    """

    recipe: Recipe = Recipe(local_steps=1, learning_rate=1e-2)
    shadow: Callable[[int], nn.Module] = static(default=perceptron)
    summary: Callable[[Array], Array] = static(default=flattened)
    widths: tuple[int, ...] = static(default=(128, 64))
    clones: int = static(default=2000)
    set_size: int = static(default=1)
    shadow_steps: int = static(default=600)
    steps: int = static(default=1000)
    batch_size: int = static(default=64)
    concentration: float | Array = 1.0
    learning_rate: float | Array = 1e-3


def pairs(
    key: Array, knowledge: UpdatedModel, config: Config = Config()
) -> tuple[Array, Array]:
    """Returns what the clones' updates did, `[S, F]`, and their sets, rows `[S, U]`.

    Raises:
      ValueError: if a set is larger than the public data, or shapes do not fit.
    """
    knowledge.check_shapes()
    public, labels = knowledge.public, knowledge.labels
    half = len(public) // 2
    if not 1 <= config.set_size <= len(public) - half:
        raise ValueError(
            f"set_size is {config.set_size} but of {len(public)} public images "
            f"{len(public) - half} are for updates: choose a size between 1 and that."
        )
    shadow_key, set_key = jax.random.split(key)
    classes = knowledge.oracle.num_classes
    model = shadow_updates.shadow(
        shadow_key,
        config.shadow(classes),
        public[:half],
        labels[:half],
        steps=config.shadow_steps,
    )
    rows = half + shadow_updates.draw_sets(
        set_key,
        labels[half:],
        classes,
        number=config.clones,
        size=config.set_size,
        concentration=config.concentration,
    )
    differences = shadow_updates.traces(
        config.recipe, model, knowledge.probes, public, labels, rows
    )
    return config.summary(differences), rows


def observed(
    knowledge: UpdatedModel, config: Config = Config()
) -> tuple[Array, UpdatedModel]:
    """Asks about the probing set; returns `[V, F]`, and what was spent."""
    before, after, asked = knowledge.query()
    return config.summary(before[None] - after), asked


def standardized(differences: Array) -> Callable[[Array], Array]:
    """Returns what standardizes differences `[B, F]` by the moments of the clones'."""
    mean = jnp.mean(differences, 0, keepdims=True)
    variance = jnp.var(differences, 0, keepdims=True)
    deviation = jnp.sqrt(variance + 0.01 * jnp.mean(variance) + 1e-20)
    return lambda x: (x - mean) / deviation


def training(
    knowledge: UpdatedModel, config: Config = Config(), *, differences: Array
) -> Training[TrainState, Callable[[Array], Array]]:
    """Returns the training of the network that reads labels of differences.

    Its data are `(differences [S, F], label distributions [S, K])`, its product maps
    differences to log-probabilities `[B, K]`.
    """
    module = MLP(knowledge.oracle.num_classes, config.widths, nn.relu)
    optimizer = optax.amsgrad(config.learning_rate)
    standardize = standardized(differences)

    def logits(variables: Any, x: Array) -> Array:
        prediction: Any = module.apply(variables, standardize(x))
        return prediction.logits

    def init(key: Array) -> TrainState:
        variables = module.init(key, differences[:1])
        return TrainState(variables, optimizer.init(variables))

    def step(key: Array, state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        del key
        x, shares = batch

        def loss(variables: Any) -> Array:
            losses = optax.softmax_cross_entropy(logits(variables, x), shares)
            return jnp.mean(losses)

        value, gradients = jax.value_and_grad(loss)(state.variables)
        updates, opt_state = optimizer.update(gradients, state.opt_state)
        variables = optax.apply_updates(state.variables, updates)
        return TrainState(variables, opt_state), {"loss": value}

    def finish(state: TrainState) -> Callable[[Array], Array]:
        return lambda x: jax.nn.log_softmax(logits(state.variables, x))

    return Training(init, step, finish)


def attack(key: Array, knowledge: UpdatedModel, config: Config = Config()) -> Inference:
    """Recovers the labels of an update: one image's, or the distribution of a set's.

    Args:
      key: of the shadow model, its updates and the training; it is consumed.
      knowledge: queries before and after, a probing set, and public data.
      config: hyper-parameters.

    Returns:
      The likeliest label, `[V]`, and the logarithm of the labels' distribution.

    Raises:
      ValueError: if a set is larger than the public data, or shapes do not fit.
    """
    pair_key, fit_key = jax.random.split(key)
    differences, rows = pairs(pair_key, knowledge, config)
    classes = knowledge.oracle.num_classes
    shares = jnp.mean(jax.nn.one_hot(knowledge.labels[rows], classes), 1)
    read, _ = training(knowledge, config, differences=differences).fit(
        fit_key,
        (differences, shares),
        batch_size=min(config.batch_size, config.clones),
        steps=config.steps,
    )
    seen, asked = observed(knowledge, config)
    prior = jnp.log(jnp.mean(shares, 0, keepdims=True) + 1e-9)
    return infer(read(seen), prior, asked.spent - knowledge.spent)


def reconstruct(
    key: Array, knowledge: UpdatedModel, config: Config = Config()
) -> Reconstruction:
    """Recovers the image of an update of one.

    Args and errors are those of `attack`; `config.set_size` must be 1.

    Returns:
      Images `[V, H, W, C]` in [0, 1]; the loss is the training's last one.
    """
    if config.set_size != 1:
        raise ValueError(
            f"set_size is {config.set_size}: only a set of 1 image is reconstructed."
        )
    pair_key, fit_key = jax.random.split(key)
    differences, rows = pairs(pair_key, knowledge, config)
    seen, asked = observed(knowledge, config)
    return decoder.invert(
        fit_key,
        decoder.Config(
            lambda shape: DenseDecoder(shape, config.widths[::-1]),
            config.steps,
            config.batch_size,
            config.learning_rate,
        ),
        differences,
        knowledge.public[rows[:, 0]],
        seen,
        asked.spent - knowledge.spent,
    )
