"""A prompt with fewer visual tokens at the language model's input: rows, layout, arguments.

Axes: `b` samples, `s` columns of the uncompressed prompt, `m` those that are left, `d` the language
model's width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.adapters import VideoLLM
from tokenprune.runtime.layout import Layout, Unit, take
from tokenprune.tokens import TEXT, Video, VisualTokens

# of each row of a video, the line with whose last token it goes; None: text stays
Lines = Callable[[Video], Int[Tensor, "r"] | None]


class Shorter(NamedTuple):
    """A prompt with fewer visual tokens."""

    embeds: Float[Tensor, "b m d"]
    layout: Layout
    # in the layout before: of a visual row, that of its token's address
    columns: Int[Tensor, "b m"]
    removed: Int[Tensor, "b"] | None  # rows that each sample lost; None if none lost any
    tokens: dict[Unit, int]  # that are left of each video
    # of merged videos, into which of the tokens that are left each token went; -1: dropped
    members: dict[Unit, Int[Tensor, "n"]]


def entering(
    adapter: VideoLLM, given: dict[str, Any], before: Layout, left: Shorter, anew: bool
) -> dict[str, Any]:
    """Arguments of the language model for what is left, its positions counted `anew` or not."""
    positions = given.get("position_ids")
    if not anew and positions is None:  # the model would count what is left
        # padding counts, too, as it does for the model
        counted = torch.arange(before.row.shape[1], device=before.row.device)
        given = {**given, "position_ids": counted.expand_as(before.row)}
    narrowed = adapter.narrow(given, left.columns, left.layout.valid)
    given = {**given, **narrowed, "inputs_embeds": left.embeds}
    if left.removed is not None:
        # without any mask transformers takes gaps in positions along one axis for several sequences
        packed = not anew and adapter.positions == "contiguous"
        given["attention_mask"] = left.layout.valid if packed else left.layout.mask
    if anew:
        given["position_ids"] = positions if left.removed is None else left.layout.row
    return given


def kept_blocks(
    blocks: Int[Tensor, "b s"] | None, columns: Int[Tensor, "b m"], layout: Layout
) -> Int[Tensor, "b m"] | None:
    """Pictures of the rows that are left, as they were numbered before."""
    if blocks is None:
        return None
    return blocks.gather(1, columns).masked_fill(~layout.valid, TEXT)


def shortened(
    embeds: Float[Tensor, "b s d"],
    before: Layout,
    left: Mapping[Unit, VisualTokens],
    lines: Lines,
) -> Shorter:
    """A prompt with the tokens that are `left` in the rows of their frames.

    Tokens stand in the order that their stage gave them.
    """
    kept = before.valid & ~before.visual
    address: dict[Unit, Int[Tensor, "n"]] = {}
    for unit, tokens in left.items():
        cell = tokens.frame * unit.video.cells + _row(tokens)
        every = before.columns(unit)
        address[unit] = every.index_select(0, cell)
        kept[unit.sample].index_fill_(0, address[unit], True)
        if (line := lines(unit.video)) is not None:
            _drop_spent(kept[unit.sample], every[0], line, address[unit])
    after, columns = before.keep(kept)
    places = {unit: after.columns(unit) for unit in left}
    for unit, place in places.items():
        columns[unit.sample].index_copy_(0, place, address[unit])
    packed, slot = take(embeds, columns), after.slot.clone()
    for unit, tokens in left.items():
        packed[unit.sample].index_copy_(0, places[unit], tokens.features.to(packed.dtype))
        slot[unit.sample].index_copy_(0, places[unit], tokens.slot)
    removed = before.valid.sum(1) - after.valid.sum(1)
    row = (after.valid.cumsum(1) - 1).clamp(min=0)
    layout = replace(after, slot=slot, row=row)
    members = {unit: part.members for unit, part in left.items() if part.members is not None}
    tokens = {unit: len(part) for unit, part in left.items()}
    shorter = removed if bool(removed.any()) else None
    return Shorter(packed, layout, columns, shorter, tokens, members)


def _row(tokens: VisualTokens) -> Int[Tensor, "n"]:
    """Which of its frame's rows each token takes: that of its cell, if none else is there."""
    if tokens.room is None:
        return tokens.slot
    counts = tokens.counts
    place = torch.arange(len(tokens), device=counts.device)
    return place - (counts.cumsum(0) - counts)[tokens.frame]


def _drop_spent(
    kept: Bool[Tensor, "s"], first: Int[Tensor, ""], line: Int[Tensor, "r"], left: Int[Tensor, "n"]
) -> None:
    """Takes from `kept` the rows of lines of which no token is `left`.

    `first` is the column of the video's first row.
    """
    line = line.to(kept.device)
    alive = kept.new_zeros(len(line)).index_fill(0, line[left - first], True)
    kept[first + torch.arange(len(line), device=kept.device)] &= alive[line]
