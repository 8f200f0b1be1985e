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

from jax import Array

from mijax.core import Reconstruction
from mijax.knowledge.split_features import SplitQueries
from mijax.priors import decoder
from mijax.priors.decoder import Config as Config


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
    queries = asked.spent - knowledge.spent
    return decoder.invert(
        key, config, features, knowledge.public, knowledge.features, queries
    )
