"""Storage for the keys and values of a layer, with room made in advance.

A step's row is written in one operation and shown in another, as many as the stock cache takes to
copy all rows.

Axes: `b` samples, `g` key/value heads, `t` rows, `r` rows there is room for, `n` new rows, `k` rows
that move, `e` and `w` widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

SLOTS = 64  # rows of the room that are cut apart at once


class Store:
    """Keys and values, where they are equally wide side by side in one tensor.

    It does not know how many of its rows are filled. The first growth makes `room`, every other
    one twice as much as the last.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._whole: Tensor | None = None  # [b g 2*r e]: keys, then values; None: apart
        self._halves: list[Tensor] = []  # keys and values, [b g r e] and [b g r w]
        self._slots: list[list[Tensor]] = []  # key and value of single rows, backwards
        self._next = -1  # the row that the last of them is
        self.rows = 0  # how many there is room for
        self._roomy = False  # whether room was ever made
        self.inference = False  # whether it was made in inference mode, and is written to there

    def append(
        self, first: int, key: Float[Tensor, "b g n e"], value: Float[Tensor, "b g n w"]
    ) -> None:
        """Writes rows from `first` on."""
        last = first + key.shape[2]
        if not self._halves:  # a prompt's rows stay as they came until a step needs room
            self._take([key, value])
        elif last > self.rows:
            self.room *= 1 + self._roomy
            known = self.parts(0, first)
            self.fill([[known[0], key], [known[1], value]], key.device)
        elif last - first > 1 or (torch.is_grad_enabled() and self._learns(key, value)):
            for part, states in zip(self._halves, (key, value), strict=True):
                part[:, :, first:last] = states
        else:
            copy: Any = torch._foreach_copy_  # pyright: ignore[reportPrivateImportUsage]
            copy(self._slot(first), [key, value])

    def _learns(self, *states: Tensor) -> bool:
        """Whether a gradient flows; it could not through one of many views."""
        return any(part.requires_grad for part in (*states, *self._halves))

    def _slot(self, row: int) -> list[Tensor]:
        """Key and value of a row, as views to write to."""
        if not self._slots or self._next != row:
            ahead = self.parts(row, min(row + SLOTS, self.rows))
            cut = zip(*(part.split(1, 2) for part in ahead), strict=True)
            self._slots = [list(pair) for pair in cut][::-1]
        self._next = row + 1
        return self._slots.pop()

    def make_room(self, number: int) -> None:
        """Copies a prompt's rows, of which there are so many, to where rows may move."""
        if not self._roomy:
            self.fill([[part] for part in self.parts(0, number)], self._halves[0].device)

    def parts(self, first: int, last: int) -> list[Tensor]:
        """Keys and values of rows, as views to write to."""
        return [part[:, :, first:last] for part in self._halves]

    def view(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Keys and values of rows, to read."""
        if self._whole is None:
            key, value = self.parts(first, last)
            return key, value
        number, room = last - first, self.rows
        sizes = [first, number, room - number, number, room - last]
        _, key, _, value, _ = self._whole.split_with_sizes(sizes, 2)
        return key, value

    def move(
        self, sample: Int[Tensor, "k"], row: Int[Tensor, "k"], source: Int[Tensor, "k"]
    ) -> None:
        """Puts the rows at `source` to `row`, all at once."""
        if self._whole is None:
            for part in self._halves:
                rows = part.transpose(1, 2)
                rows[sample, row] = rows[sample, source]
            return
        rows = self._whole.transpose(1, 2).unflatten(1, (2, -1))
        rows[sample, :, row] = rows[sample, :, source]

    def own(self) -> None:
        """Copies everything, so that it can be written to in the mode of now."""
        self._take(
            [part.clone() for part in (self._halves if self._whole is None else [self._whole])]
        )

    def fill(
        self, parts: Sequence[Sequence[Float[Tensor, "b g _ _"]]], device: torch.device
    ) -> None:
        """Begins anew with keys and values that come in parts, and room behind them."""
        key, value = (pieces[0] for pieces in parts)
        number = sum(piece.shape[2] for piece in parts[0]) + self.room
        alike = key.shape[3] == value.shape[3] and key.dtype == value.dtype
        made = (
            [key.new_empty((*key.shape[:2], 2 * number, key.shape[3]), device=device)]
            if alike
            else [
                one.new_empty((*one.shape[:2], number, one.shape[3]), device=device)
                for one in (key, value)
            ]
        )
        self._take(made)
        self._roomy = True
        for half, pieces in zip(self._halves, parts, strict=True):
            _put(half, pieces)

    def _take(self, made: list[Tensor]) -> None:
        self._slots = []
        self._whole, self._halves = None, made
        self.inference = made[0].is_inference()
        if len(made) == 1:
            number = made[0].shape[2] // 2
            self._whole = made[0]
            self._halves = [made[0][:, :, :number], made[0][:, :, number:]]
        self.rows = self._halves[0].shape[2]


def joined(
    parts: Sequence[Float[Tensor, "b g _ e"]], device: torch.device, pin: bool = False
) -> Tensor:
    """New storage with the rows of `parts` one behind another."""
    shape = list(parts[0].shape)
    shape[2] = sum(part.shape[2] for part in parts)
    made = torch.empty(shape, dtype=parts[0].dtype, device=device, pin_memory=pin)
    _put(made, parts)
    return made


def _put(made: Float[Tensor, "b g r e"], parts: Sequence[Float[Tensor, "b g _ e"]]) -> None:
    at = 0
    for part in parts:
        made[:, :, at : at + part.shape[2]] = part
        at += part.shape[2]
