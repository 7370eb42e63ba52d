"""A prompt with fewer visual tokens: which rows are left, and what they hold.

How many tokens each frame keeps is known to the host, so it knows every row that is left, and the
device gets their places in one transfer. Which cells the tokens come from only the device knows,
and tells whoever asks.

Axes: `b` samples, `s` columns of the uncompressed prompt, `m` those that are left, `f` frames, `r`
rows of a video, `c` its cells, `n` tokens, `d` the language model's width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune import hosted
from tokenprune.runtime.layout import Layout, Unit
from tokenprune.runtime.table import Array, Table, counted, packed, send
from tokenprune.sequence import BESIDE
from tokenprune.tokens import TEXT, Video, VisualTokens

# of each row of a video, the line with whose last token it goes; None: text stays
Lines = Callable[[Video], Int[Array, "r"] | None]


class Shorter(NamedTuple):
    """A prompt with fewer visual tokens."""

    embeds: Float[Tensor, "b m d"]
    layout: Layout
    columns: Table  # in the layout before: of a visual row, that of its token's address
    removed: Int[Array, "b"] | None  # rows that each sample lost; None if none lost any
    counts: dict[Unit, tuple[int, ...]]  # tokens that are left of each frame of each video
    # of merged videos, into which of the tokens that are left each token went; -1: dropped
    members: dict[Unit, Int[Tensor, "n"]]


class _Stand(NamedTuple):
    """Where the tokens that are left of a video stand in the uncompressed prompt.

    Args:
        every: the columns of its cells
        rows: those of them that are taken, as many of each frame as it has tokens
        cell: of each token, where the host knows it
        spent: columns beside the tokens that go with the last token of their line
    """

    every: Int[Array, "c"]
    rows: Int[Array, "n"]
    cell: Int[Array, "n"] | None
    spent: Int[Array, "r"]


def shortened(
    embeds: Float[Tensor, "b s d"],
    before: Layout,
    left: Mapping[Unit, VisualTokens],
    lines: Lines,
) -> Shorter:
    """A prompt with the tokens that are `left` in the rows of their frames.

    Tokens stand in the order that their stage gave them.
    """
    stands = {unit: _stand(before, unit, tokens, lines) for unit, tokens in left.items()}
    kept = before.real & (before.read("frame") == TEXT)
    for unit, stand in stands.items():
        kept[unit.sample, stand.spent] = False
        kept[unit.sample, stand.rows] = True
    real = packed(kept.sum(1).tolist(), before.ends_padded)
    columns = np.zeros(real.shape, dtype=np.int64)
    columns[real] = np.nonzero(kept)[1]
    frame, slot = (np.take_along_axis(before.read(part), columns, 1) for part in ("frame", "slot"))
    frame[~real] = TEXT
    # the places of the tokens among all rows that are left
    places = [
        np.flatnonzero(unit.own(frame[unit.sample]) != TEXT) + unit.sample * real.shape[1]
        for unit in left
    ]
    rows, at = _packed(embeds, columns, places, [*left.values()])
    known, chosen = {"frame": frame, "row": counted(real)}, {}
    if all(stand.cell is not None for stand in stands.values()):
        for place, stand in zip(places, stands.values(), strict=True):
            columns.reshape(-1)[place] = stand.every[stand.cell]
        address = Table(columns)
    else:
        parts = [
            partial(_address, stands[unit].every, unit.video.cells, tokens.frame, tokens.slot)
            for unit, tokens in left.items()
        ]
        address = Table(made=partial(_filled, columns, at, parts))
    chosen["slot"] = partial(_filled, slot, at, [partial(_same, t.slot) for t in left.values()])
    beside = slot == BESIDE  # no cell of a token is
    layout = Layout(real, before.videos, before.images, before.device, known, chosen, beside)
    removed = np.array(before.lengths) - np.array(layout.lengths)
    return Shorter(
        rows,
        layout,
        address,
        removed if removed.any() else None,
        {unit: hosted.per_frame(part.frame, part.frames) for unit, part in left.items()},
        {unit: part.members for unit, part in left.items() if part.members is not None},
    )


def _stand(before: Layout, unit: Unit, tokens: VisualTokens, lines: Lines) -> _Stand:
    every, video = before.own(unit), unit.video
    counts = np.array(hosted.per_frame(tokens.frame, tokens.frames), dtype=np.int64)
    frame = np.arange(video.frames).repeat(counts)
    first = frame * video.cells + np.arange(len(frame)) - (counts.cumsum() - counts)[frame]
    line = lines(video)
    if tokens.room is not None:  # tokens take the first rows of their frames
        return _Stand(every, every[first], first, every[:0])
    if line is None and _unbroken(before, unit, every):
        return _Stand(every, every[first], None, every[:0])
    cell = frame * video.cells + np.array(tokens.slot.tolist(), dtype=np.int64)
    taken = every[cell]
    return _Stand(every, taken, cell, every[:0] if line is None else _spent(every, line, taken))


def _unbroken(before: Layout, unit: Unit, every: Int[Array, "c"]) -> bool:
    """Whether each frame is one run of rows, cell after cell: then which of its cells are left
    decides about no row.
    """
    frame, slot = (before.read(part)[unit.sample, every] for part in ("frame", "slot"))
    cell = (frame - unit.first) * unit.video.cells + slot
    runs = every.reshape(unit.video.frames, -1)
    whole = (runs[:, -1] - runs[:, 0] == unit.video.cells - 1).all()
    return bool(whole and (cell == np.arange(len(cell))).all())


def _spent(every: Int[Array, "c"], line: Int[Array, "r"], left: Int[Array, "n"]) -> Int[Array, "k"]:
    """The columns of lines of which no token is `left`."""
    first = every[0]
    alive = np.isin(line, line[left - first])
    return first + np.flatnonzero(~alive)


def _packed(
    embeds: Float[Tensor, "b s d"],
    columns: Int[Array, "b m"],
    places: Sequence[Int[Array, "_"]],
    tokens: Sequence[VisualTokens],
) -> tuple[Float[Tensor, "b m d"], Int[Tensor, "t"]]:
    """The rows at `columns`, with the tokens at their `places`; and those on the device."""
    rows = columns + np.arange(len(columns))[:, None] * embeds.shape[1]
    every = np.concatenate([rows.ravel(), *places])
    index, at = send(every, embeds.device).split([rows.size, len(every) - rows.size])
    left = embeds.flatten(0, 1).index_select(0, index)
    if len(at):
        left.index_copy_(0, at, _joined([part.features for part in tokens]).to(left.dtype))
    return left.unflatten(0, columns.shape), at


def _filled(
    table: Int[Array, "b m"], at: Int[Tensor, "t"], parts: Sequence[Callable[[], Tensor]]
) -> Int[Tensor, "b m"]:
    """A table with what the device knows of each video's tokens in their places."""
    if not parts:
        return send(table, at.device)
    flat = send(table.ravel(), at.device)
    return flat.index_copy(0, at, _joined([part() for part in parts])).view(table.shape)


def _address(
    every: Int[Array, "c"], cells: int, frame: Int[Tensor, "n"], slot: Int[Tensor, "n"]
) -> Int[Tensor, "n"]:
    """The column of each token's cell."""
    cell = frame * cells + slot
    if len(every) and every[-1] - every[0] == len(every) - 1:
        return cell + int(every[0])
    return send(every, cell.device).index_select(0, cell)


def _same(slot: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    return slot.long()


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat([*parts])
