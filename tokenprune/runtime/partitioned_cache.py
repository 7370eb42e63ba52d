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

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.runtime.cache import HidingLayer, chosen
from tokenprune.runtime.table import take

# rows that fit behind the prompt before the first growth; every growth makes twice as much room as
# the last
ROOM = 128


class Swap(NamedTuple):
    """What a new selection does to each layer of a layout: `k` pairs of rows swap slots."""

    # sample, slot, slot its new row comes from: k hidden slots, then the k they swap with
    moves: Int[Tensor, "3 2*k"]
    start: int  # first slot that any sample sees
    order: Int[Tensor, "b n"]  # the column that lies in each slot afterwards


class Partition:
    """Which column lies in which slot, for the layers of one layout; they hide the same rows."""

    def __init__(self, visible: Bool[Tensor, "b t"]) -> None:
        # of the columns at the last swap; later ones are visible and in their own slots
        self._visible = visible[:, :0]
        self._order = self._visible.long()
        self._hidden = self._order.sum(1)
        self._ragged = False

    def show(
        self, layers: Iterable[object], visible: Bool[Tensor, "b t"]
    ) -> Bool[Tensor, "b t"] | None:
        """Lets `layers` see the visible columns in this step; returns their mask by slot."""
        swap, mask = self.step(visible)
        for layer in layers:
            assert isinstance(layer, PartitionedLayer)
            layer.show(swap)
        return mask

    def step(self, visible: Bool[Tensor, "b t"]) -> tuple[Swap | None, Bool[Tensor, "b t"] | None]:
        """What brings the visible rows together, None if nothing changes, and a mask by slot.

        No mask means that all samples see every slot from the first visible one. The last column is
        this step's own.
        """
        cached, known = visible[:, :-1], self._visible.shape[1]
        changed = (cached[:, :known] != self._visible).any() | ~cached[:, known:].all()
        # here a step waits for the device: a view needs its bounds on the host
        different, void = torch.stack([changed, ~visible[:, -1].all()]).tolist()
        swap = self._swap(cached) if different else None
        if not self._ragged and not void:
            return swap, None
        mask = torch.arange(visible.shape[1], device=visible.device) >= self._hidden.unsqueeze(-1)
        mask[:, -1] &= visible[:, -1]
        return swap, mask

    def shown(self, columns: int) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
        """Of each slot that the last step saw, of so many columns: which lies in it, and whether
        its sample sees it.
        """
        slots = torch.arange(columns, device=self._order.device)
        later = slots[self._order.shape[1] :].expand(len(self._order), -1)
        order = torch.cat([self._order, later], dim=1)
        start = int(self._hidden.min())
        return order[:, start:], slots[start:] >= self._hidden.unsqueeze(-1)

    def _swap(self, visible: Bool[Tensor, "b n"]) -> Swap:
        slots = torch.arange(visible.shape[1], device=visible.device)
        later = slots[self._order.shape[1] :].expand(len(visible), -1)
        order = torch.cat([self._order, later], dim=1)
        shown, self._hidden = visible.gather(1, order), (~visible).sum(1)
        below = slots < self._hidden.unsqueeze(-1)
        # as many visible rows lie below the bound as hidden ones above it, and both come sorted by
        # sample
        sample, low = (shown & below).nonzero().unbind(1)
        high = (~shown & ~below).nonzero()[:, 1]
        pairs = ((sample, sample), (low, high), (high, low))
        moves = torch.stack([torch.cat(pair) for pair in pairs])
        order[moves[0], moves[1]] = order[moves[0], moves[2]]
        start, most = torch.stack(self._hidden.aminmax()).tolist()
        self._visible, self._order, self._ragged = visible, order, start != most
        return Swap(moves, start, order)


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
        self._room = ROOM
        self._device: list[Tensor] = []  # keys and values, [b g capacity e]
        self._host: list[Tensor] = []  # the same, [b g base e]
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
        self.check_led()
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if not self._showing:
            self.reveal()
        self._showing = False
        self._own()
        self._append((key_states, value_states))
        return self._view()

    def _append(self, new: tuple[Tensor, Tensor]) -> None:
        first, number = self._rows - self._base, new[0].shape[2]
        if not self._device:
            self._device = [_joined([states], self._room, self.device) for states in new]
        elif first + number > self._device[0].shape[2]:
            self._room *= 2
            old = [part[:, :, :first] for part in self._device]
            both = zip(old, new, strict=True)
            self._device = [_joined(parts, self._room, self.device) for parts in both]
        else:
            for part, states in zip(self._device, new, strict=True):
                part[:, :, first : first + number] = states
        self._rows += number

    def _own(self) -> None:
        """Makes storage writable that was filled in inference mode, if that is over."""
        filled_in_inference = self._device and self._device[0].is_inference()
        if filled_in_inference and not torch.is_inference_mode_enabled():
            self._device = [part.clone() for part in self._device]
            self._host = [part.clone() for part in self._host]

    def _view(self) -> tuple[Tensor, Tensor]:
        first, last = self._start - self._base, self._rows - self._base
        self.keys, self.values = (part[:, :, first:last] for part in self._device)
        return self.keys, self.values

    @property
    def rows(self) -> int:
        """Cached rows, hidden ones too."""
        return self._rows

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length of what the next update returns, and the first slot in it behind those gone."""
        first = self._start if self._showing else 0
        return self._rows - first + query_length, first + self.gone

    def keep(self, columns: Int[Tensor, "b m"]) -> None:
        """Forgets all rows but `columns`, before any was hidden."""
        known = [part[:, :, : self._rows] for part in self._device]
        self._rows = columns.shape[1]
        self._device = [_joined([chosen(part, columns)], self._room, self.device) for part in known]
        self._view()

    def show(self, swap: Swap | None) -> None:
        """Announces a step that sees the visible rows only, after `swap`."""
        if swap is not None:
            self._swap(swap)
        self._showing = True

    def _swap(self, swap: Swap) -> None:
        self._own()
        # rows to be shown come to the device before they swap, rows to be hidden leave after it
        self._rebase(min(self._base, swap.start))
        (sample, slot, source), base = swap.moves.to(self.device), self._base
        if base:
            pairs = swap.moves[:, : len(slot) // 2]
            far, near = pairs[:, pairs[1] < base], (slot >= base) & (source >= base)
            for host, part in zip(self._host, self._device, strict=True):
                _swap_between(host, part, far[0], far[1], far[2] - base)
            sample, slot, source = sample[near], slot[near] - base, source[near] - base
        for part in self._device:
            rows = part.transpose(1, 2)
            rows[sample, slot] = rows[sample, source]
        if self._offloads:
            self._rebase(swap.start)
        self._start, self._order = swap.start, swap.order
        self._view()

    def _rebase(self, base: int) -> None:
        """Moves rows until exactly the first `base` slots lie on the host."""
        moved, used = base - self._base, self._rows - self._base
        if moved == 0:
            return
        near = [part[:, :, :used] for part in self._device]
        if moved > 0:
            leaving = [part[:, :, :moved] for part in near]
            far = [list(parts) for parts in zip(*filter(None, (self._host, leaving)), strict=True)]
            staying = [[part[:, :, moved:]] for part in near]
        else:
            far = [[part[:, :, :base]] for part in self._host]
            coming = [part[:, :, base:] for part in self._host]
            staying = [list(parts) for parts in zip(coming, near, strict=True)]
        pin = self.device.type == "cuda"  # so that copies need no staging
        self._host = [_joined(parts, 0, torch.device("cpu"), pin) for parts in far] if base else []
        self._device = [_joined(parts, self._room, self.device) for parts in staying]
        self._base = base

    def reveal(self) -> None:
        """Brings all rows back into their original order."""
        self._showing = False
        if self._order is None:
            return
        self._own()
        self._rebase(0)
        slot = self._order.argsort(dim=1)  # of each column
        for part in self._device:
            known = part[:, :, : slot.shape[1]]
            known.copy_(take(known.transpose(1, 2), slot).transpose(1, 2))
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


def _joined(
    parts: Sequence[Float[Tensor, "b g _ e"]], room: int, device: torch.device, pin: bool = False
) -> Tensor:
    """New storage with the rows of `parts` one behind another, and room for more."""
    shape = list(parts[0].shape)
    shape[2] = sum(part.shape[2] for part in parts) + room
    joined, at = torch.empty(shape, dtype=parts[0].dtype, device=device, pin_memory=pin), 0
    for part in parts:
        joined[:, :, at : at + part.shape[2]] = part
        at += part.shape[2]
    return joined
