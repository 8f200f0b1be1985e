"""White box: the adversary holds parameters and architecture."""

from collections.abc import Callable
from typing import ClassVar

from jax import Array

from mijax.core import Glimpse, Prior, Target, TemplateDecoder, pytree
from mijax.knowledge import validation


@pytree
class Codec:
    """A target's own first layers as a space to search in (Process-DAE).

    Attributes:
      encode: `images [B, *shape] -> [B, D]`; a pytree, such as a `Partial`.
      decode: `[B, D] -> images [B, *shape]`.
    """

    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]


@pytree
class WhiteBox:
    """Parameters and architecture: the adversary may differentiate.

    Attributes:
      target: the model.
      labels: the class to recover for each victim, `[V]` int32.
      prior: a generator of public images.
      public: public images, `[M, H, W, C]`.
      glimpse: what is seen of each victim's private image.
      codec: the target's first layers, where it is an autoencoder.
      surrogates: models that were distilled from the target.
      decoder: from embeddings of the target's public network to images.
      sketch: an image of each victim that another attack made, `[V, H, W, C]`.
    """

    # Of these fields, each leaf's first axis is the victims'.
    VICTIMS: ClassVar[tuple[str, ...]] = ("labels", "glimpse.image", "sketch")

    target: Target
    labels: Array
    prior: Prior | None = None
    public: Array | None = None
    glimpse: Glimpse | None = None
    codec: Codec | None = None
    surrogates: tuple[Target, ...] = ()
    decoder: TemplateDecoder | None = None
    sketch: Array | None = None

    def check_labels(self) -> None:
        """Raises ValueError if labels are not `[V]` classes of the target."""
        validation.check_vector_of_labels(self.labels, self.target.num_classes)

    def check_values(self) -> None:
        """Raises ValueError if labels, images or parameters cannot be right."""
        self.check_labels()
        validation.check_finite("The public images", self.public)
        validation.check_finite("The prior's parameters", self.prior)
        validation.check_finite("The target's parameters", self.target.params)
        validation.check_finite("The glimpse", self.glimpse)
        validation.check_finite("The decoder's parameters", self.decoder)
        validation.check_finite("The sketch", self.sketch)

    @property
    def victims(self) -> int:
        """V."""
        return self.labels.shape[0]
