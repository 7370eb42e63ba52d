"""What a prefill stage may read of the model around its layer: computed when it is read.

Until the layer is entered, the queries and keys of the layer below are kept as they are, without a
copy; no attention map is ever made.

Axes: `b` samples, `c` columns of a layout, `s` rows of one sample's view, `r` rows that are asked
for, `p` rows of the sample's prompt, `h` query heads, `g` key/value heads, `e` head width, `d` LLM
width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.ops import attended
from tokenprune.precision import full_precision
from tokenprune.runtime.attention import last_row, rows_at
from tokenprune.runtime.layout import Layout
from tokenprune.sequence import Heads, Reading


@dataclass(frozen=True)
class Below:
    """Queries and keys of the layer below, of a whole batch, after RoPE."""

    queries: Float[Tensor, "b h c e"]
    keys: Float[Tensor, "b g c e"]
    scale: float
    layout: Layout
    mask: Bool[Tensor, "b c"] | None

    @cached_property
    def last(self) -> Float[Tensor, "b c"]:
        """Attention of every sample's last row, mean over heads."""
        with torch.no_grad(), full_precision():
            query = rows_at(self.queries, self.layout.last)
            row = last_row(query, self.keys, self.scale, self.mask)
        return row.to(self.layout.valid.device)


class LiveReading(Reading):
    """One sample's share: `here` are the columns of its view's rows, in their order."""

    def __init__(
        self,
        below: Below,
        sample: int,
        here: Int[Tensor, "s"],
        hidden: Float[Tensor, "b c d"],
        inputs: Callable[[], Float[Tensor, "p d"]],
        norm: Callable[[Tensor], Tensor],
    ) -> None:
        self._below, self._sample, self._here = below, sample, here
        self._hidden, self._inputs, self._norm = hidden, inputs, norm

    @cached_property
    def _states(self) -> Float[Tensor, "s d"]:
        return self._hidden[self._sample].index_select(0, self._here.to(self._hidden.device))

    @property
    def hidden(self) -> Float[Tensor, "s d"]:
        return self._states

    @property
    def normed(self) -> Float[Tensor, "s d"]:
        return self._norm(self._states)

    @property
    def keys(self) -> Float[Tensor, "s g e"]:
        keys = self._below.keys[self._sample].transpose(0, 1)
        return keys.index_select(0, self._here.to(keys.device)).to(self._here.device)

    @property
    def inputs(self) -> Float[Tensor, "p d"]:
        return self._inputs()

    def attend(self, rows: Int[Tensor, "r"], heads: Heads = "mean") -> Float[Tensor, "s"]:
        below, sample = self._below, self._sample
        device, columns = below.queries.device, self._here[rows]
        queries = below.queries[sample].transpose(0, 1).index_select(0, columns.to(device))
        keys, real = below.keys[sample].transpose(0, 1), None
        if below.mask is not None:  # padding is nobody's key
            real = below.layout.valid[sample].nonzero().squeeze(-1)
            keys, columns = keys[real.to(device)], torch.searchsorted(real, columns)
        with torch.no_grad(), full_precision():
            weights = attended(queries, keys, below.scale, columns.to(device), heads)
        weights = weights.to(self._here.device)
        if real is not None:
            width = below.layout.valid.shape[1]
            weights = weights.new_zeros(width).index_copy(0, real, weights)
        return weights[self._here]

    def last(self) -> Float[Tensor, "s"]:
        return self._below.last[self._sample, self._here]
