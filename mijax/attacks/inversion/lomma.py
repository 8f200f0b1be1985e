"""LOMMA: the logit as identity loss, averaged over the target and its students.

Nguyen, Chandrasegaran, Abdollahzadeh, Cheung (2023). Two changes to a search such as
GMI's:
(1) the identity loss is the negated logit, which does not saturate. So that it stays
    in bounds, the candidate's penultimate features are pulled towards features such as
    public images have: the squared distance to them is added;
(2) model augmentation: the loss is averaged over the target and students of other
    designs, distilled from the target on public images, so that what deceives the
    target alone no longer pays.

    students = [lomma.student(known, network).fit(key, examples, ...)[0], ...]
    known = dataclasses.replace(known, surrogates=tuple(students))

Departures from the paper:
- the search is GMI's, with its departures; the authors also search as KED-MI does;
- which features a candidate is pulled towards is drawn once, before the search, from
  a normal law with the mean and deviation of public images' features. The authors'
  code pulls every candidate towards the mean itself;
- the target's features are pulled, those of the students are not;
- students are networks of the caller's choice; the authors distill EfficientNets.

References:
  Nguyen et al. Re-thinking model inversion attacks against deep neural networks. CVPR
  2023. arXiv:2304.01669.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array

from mijax import core, training
from mijax.attacks.inversion import latents
from mijax.attacks.inversion.latents import examples
from mijax.batching import keys_of
from mijax.core import Prediction, Target, hyper_parameters, static
from mijax.knowledge import WhiteBox
from mijax.training import Training, TrainState

__all__ = ["Config", "attack", "examples", "student"]


@hyper_parameters
class Config(latents.Config):
    """Hyper-parameters; the defaults are the authors'.

    Attributes:
      feature_weight: of the squared distance of features, averaged over features,
        beside the negated logit. Both are the identity loss.
    """

    steps: int = static(default=2400)
    feature_weight: float | Array = 1.0


def attack(
    key: Array, knowledge: WhiteBox, config: Config = Config()
) -> core.Reconstruction:
    """Recovers an image of each victim's class, as the generator would draw it.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: `labels` `[V]`, `prior` of the target's image shape, `public` images;
        `surrogates`, if any, of the target's shape and classes.
      config: hyper-parameters.

    Returns:
      Images `[V, H, W, C]` in the generator's range, and all restarts.

    Raises:
      ValueError: if the prior or the public images are missing, the target does not
        return features, a surrogate is of another shape, or a number is out of range.
    """
    prior = latents.checked(knowledge, config.restarts, "LOMMA")
    models = latents.models(knowledge)
    features = latents.public_features(knowledge)
    if features is None:
        raise ValueError(
            "LOMMA needs public images in the knowledge and a target that returns a "
            "mijax.core.Prediction with features."
        )
    victims, restarts = knowledge.victims, config.restarts
    labels = jnp.repeat(knowledge.labels, restarts)[:, None]  # [V * R, 1]

    def per_victim(key: Array) -> tuple[Array, Array]:
        search_key, draw_key = jax.random.split(key)
        drawn = jax.random.normal(draw_key, (restarts, features.shape[1]))
        anchors = jnp.mean(features, 0)[None] + jnp.std(features, 0)[None] * drawn
        return search_key, anchors

    search_keys, anchors = jax.vmap(per_victim)(keys_of(key, victims))
    anchors = anchors.reshape(victims * restarts, -1)  # [V * R, F]

    def sought(prediction: Prediction) -> Array:
        return jnp.take_along_axis(prediction.logits, labels, 1)[:, 0]

    def objective(x: Array) -> Array:
        with jax.named_scope("target"):
            predictions = [model.predict(x) for model in models]
        seen = predictions[0].features
        assert seen is not None
        identity = config.feature_weight * jnp.mean((seen - anchors) ** 2, -1)
        identity -= sum(map(sought, predictions)) / len(models)
        with jax.named_scope("critic"):
            realism = prior.score(x)
        return config.identity_weight * identity - config.critic_weight * realism

    return latents.descend(
        search_keys, prior, objective, victims=victims, config=config
    )


def student(
    knowledge: WhiteBox,
    network: nn.Module,
    *,
    learning_rate: float = 0.01,
    augment: Any = None,
) -> Training[TrainState, Target]:
    """Returns the distillation of the target into a network, on its `examples`.

    Args:
      knowledge: whose target is distilled.
      network: a classifier of as many classes, which returns a `Prediction`.
      learning_rate: of stochastic gradient descent with Nesterov's momentum .9.
      augment: of `training.supervised`.
    """
    shape = knowledge.target.shape
    optimizer = optax.sgd(learning_rate, 0.9, True)

    def divergence(prediction: Prediction, probabilities: Array) -> Array:
        return optax.kl_divergence(jax.nn.log_softmax(prediction.logits), probabilities)

    return Training(
        lambda key: training.train_state(key, network, shape, optimizer),
        training.supervised(network, optimizer, divergence, augment),
        lambda state: Target.from_linen(network, state.variables, shape),
    )
