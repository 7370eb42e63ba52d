"""What the language model says of the rows that a stage inside it sees.

Axes: `s` rows of the sequence, `p` rows of the prompt that entered layer 0, `r` rows that are asked
for, `d` LLM width, `h` query heads, `g` key/value heads, `e` head width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune import ops
from tokenprune.errors import StrategyError

Heads = Literal["mean", "max"]


class Reading(ABC):
    """What the language model says of a view's rows; nothing is computed until it is read."""

    @property
    @abstractmethod
    def hidden(self) -> Float[Tensor, "s d"]:
        """Hidden states that are about to enter the layer."""

    @property
    @abstractmethod
    def normed(self) -> Float[Tensor, "s d"]:
        """The same behind the language model's final norm, as its head reads hidden states."""

    @property
    @abstractmethod
    def keys(self) -> Float[Tensor, "s g e"]:
        """Keys of the layer below, after RoPE."""

    @property
    @abstractmethod
    def inputs(self) -> Float[Tensor, "p d"]:
        """What entered layer 0, all rows of the prompt; a view's `position` counts them."""

    @abstractmethod
    def attend(self, rows: Int[Tensor, "r"], heads: Heads = "mean") -> Float[Tensor, "s"]:
        """Attention of `rows` in the layer below, see `SequenceView.attend`."""

    @abstractmethod
    def last(self) -> Float[Tensor, "s"]:
        """That of the last row, mean over heads."""


class Recorded(Reading):
    """A reading that is written out, for a stage that is tried without a model.

    What was left out raises StrategyError when it is read. `queries` are what `attend` needs beside
    `keys`.
    """

    def __init__(
        self,
        hidden: Float[Tensor, "s d"] | None = None,
        normed: Float[Tensor, "s d"] | None = None,
        keys: Float[Tensor, "s g e"] | None = None,
        inputs: Float[Tensor, "p d"] | None = None,
        queries: Float[Tensor, "s h e"] | None = None,
    ) -> None:
        self._hidden, self._normed, self._inputs = hidden, normed, inputs
        self._keys, self._queries = keys, queries

    @property
    def hidden(self) -> Float[Tensor, "s d"]:
        return _present("hidden", self._hidden)

    @property
    def normed(self) -> Float[Tensor, "s d"]:
        return _present("normed", self._normed)

    @property
    def keys(self) -> Float[Tensor, "s g e"]:
        return _present("keys", self._keys)

    @property
    def inputs(self) -> Float[Tensor, "p d"]:
        return _present("inputs", self._inputs)

    def attend(self, rows: Int[Tensor, "r"], heads: Heads = "mean") -> Float[Tensor, "s"]:
        queries = _present("queries", self._queries)
        return ops.attended(queries[rows], self.keys, queries.shape[-1] ** -0.5, rows, heads)

    def last(self) -> Float[Tensor, "s"]:
        return self.attend(torch.tensor([len(self.keys) - 1], device=self.keys.device))


def _present(name: str, part: Tensor | None) -> Tensor:
    if part is None:
        raise StrategyError(f"this reading has no {name}: write Recorded(..., {name}=...)")
    return part
