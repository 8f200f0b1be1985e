"""PPA, plug and play: any public generator, searched under random views.

Struppek, Hintersdorf, De Almeida Correia, Adler, Kersting (2022). For each victim,
(1) of many samples of the generator, those that the target is surest of;
(2) from each, Adam on the Poincare loss of the target on one random view of G(z);
(3) of what was optimized, the one that the target is surest of over strong views.

Departures from the paper:
- the paper searches StyleGAN2's intermediate latents; here it is the latent of any
  prior;
- `samples` are drawn with a seed of their own, as the authors do, and are the same for
  every victim. Replicates that should differ in them differ in `pool`;
- of the optimized candidates the paper keeps 50 of 200 for each class; here all are
  returned with their confidences, and the surest is the answer;
- candidates are independent of who else is attacked: each has views of its own;
- `sketch_weight` keeps candidates like a sketch of the victim, which the paper has not;
- where there are surrogates, losses and confidences are means over the target and them:
  LOMMA's model augmentation, which the paper does not have. `surrogates_alone` searches
  through them and leaves the target the final selection.

References:
  Struppek et al. Plug & play attacks: towards robust and flexible model inversion
  attacks. ICML 2022. arXiv:2201.12179.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array, lax

from mijax import core, search
from mijax.attacks.inversion import augmentation, latents
from mijax.attacks.inversion.losses import poincare
from mijax.batching import keys_of
from mijax.core import Prediction, Prior, Target, hyper_parameters, static
from mijax.knowledge import WhiteBox

View = Callable[[Array, Array], Array]


def _strong_view(key: Array, image: Array) -> Array:
    crop_key, mirror_key = jax.random.split(key)
    image = augmentation.mirror(mirror_key, image)
    return augmentation.resized_crop(crop_key, image, (0.5, 0.9), (0.8, 1.2))


@hyper_parameters
class Config:
    """Hyper-parameters; the defaults are the authors', of StyleGAN2 and CelebA.

    Attributes:
      samples: of the generator, of which the first candidates are chosen.
      restarts: candidates that are optimized, for each victim.
      steps: of Adam.
      final_views: strong views of each candidate, whose confidences are averaged.
      mirrored: whether a sample is scored with its mirror image.
      on_sphere: whether latents keep the length that normal ones have, the root of
        their number, beyond which a generator was never trained.
      in_turn: whether a step asks one of the models, in turn, in place of their mean.
      surrogates_alone: whether (1) and (2) ask the surrogates alone, which are cheaper.
      identity_loss: one of `mijax.attacks.inversion.losses` that needs no anchor.
      view: `(key, image) -> image`, what each step sees of a candidate.
      strong_view: the same, for the final selection.
      learning_rate: Adam's. The authors' latents are StyleGAN2's; a latent with a
        normal law moves well at ten times this rate.
      first_decay: Adam's beta 1.
      second_decay: Adam's beta 2.
      sketch_weight: of the squared difference to the knowledge's sketch, if any: of
        means of 4x4 pixels, brightness apart, without the border of an eighth.
      pool: the seed of the samples.
    """

    samples: int = static(default=5000)
    restarts: int = static(default=200)
    steps: int = static(default=70)
    final_views: int = static(default=100)
    mirrored: bool = static(default=True)
    on_sphere: bool = static(default=False)
    in_turn: bool = static(default=False)
    surrogates_alone: bool = static(default=False)
    identity_loss: Callable[[Prediction, Array, Array | None], Array] = static(
        default=poincare
    )
    view: View = static(default=augmentation.resized_crop)
    strong_view: View = static(default=_strong_view)
    learning_rate: float | Array = 0.005
    first_decay: float | Array = 0.1
    second_decay: float | Array = 0.1
    sketch_weight: float | Array = 0.0
    pool: int | Array = 0


def attack(
    key: Array, knowledge: WhiteBox, config: Config = Config()
) -> core.Reconstruction:
    """Recovers an image of each victim's class, as the generator would draw it.

    Args:
      key: one key, or one a victim; the key is consumed.
      knowledge: `labels` `[V]`, and `prior` of the target's image shape; `surrogates`,
        if any, of the target's shape and classes; `sketch`, if any, of that shape.
      config: hyper-parameters.

    Returns:
      Images `[V, H, W, C]` in the generator's range, and all candidates; their
      `losses` are 1 minus the target's mean confidence over strong views, by which
      they are chosen. `trace` is the identity loss of the views.

    Raises:
      ValueError: if the prior is missing or of another image shape, a surrogate or the
        sketch is of another shape, no surrogate is there where they are searched alone,
        or a number is out of range.
    """
    prior, models = _checked(knowledge, config), latents.models(knowledge)
    searched = models[1:] if config.surrogates_alone else models
    victims, restarts = knowledge.victims, config.restarts
    labels = jnp.repeat(knowledge.labels, restarts)  # [V * R]
    sketch = None
    if knowledge.sketch is not None:
        sketch = jnp.repeat(_coarse(knowledge.sketch), restarts, 0)

    def per_candidate(key: Array) -> tuple[Array, Array]:
        optimize_key, select_key = jax.random.split(key)
        return (
            jax.random.split(optimize_key, restarts),
            jax.random.split(select_key, restarts),
        )

    optimize_keys, select_keys = jax.tree.map(
        lambda keys: keys.reshape(-1),
        jax.vmap(per_candidate)(keys_of(key, victims)),
    )

    # (1) Initial selection: the samples that the target is surest of.
    with jax.named_scope("initial_selection"):
        z = prior.sample(jax.random.key(config.pool), config.samples)
        scores = _confidences(searched, prior, z, config.mirrored)  # [N, K]
        _, chosen = lax.top_k(scores.T[knowledge.labels], restarts)  # [V, R]
        start = z[chosen.reshape(-1)]

    # (2) Optimization, each step under one random view of each candidate.
    def losses(keys: Array, z: Array, models: Sequence[Target]) -> Array:
        with jax.named_scope("generator"):
            x = prior.images(z)
        with jax.named_scope("view"):
            seen = jax.vmap(config.view)(keys, x)
        with jax.named_scope("target"):
            said = [model.predict(seen) for model in models]
            loss = _mean([config.identity_loss(p, labels, None) for p in said])
        if sketch is None:
            return loss
        unlike = jnp.mean((_coarse(x) - sketch) ** 2, axis=(1, 2, 3))
        return loss + config.sketch_weight * unlike

    rounds = [[model] for model in searched] if config.in_turn else [searched]
    steps = [
        search.gradient_of(functools.partial(losses, models=models))
        for models in rounds
    ]

    def step(keys: Array, z: Array, turn: Array) -> tuple[Array, Array, Array]:
        value, gradient, _ = lax.switch(turn % len(steps), steps, keys, z, None)
        return value, gradient, turn + 1

    found = search.descend(
        step,
        start,
        optax.adam(config.learning_rate, config.first_decay, config.second_decay),
        steps=config.steps,
        project=_on_sphere if config.on_sphere else None,
        keys=optimize_keys,
        aux=jnp.int32(0),
    )

    # (3) Final selection, of the last iterates: the loss of one view is too noisy to
    # pick the best one by.
    x = prior.images(found.last)

    def confidence(total: Array, view: Array) -> tuple[Array, None]:
        keys = jax.vmap(jax.random.fold_in, (0, None))(select_keys, view)
        probabilities = _confidence(models, jax.vmap(config.strong_view)(keys, x))
        return total + jnp.take_along_axis(probabilities, labels[:, None], 1)[
            :, 0
        ], None

    with jax.named_scope("final_selection"):
        total, _ = lax.scan(
            confidence, jnp.zeros(labels.shape), jnp.arange(config.final_views)
        )
    return core.choose(
        x.reshape(victims, restarts, *x.shape[1:]),
        1 - total.reshape(victims, restarts) / config.final_views,
        found.trace.reshape(victims, restarts, -1),
    )


def _coarse(x: Array) -> Array:
    """Means of 4x4 pixels of images' middles, less their mean."""
    height, width = (size // 8 for size in x.shape[1:3])
    middle = x[:, height : x.shape[1] - height, width : x.shape[2] - width]
    means = nn.avg_pool(middle, (4, 4), (4, 4))
    return means - jnp.mean(means, axis=(1, 2, 3), keepdims=True)


def _on_sphere(z: Array) -> Array:
    return z * jnp.sqrt(z.shape[1]) / jnp.linalg.norm(z, axis=1, keepdims=True)


def _confidences(
    models: Sequence[Target], prior: Prior, z: Array, mirrored: bool
) -> Array:
    """The confidence in each class, `[N, K]`, of samples at `z` `[N, Z]`."""

    def scores(z: Array) -> Array:
        x = prior.images(z)
        views = [x, x[:, :, ::-1]] if mirrored else [x]
        return _mean([_confidence(models, view) for view in views])

    return core.in_chunks(scores, z, latents.CHUNK)


def _confidence(models: Sequence[Target], x: Array) -> Array:
    return _mean([jax.nn.softmax(model.predict(x).logits) for model in models])


def _mean(arrays: list[Array]) -> Array:
    return sum(arrays[1:], arrays[0]) / len(arrays)


def _checked(knowledge: WhiteBox, config: Config) -> Prior:
    prior = latents.checked(knowledge, config.restarts, "PPA")
    if config.restarts > config.samples:
        raise ValueError(
            f"restarts is {config.restarts}: it must be between 1 and the "
            f"{config.samples} samples."
        )
    if config.surrogates_alone and not knowledge.surrogates:
        raise ValueError(
            "surrogates_alone needs surrogates: pass WhiteBox(..., surrogates=(...,))."
        )
    if knowledge.sketch is not None:
        expected = (knowledge.victims, *knowledge.target.shape)
        if knowledge.sketch.shape != expected:
            raise ValueError(
                f"The sketch is {knowledge.sketch.shape}: it must be {expected}, an "
                "image a victim."
            )
    if config.final_views < 1:
        raise ValueError(f"final_views is {config.final_views}: it must be 1 or more.")
    return prior
