"""Small networks that learned what a public face network says of public faces.

An adversary distills them before any target is known: a target that was fine-tuned from
that network has a head on its embeddings, which serves on a student's as well. What
pleases networks of several designs at once is more like a face, and a student's step
costs a fraction of its teacher's. None has residual or depthwise layers, so that judges
which have them stay unrelated.

References:
    Nguyen et al., 2023, Re-thinking model inversion attacks against deep neural
    networks, arXiv:2304.01669 (model augmentation).
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import optax

from mijax import pretrained
from mijax.models import Prediction, weights
from mijax.models.layers import Conv, batch_norm, centered

EMBEDDING = 128
SHAPE = (64, 64, 1)


class StridedStudent(nn.Module):
    """Few large kernels that stride, as in a DCGAN's critic.

    Attributes:
        width: the channels of the first layer; each layer doubles them.
    """

    width: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns embeddings `[B, 128]`, as logits too, of x `[B, H, W, C]`."""
        x = x - 0.5
        for index in range(4):
            name = f"conv_{index}"
            width = self.width * 2**index
            x = Conv(width, 5, 2, centered(5), use_bias=False, name=name)(x)
            x = nn.silu(batch_norm(train, name=f"{name}_norm")(x))
        return _embedding(x)


class PlainStudent(nn.Module):
    """As VGG: convolutions without shortcuts, and average pooling between stages.

    Attributes:
        width: the channels of the first stage; each stage doubles them.
    """

    width: int = 24

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns embeddings `[B, 128]`, as logits too, of x `[B, H, W, C]`."""
        x = Conv(self.width, 3, 2, centered(3), use_bias=False, name="stem")(x - 0.5)
        x = nn.leaky_relu(batch_norm(train, name="stem_norm")(x), 0.1)
        for stage in range(3):
            for index in range(2):
                name = f"stage_{stage}_{index}"
                x = Conv(self.width * 2 ** (stage + 1), use_bias=False, name=name)(x)
                x = nn.leaky_relu(batch_norm(train, name=f"{name}_norm")(x), 0.1)
            x = nn.avg_pool(x, (2, 2), (2, 2))
        return _embedding(x)


def _embedding(x: jax.Array) -> Prediction:
    x = nn.Dense(EMBEDDING, name="embedding")(x.reshape(x.shape[0], -1))
    return Prediction(x, x)


@dataclasses.dataclass(frozen=True)
class Embed:
    """A student as `mijax.fine_tuning` takes a network: `(variables, x) -> [B, 128]`.

    Attributes:
        network: whose variables they are.
    """

    network: nn.Module

    def __call__(self, variables: Any, x: jax.Array) -> jax.Array:
        """Embeds faces `[B, 64, 64, 1]` in [0, 1], centre crops of LFW-a."""
        prediction = self.network.apply(variables, x)
        assert isinstance(prediction, Prediction)
        return prediction.logits


STUDENTS = {
    "strided": ("face_student_strided", Embed(StridedStudent())),
    "plain": ("face_student_plain", Embed(PlainStudent())),
}


def load(name: str) -> tuple[Embed, Any]:
    """Returns a student of MS-Celeb-1M's MobileFaceNet, and its variables.

    Args:
        name: `plain` or `strided`.

    Raises:
        ValueError: if there is no such student, or its file is not the card's.
    """
    if name not in STUDENTS:
        raise ValueError(f"There is no student {name!r}: there are {list(STUDENTS)}.")
    file, embed = STUDENTS[name]
    like = weights.shapes(embed.network, SHAPE)
    return embed, weights.load(pretrained.path(file), like, f"the student {name!r}")


def distance(prediction: Prediction, embeddings: jax.Array) -> jax.Array:
    """1 minus the cosine of a student's embeddings and its teacher's, `[B]`."""
    return optax.losses.cosine_distance(prediction.logits, embeddings, epsilon=1e-6)
