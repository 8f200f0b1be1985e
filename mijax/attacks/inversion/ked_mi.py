"""KED-MI: a critic of soft labels, and a Gaussian of latents per victim.

Chen, Kahla, Jia, Qi (2021). Before the attack, on public images, a GAN is trained whose
critic has one logit a class. With lse the logarithm of their summed exponentials, and
D = sigmoid(lse) the probability that an image is real,

    L_critic = CE(critic(x), target(x)) - w/2 E[log D(x) + log(1 - D(G(z)))]
    L_generator = |mean features of G(z) - mean features of x|_1 + w' entropy(G(z)),

so that it draws what tells the target's classes apart. Then, for each victim, Adam
descends on the mean and the variance of a Gaussian over latents, one draw a step, on

    identity_weight * CE(target(G(z)), label) - critic_weight * log D(G(z)).

    data = ked_mi.examples(known, images)
    prior, _ = ked_mi.prior(known, generator, critic).fit(key, data, ...)
    known = dataclasses.replace(known, prior=prior)

Departures from the paper:
- the critic's features are its last map, without the authors' layer that compares the
  images of a minibatch; networks are the caller's, and may start from another prior's
  variables; the generator that is kept is an average;
- victims are independent: the authors average the loss over a batch of identities,
  which changes nothing here, as Adam divides by the size of the gradient;
- the draws of a victim's Gaussian are its candidates, and the one of the least loss is
  the answer.

References:
  Chen, Kahla, Jia, Qi. Knowledge-enriched distributional model inversion attacks. ICCV
  2021. arXiv:2010.04092.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array

from mijax import core, search
from mijax.attacks.inversion import latents
from mijax.attacks.inversion.latents import examples
from mijax.attacks.inversion.losses import cross_entropy
from mijax.batching import keys_of
from mijax.core import Prior, hyper_parameters, static
from mijax.knowledge import WhiteBox
from mijax.priors import adversarial
from mijax.priors.adversarial import Game, State
from mijax.training import Training

__all__ = ["Config", "PriorConfig", "attack", "examples", "prior"]


@hyper_parameters
class Config:
    """Hyper-parameters of the search; the defaults are the authors'.

    Attributes:
      steps: of Adam.
      restarts: draws from each victim's Gaussian, once it is found.
      learning_rate: Adam's.
      identity_weight: of the target's cross-entropy, the paper's lambda.
      critic_weight: of the critic's log-probability that the image is real.
      clip: draws are clipped to plus and minus this.
    """

    steps: int = static(default=2400)
    restarts: int = static(default=5)
    learning_rate: float | Array = 0.02
    identity_weight: float | Array = 100.0
    critic_weight: float | Array = 1.0
    clip: float | Array = 1.0


def attack(
    key: Array, knowledge: WhiteBox, config: Config = Config()
) -> core.Reconstruction:
    """Recovers an image of each victim's class, as the generator would draw it.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: `labels` `[V]`, and `prior` of the target's image shape, such as of
        `prior`.
      config: hyper-parameters.

    Returns:
      Images `[V, H, W, C]` in the generator's range, and all draws; `trace` is that of
      the victim's one search, the same for each of its draws.

    Raises:
      ValueError: if the prior is missing or of another image shape, or if a number is
        out of range.
    """
    prior = latents.checked(knowledge, config.restarts, "KED-MI")
    victims, restarts = knowledge.victims, config.restarts
    search_keys, draw_keys = jax.vmap(jax.random.split, out_axes=1)(
        keys_of(key, victims)
    )

    def draws(keys: Array, law: tuple[Array, Array], number: int) -> Array:
        mean, log_variance = law
        shape = number, prior.latent_size
        noise = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
        z = mean[:, None] + jnp.exp(log_variance / 2)[:, None] * noise
        return jnp.clip(z, -config.clip, config.clip).reshape(-1, prior.latent_size)

    def losses_of(x: Array, labels: Array) -> Array:
        with jax.named_scope("target"):
            identity = cross_entropy(knowledge.target.predict(x), labels, None)
        with jax.named_scope("critic"):
            realism = prior.score(x)
        return config.identity_weight * identity - config.critic_weight * realism

    def objective(keys: Array, law: tuple[Array, Array]) -> Array:
        with jax.named_scope("generator"):
            x = prior.images(draws(keys, law, 1))
        return losses_of(x, knowledge.labels)

    shape = victims, prior.latent_size
    found = search.descend(
        search.gradient_of(objective),
        (jnp.zeros(shape), jnp.ones(shape)),
        optax.adam(config.learning_rate),
        steps=config.steps,
        keys=search_keys,
    )
    x = prior.images(draws(draw_keys, found.last, restarts))
    losses = losses_of(x, jnp.repeat(knowledge.labels, restarts))
    return core.choose(
        x.reshape(victims, restarts, *x.shape[1:]),
        losses.reshape(victims, restarts),
        jnp.repeat(found.trace[:, None], restarts, 1),
    )


@hyper_parameters
class PriorConfig(adversarial.Config):
    """Hyper-parameters of the generator's training; the defaults are the authors'.

    Attributes:
      real_weight: of telling real images from drawn ones, beside knowing their classes.
      entropy_weight: of the entropy of the critic's classes of a drawn image.
    """

    real_weight: float = 10.0
    entropy_weight: float = 1e-4


def prior(
    knowledge: WhiteBox,
    generator: nn.Module,
    critic: nn.Module,
    config: PriorConfig = PriorConfig(),
    start: Prior | None = None,
) -> Training[State, Prior]:
    """Returns the training of the prior, whose data are `examples`.

    Args:
      knowledge: whose target the critic learns from; the data hold what it said.
      generator: `(z, train) -> images`.
      critic: `images -> Prediction`, of as many classes, with features.
      config: hyper-parameters.
      start: as of `adversarial.training`.
    """
    del knowledge

    def both(score: Any, real: Any, fake: Any) -> tuple[list[Array], list[Array]]:
        said = score(jnp.concatenate([real[0], fake[0]]))
        return jnp.split(said.logits, 2), jnp.split(said.features, 2)

    def critic_loss(key: Array, score: Any, real: Any, fake: Any) -> Any:
        del key
        (logits, drawn), _ = both(score, real, fake)
        labels = jnp.mean(optax.softmax_cross_entropy(logits, real[1]))
        is_real = jax.nn.log_sigmoid(jax.nn.logsumexp(logits, -1))
        is_drawn = jax.nn.log_sigmoid(-jax.nn.logsumexp(drawn, -1))
        told_apart = -jnp.mean(is_real + is_drawn) / 2
        loss = labels + config.real_weight * told_apart
        return loss, {"labels": labels, "critic": told_apart}

    def generator_loss(key: Array, score: Any, real: Any, fake: Any) -> Any:
        del key
        (_, drawn), (features, drawn_features) = both(score, real, fake)
        away = jnp.mean(jnp.abs(jnp.mean(features, 0) - jnp.mean(drawn_features, 0)))
        classes = jax.nn.softmax(drawn)
        entropy = jnp.mean(optax.softmax_cross_entropy(drawn, classes))
        return away + config.entropy_weight * entropy, {"away": away}

    def finish(state: State) -> Prior:
        made = Prior.from_linen(
            generator, state.averaged, critic, state.critic, config.latent_size
        )
        return dataclasses.replace(made, criticize=_LogReal(critic))

    game = Game(
        critic_loss, generator_loss, adversarial.standard_normal(config.latent_size)
    )
    return adversarial.training(generator, critic, game, config, finish, start)


@dataclasses.dataclass(frozen=True)
class _LogReal:
    """The logarithm of the critic's probability that images are real."""

    critic: nn.Module

    def __call__(self, variables: Any, images: Array) -> Array:
        said: Any = self.critic.apply(variables, images)
        return jax.nn.log_sigmoid(jax.nn.logsumexp(said.logits, -1))
