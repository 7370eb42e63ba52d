"""The cache of a prompt with a decode stage: hidden rows lie before the visible ones, and attention
reads a plain view.

Keys carry their rotation and a decoding query sees all visible rows, so their order does not matter
(DyCoke keeps two sets as well, eq. 6 and 7). Every sample's hidden rows and padding fill its first
slots; what is generated goes behind. A change of the selection swaps as many rows as changed,
nothing else moves, and showing everything moves nothing at all. Samples that hide unequal numbers
are masked as if padded on the left.

Axes: `b` samples, `g` key/value heads, `n` cached rows, `t` the same and this step's own, `q` new
rows, `k` pairs, `e` and `w` widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.runtime.arrangement import Arrangement, Exchange
from tokenprune.runtime.cache import HidingLayer
from tokenprune.runtime.layout import take

# rows that fit behind the prompt before the first growth; every growth makes twice as much room as
# the last
ROOM = 128


class PagedLayer(HidingLayer):
    """A cache layer that can show a part of its rows; `keys` and `values` are views of what the
    last step saw.

    It hides only in a step that was announced by `show`. Any other one, a second turn or a step
    outside the session, gets all rows in their original order. With `offload` hidden rows lie in
    host memory.
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
        first, new = self._rows - self._base, key_states.shape[2]
        if not self._device:
            self._device = [
                _joined([states], self._room, self.device) for states in (key_states, value_states)
            ]
        elif first + new > self._device[0].shape[2]:
            self._room *= 2
            old = [part[:, :, :first] for part in self._device]
            both = zip(old, (key_states, value_states), strict=True)
            self._device = [_joined(parts, self._room, self.device) for parts in both]
        else:
            for part, states in zip(self._device, (key_states, value_states), strict=True):
                part[:, :, first : first + new] = states
        self._rows += new
        return self._view()

    def _own(self) -> None:
        """Makes storage writable that was filled in inference mode, if that is over."""
        if (
            self._device
            and self._device[0].is_inference()
            and not torch.is_inference_mode_enabled()
        ):
            self._device, self._host = (
                [part.clone() for part in side] for side in (self._device, self._host)
            )

    def _view(self) -> tuple[Tensor, Tensor]:
        first, last = self._start - self._base, self._rows - self._base
        self.keys, self.values = (part[:, :, first:last] for part in self._device)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Cached rows, hidden ones too."""
        return self._rows

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length of what the next update returns, and the first slot in it."""
        first = self._start if self._showing else 0
        return self._rows - first + query_length, first

    def show(self, exchange: Exchange | None) -> None:
        """Announces a step that sees the visible rows only, after `exchange`."""
        if exchange is not None:
            self._exchange(exchange)
        self._showing = True

    def _exchange(self, exchange: Exchange) -> None:
        self._own()
        # rows to be shown come to the device before they are swapped, rows to be hidden leave after
        self._rebase(min(self._base, exchange.start))
        (sample, slot, source), base = exchange.moves.to(self.device), self._base
        if base:
            pairs = exchange.moves[:, : len(slot) // 2]
            far, near = pairs[:, pairs[1] < base], (slot >= base) & (source >= base)
            for host, part in zip(self._host, self._device, strict=True):
                _swap(host, part, far[0], far[1], far[2] - base)
            sample, slot, source = sample[near], slot[near] - base, source[near] - base
        for part in self._device:
            rows = part.transpose(1, 2)
            rows[sample, slot] = rows[sample, source]
        if self._offloads:
            self._rebase(exchange.start)
        self._start, self._order = exchange.start, exchange.order
        self._view()

    def _rebase(self, base: int) -> None:
        """Moves rows between host and device until exactly the first `base` slots lie on the host."""
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
            staying = [
                [part[:, :, base:], kept] for part, kept in zip(self._host, near, strict=True)
            ]
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


def _swap(
    one: Float[Tensor, "b g m e"],
    other: Float[Tensor, "b g n e"],
    sample: Int[Tensor, "k"],
    low: Int[Tensor, "k"],
    high: Int[Tensor, "k"],
) -> None:
    """Rows `low` of one storage and rows `high` of another change places; each may have its device."""
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


class Pages:
    """The arrangements of one prompt's cache, one for each layout that hides rows."""

    def __init__(self) -> None:
        self._arrangements: dict[int, Arrangement] = {}

    def show(
        self, number: int, layers: Sequence[object], visible: Bool[Tensor, "b t"]
    ) -> Bool[Tensor, "b t"] | None:
        """Lets `layers`, those of layout `number`, see the visible columns in this step; returns
        their mask by slot.
        """
        if number not in self._arrangements:
            self._arrangements[number] = Arrangement(visible)
        exchange, mask = self._arrangements[number].step(visible)
        for layer in layers:
            assert isinstance(layer, PagedLayer)
            layer.show(exchange)
        return mask

    def reveal(self, layers: Sequence[object]) -> None:
        """Shows every row again, in its original order, as a step of several columns needs it."""
        for layer in layers:
            if isinstance(layer, PagedLayer):
                layer.reveal()
        self._arrangements.clear()
