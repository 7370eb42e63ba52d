"""The cache of a prompt with a decode stage: hidden rows lie before the visible ones.

Attention reads a plain view of the visible rows. Keys carry their rotation and a decoding query
sees all visible rows, so their order does not matter (DyCoke keeps two sets as well, eq. 6 and 7).
Every sample's hidden rows and padding fill its first slots; what is generated goes behind. A change
of the selection swaps as many rows as changed, nothing else moves, and showing everything moves
nothing at all. Samples that hide unequal numbers are masked as if padded on the left.

`Partition` says which rows swap, `PartitionedLayer` swaps them.

Axes: `b` samples, `g` key/value heads, `n` cached rows, `t` the same and this step's own, `q` new
rows, `k` pairs of rows, `m` rows of one storage, `e` and `w` widths.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.runtime.cache import HidingLayer, chosen
from tokenprune.runtime.store import Store, joined
from tokenprune.runtime.table import take

ROOM = 128  # rows that the first growth makes room for


class Swap(NamedTuple):
    """What a new selection does to each layer of a layout: `k` pairs of rows swap slots."""

    # sample, slot, slot its new row comes from: k hidden slots, then the k they swap with
    moves: Int[Tensor, "3 2*k"]
    start: int  # first slot that any sample sees
    order: Int[Tensor, "b n"]  # the column that lies in each slot afterwards


class Partition:
    """Which column lies in which slot, for the layers of one layout; they hide the same rows.

    `changed` says of each sample whether the last step saw other rows than the one before it.
    """

    def __init__(self) -> None:
        self.changed: list[bool] = []
        # of the columns at the last swap; later ones are visible and in their own slots
        self._visible: Tensor | None = None  # [b n]
        self._order: Tensor | None = None  # [b n], None: all rows are in their original order
        self._hidden: Tensor | None = None  # [b]
        self._start, self._ragged = 0, False

    def show(
        self, layers: Iterable[object], visible: Bool[Tensor, "b t"], gaps: bool = False
    ) -> Bool[Tensor, "b t"] | None:
        """Lets `layers` see the visible columns in this step; returns their mask by slot.

        See `step`.
        """
        swap, mask = self.step(visible, gaps)
        for layer in layers:
            assert isinstance(layer, PartitionedLayer)
            layer.show(swap)
        return mask

    def step(
        self, visible: Bool[Tensor, "b t"], gaps: bool = False
    ) -> tuple[Swap | None, Bool[Tensor, "b t"] | None]:
        """What brings the visible rows together, None if nothing changes, and a mask by slot.

        No mask means that all samples see every slot from the first visible one. The last column is
        this step's own. Columns behind those of the last swap are visible, unless there are `gaps`.
        """
        cached, void = visible[:, :-1], False
        known = 0 if self._visible is None else self._visible.shape[1]
        if self._visible is None:
            self.changed = [True] * len(visible)
        else:  # here a step waits for the device: a view needs its bounds on the host
            self.changed = (visible[:, :known] != self._visible).any(1).tolist()
        different = self._order is None or any(self.changed)
        if gaps:
            more, void = torch.stack([~cached[:, known:].all(), ~visible[:, -1].all()]).tolist()
            different = different or more
        swap = self._swap(cached) if different else None
        if not self._ragged and not void:
            return swap, None
        assert self._hidden is not None
        mask = torch.arange(visible.shape[1], device=visible.device) >= self._hidden.unsqueeze(-1)
        if gaps:
            mask[:, -1] &= visible[:, -1]
        return swap, mask

    def shown(self, columns: int) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
        """Of each slot that the last step saw, of so many columns: which lies in it, and whether
        its sample sees it.
        """
        assert self._order is not None and self._hidden is not None
        order = _stretched(self._order, columns)
        slots = torch.arange(self._start, columns, device=order.device)
        return order[:, self._start :], slots >= self._hidden.unsqueeze(-1)

    def reveal(self) -> None:
        """Every row has gone back to its place."""
        self._order, self._start, self._ragged = None, 0, False

    def _swap(self, visible: Bool[Tensor, "b n"]) -> Swap:
        slots = torch.arange(visible.shape[1], device=visible.device)
        order = slots.repeat(len(visible), 1)
        if self._order is not None:
            order = _stretched(self._order, visible.shape[1])
        shown, hidden = visible.gather(1, order), (~visible).sum(1)
        below = slots < hidden.unsqueeze(-1)
        # as many visible rows lie below the bound as hidden ones above it, and both come sorted by
        # sample
        sample, low = (shown & below).nonzero().unbind(1)
        high = (~shown & ~below).nonzero()[:, 1]
        pairs = ((sample, sample), (low, high), (high, low))
        moves = torch.stack([torch.cat(pair) for pair in pairs])
        order[moves[0], moves[1]] = order[moves[0], moves[2]]
        start, most = torch.stack(hidden.aminmax()).tolist()
        self._visible, self._order, self._hidden = visible.clone(), order, hidden
        self._start, self._ragged = start, start != most
        return Swap(moves, start, order)


def _stretched(order: Int[Tensor, "b n"], columns: int) -> Int[Tensor, "b t"]:
    """A copy for more columns, of which the later ones lie in their own slots."""
    later = torch.arange(order.shape[1], columns, device=order.device)
    return torch.cat([order, later.expand(len(order), -1)], dim=1)


class PartitionedLayer(HidingLayer):
    """A cache layer that can show a part of its rows.

    It hides only in a step that was announced by `show`. Any other one, a second turn or a step
    outside the session, gets all rows in their original order. With `offload` hidden rows lie in
    host memory. `keys` and `values` are views of what the last step saw.
    """

    def __init__(self, offload: bool = False) -> None:
        super().__init__()
        self._offloads = offload
        self._empty()

    def _empty(self) -> None:
        self._rows, self._start = 0, 0  # cached ones, and the first visible slot
        self._base = 0  # slots on the host; the device holds the others
        self._store = Store(ROOM)  # on the device
        self._host: list[Tensor] = []  # keys and values, [b g base e]
        # column of each slot [b n], None: every column lies in its own
        self._order: Tensor | None = None
        self._showing = False

    def update(
        self,
        key_states: Float[Tensor, "b g q e"],
        value_states: Float[Tensor, "b g q w"],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Appends rows and returns the visible ones, without a copy."""
        if self.led is False:
            self.check_led()
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if not self._showing:
            self.reveal()
        self._showing = False
        self._own()
        self._store.append(self._rows - self._base, key_states, value_states)
        self._rows += key_states.shape[2]
        return self._view()

    def _own(self) -> None:
        """Makes storage writable that was filled in inference mode, if that is over."""
        if self._store.inference and not torch.is_inference_mode_enabled():
            self._store.own()
            self._host = [part.clone() for part in self._host]

    def _view(self) -> tuple[Tensor, Tensor]:
        first, last = self._start - self._base, self._rows - self._base
        self.keys, self.values = self._store.view(first, last)
        return self.keys, self.values

    @property
    def rows(self) -> int:
        """Cached rows, hidden ones too."""
        return self._rows

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length of what the next update returns, and the first slot in it behind those gone."""
        first = self._start if self._showing else 0
        return self._rows - first + query_length, first + self.gone

    def keep(self, columns: Int[Tensor, "*b m"]) -> None:
        """Forgets all rows but `columns`, before any was hidden."""
        known = self._store.parts(0, self._rows)
        self._rows = columns.shape[-1]
        self._store.fill([[chosen(part, columns)] for part in known], self.device)
        self._view()

    def show(self, swap: Swap | None) -> None:
        """Announces a step that sees the visible rows only, after `swap`."""
        if swap is not None:
            self._swap(swap)
        self._showing = True

    def _swap(self, swap: Swap) -> None:
        self._own()
        self._store.make_room(self._rows)
        # rows to be shown come to the device before they swap, rows to be hidden leave after it
        self._rebase(min(self._base, swap.start))
        (sample, slot, source), base = swap.moves.to(self.device), self._base
        if base:
            pairs = swap.moves[:, : len(slot) // 2]
            far, near = pairs[:, pairs[1] < base], (slot >= base) & (source >= base)
            device = self._store.parts(0, self._rows - base)
            for host, part in zip(self._host, device, strict=True):
                _swap_between(host, part, far[0], far[1], far[2] - base)
            sample, slot, source = sample[near], slot[near] - base, source[near] - base
        self._store.move(sample, slot, source)
        if self._offloads:
            self._rebase(swap.start)
        self._start, self._order = swap.start, swap.order

    def _rebase(self, base: int) -> None:
        """Moves rows until exactly the first `base` slots lie on the host."""
        moved, used = base - self._base, self._rows - self._base
        if moved == 0:
            return
        near = self._store.parts(0, used)
        if moved > 0:
            leaving = [part[:, :, :moved] for part in near]
            far = [list(parts) for parts in zip(*filter(None, (self._host, leaving)), strict=True)]
            staying = [[part[:, :, moved:]] for part in near]
        else:
            far = [[part[:, :, :base]] for part in self._host]
            coming = [part[:, :, base:] for part in self._host]
            staying = [list(parts) for parts in zip(coming, near, strict=True)]
        pin = self.device.type == "cuda"  # so that copies need no staging
        self._host = [joined(parts, torch.device("cpu"), pin) for parts in far] if base else []
        self._store.fill(staying, self.device)
        self._base = base

    def reveal(self) -> None:
        """Brings all rows back into their original order."""
        self._showing = False
        if self._order is None:
            return
        self._own()
        self._rebase(0)
        slot = self._order.argsort(dim=1)  # of each column
        for known in self._store.parts(0, slot.shape[1]):
            known.copy_(take(known, slot, 2))
        self._start, self._order = 0, None
        self._view()

    def reset(self) -> None:
        self._empty()
        super().reset()


def reveal(layers: Iterable[object]) -> None:
    """Shows every row again, in its original order, as a step of several columns needs it."""
    for layer in layers:
        if isinstance(layer, PartitionedLayer):
            layer.reveal()


def _swap_between(
    one: Float[Tensor, "b g m e"],
    other: Float[Tensor, "b g n e"],
    sample: Int[Tensor, "k"],
    low: Int[Tensor, "k"],
    high: Int[Tensor, "k"],
) -> None:
    """Rows `low` of one storage and `high` of another change places; each may have its device."""
    left, right = one.transpose(1, 2), other.transpose(1, 2)
    at_left = sample.to(left.device), low.to(left.device)
    at_right = sample.to(right.device), high.to(right.device)
    kept = left[at_left]
    left[at_left] = right[at_right].to(left.device)
    right[at_right] = kept.to(right.device)
