"""Inverse network of a split: a decoder trained on answers of the first half.

He, Zhang, Lee (2019), black box. The adversary asks the first half f1 about images of
its own and trains g to minimize |g(f1(x)) - x|^2; g of a victim's features is the
image.

Departures: the decoder is a perceptron of one hidden layer by default, which fits every
layer; the paper's are transposed convolutions (`mijax.models.decoders.MapDecoder`).
Features are standardized, and images end in a sigmoid.

References:
  He, Zhang, Lee. Model inversion attacks against collaborative inference. ACSAC 2019.
  doi:10.1145/3359789.3359824.
"""

from collections.abc import Callable

from flax import linen as nn
from jax import Array

from mijax.core import Reconstruction, hyper_parameters, static
from mijax.knowledge.split_features import SplitQueries
from mijax.models.decoders import DenseDecoder
from mijax.priors import decoder


@hyper_parameters
class Config:
    """Hyper-parameters.

    Attributes:
      network: a decoder of images of this shape, `(H, W, C) -> module`.
      steps: of training.
      batch_size: pairs a step; all of them where there are fewer.
      learning_rate: of AMSGrad.
    """

    network: Callable[[tuple[int, ...]], nn.Module] = static(default=DenseDecoder)
    steps: int = static(default=2000)
    batch_size: int = static(default=32)
    learning_rate: float | Array = 1e-3


def attack(
    key: Array, knowledge: SplitQueries, config: Config = Config()
) -> Reconstruction:
    """Recovers the input of features by a decoder trained on queries of the first half.

    Args:
      key: of the decoder's training; it is consumed.
      knowledge: features `[V, ...]`, a query of the first half, images to ask about.
      config: hyper-parameters.

    Returns:
      Images `[V, H, W, C]` in [0, 1]; the loss is the training's last one.

    Raises:
      ValueError: if there is no step, or features or images are of another shape.
    """
    features, asked = knowledge.query(knowledge.public)
    trained, trace = decoder.fit(
        key,
        config.network(knowledge.shape),
        features,
        knowledge.public,
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
    )
    queries = asked.spent - knowledge.spent
    return decoder.decoded(trained, knowledge.features, trace, queries)
