"""Where a decode stage's rows lie in the cache: which column is in which slot, and what swaps when
it chooses anew.

Axes: `b` samples, `n` cached rows, `t` the same and this step's own, `k` pairs of rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class Exchange(NamedTuple):
    """What a change of the selection does to each layer of a layout: `k` pairs of rows swap their
    slots.
    """

    # sample, slot, slot its new row comes from: k hidden slots, then the k they swap with
    moves: Int[Tensor, "3 2*k"]
    start: int  # first slot that any sample sees
    order: Int[Tensor, "b n"]  # the column that lies in each slot afterwards


class Arrangement:
    """Which column lies in which slot, for the layers of one layout; they hide the same rows."""

    def __init__(self, visible: Bool[Tensor, "b t"]) -> None:
        # of the columns at the last exchange; later ones are visible and in their own slots
        self._visible = visible[:, :0]
        self._order = self._visible.long()
        self._hidden = self._order.sum(1)
        self._ragged = False

    def step(
        self, visible: Bool[Tensor, "b t"]
    ) -> tuple[Exchange | None, Bool[Tensor, "b t"] | None]:
        """The exchange that brings the visible rows together, None if nothing changes, and a mask
        by slot.

        No mask means that all samples see every slot from the first visible one. The last column is
        this step's own.
        """
        cached, known = visible[:, :-1], self._visible.shape[1]
        changed = (cached[:, :known] != self._visible).any() | ~cached[:, known:].all()
        # here a step waits for the device: a view needs its bounds on the host
        different, void = torch.stack([changed, ~visible[:, -1].all()]).tolist()
        exchange = self._exchange(cached) if different else None
        if not self._ragged and not void:
            return exchange, None
        mask = torch.arange(visible.shape[1], device=visible.device) >= self._hidden.unsqueeze(-1)
        mask[:, -1] &= visible[:, -1]
        return exchange, mask

    def _exchange(self, visible: Bool[Tensor, "b n"]) -> Exchange:
        slots = torch.arange(visible.shape[1], device=visible.device)
        later = slots[self._order.shape[1] :].expand(len(visible), -1)
        order = torch.cat([self._order, later], dim=1)
        shown, self._hidden = visible.gather(1, order), (~visible).sum(1)
        below = slots < self._hidden.unsqueeze(-1)
        # as many visible rows lie below the bound as hidden ones above it, and both come sorted by
        # sample
        sample, low = (shown & below).nonzero().unbind(1)
        high = (~shown & ~below).nonzero()[:, 1]
        moves = torch.stack(
            [torch.cat(pair) for pair in ((sample, sample), (low, high), (high, low))]
        )
        order[moves[0], moves[1]] = order[moves[0], moves[2]]
        start, most = torch.stack(self._hidden.aminmax()).tolist()
        self._visible, self._order, self._ragged = visible, order, start != most
        return Exchange(moves, start, order)
