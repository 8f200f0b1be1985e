"""A small language model: dilated causal convolutions over symbols."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from mijax.core import Prediction


class CausalConv(nn.Module):
    """Predicts the next symbol from those before it.

    Layers see two places each, the current one and one `dilation` before it, as a
    matrix product; a residual connection and a layer normalization go around each.
    Symbol 0 pads: what stands before a text adds nothing, however long it is.

    Attributes:
      num_symbols: K, including the pad.
      width: features of a place.
      dilations: of the layers; the model sees `1 + sum(dilations)` symbols back.
    """

    num_symbols: int
    width: int = 96
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16)

    def setup(self) -> None:
        """Makes the layers."""
        self.embedding = nn.Embed(self.num_symbols, self.width)
        self.mixes = [nn.Dense(2 * self.width) for _ in self.dilations]
        self.outs = [nn.Dense(self.width) for _ in self.dilations]
        self.norms = [nn.LayerNorm() for _ in self.dilations]
        self.logits = nn.Dense(self.num_symbols)

    def __call__(self, x: Array, train: bool = False) -> Prediction:
        """Predicts what follows texts `[B, T]`: logits `[B, K]`.

        Args:
          x: numbers of symbols, of any type; texts end at the last place.
          train: has no effect.
        """
        del train
        features = self._features(x)[:, -1]
        return Prediction(self.logits(features), features)

    def everywhere(self, x: Array) -> Array:
        """Predicts what follows each place of texts `[B, T]`: logits `[B, T, K]`."""
        return self.logits(self._features(x))

    def _features(self, x: Array) -> Array:
        symbols = x.astype(jnp.int32)
        there = (symbols > 0)[..., None]
        h = self.embedding(symbols) * there
        for dilation, mix, out, norm in zip(
            self.dilations, self.mixes, self.outs, self.norms, strict=True
        ):
            normed = norm(h) * there
            before = jnp.pad(normed, ((0, 0), (dilation, 0), (0, 0)))[:, :-dilation]
            mixed = mix(jnp.concatenate([normed, before], -1))
            h = (h + out(jax.nn.gelu(mixed))) * there
        return h


def losses(module: CausalConv, params: dict, records: Array) -> Array:
    """Cross-entropy of a symbol of each record, in nats: the mean over its symbols.

    Args:
      module: the model.
      params: its parameters.
      records: `[B, T]`, padded on the left. The first symbol is predicted from
        nothing.

    Returns:
      `[B]`.
    """
    records = records.astype(jnp.int32)
    before = jnp.pad(records, ((0, 0), (1, 0)))[:, :-1]
    logits: Any = module.apply({"params": params}, before, method="everywhere")
    each = jax.nn.log_softmax(logits)
    each = -jnp.take_along_axis(each, records[..., None], -1)[..., 0]
    there = records > 0
    return jnp.sum(each * there, 1) / jnp.maximum(jnp.sum(there, 1), 1)
