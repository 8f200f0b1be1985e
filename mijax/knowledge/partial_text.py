"""Texts whose ends are secret, and a language model that may be asked about them."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from mijax.core import Target, concrete, in_chunks, pytree, static
from mijax.knowledge import validation
from mijax.knowledge.black_box import Oracle, afforded

_TEXTS = 1024  # asked about at a time; changes no result


@pytree
class PartialText:
    """A query of a language model, and what stands before each secret.

    Symbols are numbers from 1 on; 0 pads on the left. Make one with `of`.

    Attributes:
      oracle: of texts `[B, T]`; answers the probabilities of what follows, `[B, K]`.
      prefix: what stands before each secret, `[V, T]`, ending at the last place.
      symbols: those that secrets are made of, `[S]` int32, such as digits.
      length: of a secret, L.
      spent: the number of texts asked about so far.
      budget: how many may be asked about; None for no limit.
    """

    oracle: Oracle
    prefix: Array
    symbols: Array
    length: int = static()
    spent: Array | int = 0
    budget: int | None = static(default=None)

    @classmethod
    def of(
        cls,
        target: Target,
        prefix: Array,
        symbols: Array,
        length: int,
        *,
        release: Callable[[Array], Array] | None = None,
        budget: int | None = None,
    ) -> "PartialText":
        """Hides a language model behind its answers.

        Args:
          target: of texts `(T,)`, whose classes are symbols.
          prefix: `[V, T]`.
          symbols: `[S]`.
          length: of a secret.
          release: what a defense does to the probabilities.
          budget: how many texts may be asked about.
        """
        oracle = Oracle.of(target, release)
        return cls(oracle, prefix, symbols, length, 0, budget)

    def check_shapes(self) -> None:
        """Raises ValueError if prefixes and symbols do not fit the model."""
        if self.prefix.ndim != 2 or self.prefix.shape[1:] != self.oracle.shape:
            raise ValueError(
                f"Prefixes are {self.prefix.shape} but the model takes "
                f"[V, *{self.oracle.shape}]: pad them on the left with 0."
            )
        if self.length < 1:
            raise ValueError(
                f"length is {self.length}: a secret has 1 or more symbols."
            )
        for name, numbers in (("A prefix", self.prefix), ("symbols", self.symbols)):
            values = concrete(numbers)
            if values is None:
                continue
            least = 0 if name == "A prefix" else 1
            wrong = values[(values < least) | (values >= self.oracle.num_classes)]
            if wrong.size:
                raise ValueError(
                    f"{name} holds symbol {wrong.flat[0]}, outside the model's "
                    f"alphabet of {least} to {self.oracle.num_classes - 1}."
                )

    def check_values(self) -> None:
        """Raises ValueError if a symbol or the model cannot be right."""
        self.check_shapes()
        self.oracle.check_values()
        validation.check_finite("The prefixes", self.prefix)

    def query(self, texts: Array) -> tuple[Array, "PartialText"]:
        """Asks what follows texts `[B, T]`, in bounded memory.

        Returns:
          Log-probabilities of the secrets' symbols, in bits, `[B, S]`; and the
          knowledge with the queries counted.

        Raises:
          RuntimeError: when run, if the budget does not allow it.
        """
        spent = self.spent + jnp.int32(texts.shape[0])
        asked = afforded(self.budget, spent, texts.astype(jnp.float32))
        answers = in_chunks(self.oracle._answers, asked, _TEXTS)[:, self.symbols]
        # A probability of 0 is one that float32 cannot tell from 0.
        bits = jnp.log2(jnp.maximum(answers, jnp.finfo(jnp.float32).tiny))
        return bits, dataclasses.replace(self, spent=spent)
