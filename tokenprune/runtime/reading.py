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
from tokenprune.runtime.held import Held
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
            query = rows_at(self.queries, self.layout.ends)
            row = last_row(query, self.keys, self.scale, self.mask)
        return row.to(self.layout.device)


class LiveReading(Reading):
    """One sample's share: `held` are the rows of its view, in their order."""

    def __init__(
        self,
        below: Below,
        sample: int,
        held: Held,
        hidden: Float[Tensor, "b c d"],
        inputs: Callable[[], Float[Tensor, "p d"]],
        norm: Callable[[Tensor], Tensor],
    ) -> None:
        self._below, self._sample, self._held = below, sample, held
        self._hidden, self._inputs, self._norm = hidden, inputs, norm

    @cached_property
    def _states(self) -> Float[Tensor, "s d"]:
        return self._held.rows(self._hidden[self._sample])

    @property
    def hidden(self) -> Float[Tensor, "s d"]:
        return self._states

    @property
    def normed(self) -> Float[Tensor, "s d"]:
        return self._norm(self._states)

    @property
    def keys(self) -> Float[Tensor, "s g e"]:
        keys = self._below.keys[self._sample].transpose(0, 1)
        return self._held.rows(keys).to(self._below.layout.device)

    @property
    def inputs(self) -> Float[Tensor, "p d"]:
        return self._inputs()

    def attend(self, rows: Int[Tensor, "r"], heads: Heads = "mean") -> Float[Tensor, "s"]:
        below, sample = self._below, self._sample
        columns = self._held.some(rows).columns(rows.device).to(below.queries.device)
        queries = below.queries[sample].transpose(0, 1).index_select(0, columns)
        real = Held.of(below.layout, sample)  # padding is nobody's key
        keys = real.rows(below.keys[sample].transpose(0, 1))
        with torch.no_grad(), full_precision():
            weights = attended(queries, keys, below.scale, real.places(columns), heads)
        weights = weights.to(below.layout.device)
        return self._held.rows(real.spread(weights, below.layout.width))

    def last(self) -> Float[Tensor, "s"]:
        return self._held.rows(self._below.last[self._sample])
