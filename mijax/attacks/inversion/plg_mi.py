"""PLG-MI: a conditional generator, taught by the target what each class looks like.

Yuan, Chen, Zhang, Zhang, Yu, Zhang (2023). Before the attack, on public images:
(1) each class is given those that the target is surest of, as if they were its own;
(2) a conditional GAN learns these pseudo-labels; its generator's loss also holds the
    target's margin on a random view of what it draws for a class.
Then, for each victim, Adam minimizes the max-margin loss over latents of that class's
images, averaged over a few random views.

    data = plg_mi.pseudo_labelled(known, images)
    prior, _ = plg_mi.prior(known, generator, critic).fit(key, data, ...)
    known = dataclasses.replace(known, prior=prior)

Departures from the paper:
- views are crops, mirrored and of another brightness and contrast; the paper's are
  turned by up to 5 degrees too;
- networks are the caller's, and may start from an unconditional prior's variables,
  which saves most of the steps; the generator that is kept is an average. How the
  critic's layers are kept from growing is said at `unit_spectral_norms`;
- of a victim's restarts, the one of the largest margin without a view is the answer.

References:
  Yuan et al. Pseudo label-guided model inversion attack via conditional generative
  adversarial network. AAAI 2023. arXiv:2302.09814.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array, lax

from mijax import core, search
from mijax.attacks.inversion import augmentation, latents
from mijax.attacks.inversion.losses import max_margin
from mijax.batching import keys_of
from mijax.core import Prior, hyper_parameters, static
from mijax.knowledge import WhiteBox
from mijax.priors import adversarial
from mijax.priors.adversarial import Game, State
from mijax.training import Training

View = Callable[[Array, Array], Array]


def _view(key: Array, image: Array) -> Array:
    crop_key, mirror_key, light_key = jax.random.split(key, 3)
    image = augmentation.resized_crop(crop_key, image, (0.8, 1.0))
    image = augmentation.mirror(mirror_key, image)
    return augmentation.relit(light_key, image)


@hyper_parameters
class Config:
    """Hyper-parameters of the search; the defaults are the authors'.

    Attributes:
      steps: of Adam.
      restarts: random latents a victim.
      views: random views a step.
      view: `(key, image) -> image`.
      learning_rate: Adam's.
    """

    steps: int = static(default=600)
    restarts: int = static(default=5)
    views: int = static(default=2)
    view: View = static(default=_view)
    learning_rate: float | Array = 0.1


def attack(
    key: Array, knowledge: WhiteBox, config: Config = Config()
) -> core.Reconstruction:
    """Recovers an image of each victim's class, as the generator would draw it.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: `labels` `[V]`, and a conditional `prior` of the target's image shape
        and classes, such as of `prior`.
      config: hyper-parameters.

    Returns:
      Images `[V, H, W, C]` in the generator's range, and all restarts; `losses` are
      negated margins without a view, `trace` those of the views.

    Raises:
      ValueError: if the prior is missing, unconditional or of another image shape, or
        if a number is out of range.
    """
    prior = latents.checked(knowledge, config.restarts, "PLG-MI")
    target, victims, restarts = knowledge.target, knowledge.victims, config.restarts
    _check_conditional(prior)
    if config.views < 1:
        raise ValueError(f"views is {config.views}: it must be 1 or more.")
    labels = jnp.repeat(knowledge.labels, restarts)  # [V * R]

    def per_victim(key: Array) -> tuple[Array, Array]:
        search_key, start_key = jax.random.split(key)
        return jax.random.split(search_key, restarts), prior.sample(start_key, restarts)

    search_keys, start = jax.tree.map(
        lambda leaf: leaf.reshape(victims * restarts, *leaf.shape[2:]),
        jax.vmap(per_victim)(keys_of(key, victims)),
    )

    def objective(keys: Array, z: Array) -> Array:
        with jax.named_scope("generator"):
            x = prior.images(z, labels)
        losses = jnp.zeros(len(z))
        for view in range(config.views):
            with jax.named_scope("view"):
                seen = jax.vmap(config.view)(_folded(keys, view), x)
            with jax.named_scope("target"):
                losses += max_margin(target.predict(seen), labels, None)
        return losses / config.views

    found = search.descend(
        search.gradient_of(objective),
        start,
        optax.adam(config.learning_rate),
        steps=config.steps,
        keys=search_keys,
    )
    x = prior.images(found.last, labels)
    losses = max_margin(target.predict(x), labels, None)
    return core.choose(
        x.reshape(victims, restarts, *x.shape[1:]),
        losses.reshape(victims, restarts),
        found.trace.reshape(victims, restarts, -1),
    )


def pseudo_labelled(
    knowledge: WhiteBox, images: Any, top: int = 30
) -> tuple[Array, Array]:
    """The public images that the target is surest of, as examples of its classes.

    Args:
      knowledge: whose target judges.
      images: public ones, `[N, H, W, C]`; one may stand for several classes.
      top: n, images a class.

    Returns:
      Images `[K * n, H, W, C]` and classes `[K * n]`, as `prior` learns them.

    Raises:
      ValueError: if there are fewer images than `top`.
    """
    images = jnp.asarray(images)
    if not 1 <= top <= len(images):
        raise ValueError(f"top is {top}: it must be 1 to the {len(images)} images.")
    scores = latents.confidences(knowledge.target, images)
    _, chosen = lax.top_k(scores.T, top)  # [K, n]
    labels = jnp.repeat(jnp.arange(len(chosen), dtype=jnp.int32), top)
    return images[chosen.reshape(-1)], labels


@hyper_parameters
class PriorConfig(adversarial.Config):
    """Hyper-parameters of the generator's training; the defaults are the authors'.

    Attributes:
      margin_weight: of the target's margin, the paper's alpha.
      view: of what is drawn, `(key, image) -> image`.
    """

    latent_size: int = static(default=128)
    critic_steps: int = static(default=5)
    momentum: float = 0.0
    second_momentum: float = 0.9
    margin_weight: float = 0.2
    view: View = static(default=_view)


def prior(
    knowledge: WhiteBox,
    generator: nn.Module,
    critic: nn.Module,
    config: PriorConfig = PriorConfig(),
    start: Prior | None = None,
) -> Training[State, Prior]:
    """Returns the training of the conditional prior, of `pseudo_labelled` images.

    Args:
      knowledge: whose target teaches.
      generator: `(z, labels, train) -> images`, of as many classes.
      critic: `(images, labels) -> [B]`.
      config: hyper-parameters.
      start: as of `adversarial.training`.
    """
    target = knowledge.target

    def draw(key: Array, n: int) -> tuple[Array, Array]:
        z_key, label_key = jax.random.split(key)
        z = jax.random.normal(z_key, (n, config.latent_size))
        return z, jax.random.randint(label_key, (n,), 0, target.num_classes)

    def critic_loss(key: Array, score: Any, real: Any, fake: Any) -> Any:
        del key
        both = score(*map(jnp.concatenate, zip(real, fake, strict=True)))
        real_score, fake_score = jnp.split(both, 2)
        loss = jnp.mean(nn.relu(1 - real_score)) + jnp.mean(nn.relu(1 + fake_score))
        return loss, {"critic": loss}

    def generator_loss(key: Array, score: Any, real: Any, fake: Any) -> Any:
        del real
        images, labels = fake
        seen = jax.vmap(config.view)(jax.random.split(key, len(images)), images)
        # Else XLA computes what it can of the target's constants while it compiles.
        teacher = lax.optimization_barrier(target)
        margin = jnp.mean(max_margin(teacher.predict(seen), labels, None))
        loss = config.margin_weight * margin - jnp.mean(score(images, labels))
        return loss, {"margin": -margin}

    def criticize(variables: Any, images: Array, labels: Array) -> Any:
        return critic.apply(adversarial.unit_spectral_norms(variables), images, labels)

    def finish(state: State) -> Prior:
        variables = jax.jit(adversarial.unit_spectral_norms)(state.critic)
        return Prior.from_linen(
            generator, state.averaged, critic, variables, config.latent_size
        )

    game = Game(critic_loss, generator_loss, draw, criticize)
    return adversarial.training(generator, critic, game, config, finish, start)


def _folded(keys: Array, view: int) -> Array:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, view)


def _check_conditional(prior: Prior) -> None:
    z = jax.ShapeDtypeStruct((2, prior.latent_size), jnp.float32)
    try:
        jax.eval_shape(prior.images, z, jax.ShapeDtypeStruct((2,), jnp.int32))
    except Exception as error:
        raise ValueError(
            f"The prior does not take labels ({type(error).__name__}), but PLG-MI "
            "draws images of a class: train a conditional one by plg_mi.prior."
        ) from error
