"""Vision stages and condensers: a prompt's videos get shorter before the language model's input.

Axes: `b` samples, `s` columns of the uncompressed prompt, `m` those that are left, `f` frames, `d`
the language model's width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.guards import contract, vision
from tokenprune.merging import onwards
from tokenprune.precision import full_precision
from tokenprune.runtime.layout import Layout, Unit, take
from tokenprune.runtime.seen import Chosen
from tokenprune.runtime.stage_report import StageReport
from tokenprune.runtime.tower import Sight
from tokenprune.strategy import Condenser, Pipeline
from tokenprune.tokens import Video, VisualTokens

Weights = Mapping[Unit, Float[Tensor, "f"]]  # an allocator's


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


def compress(
    pipeline: Pipeline,
    embeds: Float[Tensor, "b s d"],
    layout: Layout,
    sight: Sight,
    weights: Weights,
    lines: Lines,
    known: Mapping[Unit, Chosen],
) -> tuple[Shorter, dict[Unit, Chosen]]:
    """The prompt that the stages at the input leave, and what is left of each video.

    `known` is what they have left of videos before.
    """
    chosen = {
        unit: known.get(unit) or _chosen(pipeline, sight, unit, weights.get(unit))
        for unit in layout.units
    }
    left = {unit: tokens for unit, (tokens, _) in chosen.items()}
    with full_precision():
        return _shortened(embeds, layout, left, lines), chosen


def _chosen(
    pipeline: Pipeline, sight: Sight, unit: Unit, weights: Float[Tensor, "f"] | None
) -> Chosen:
    """What the stages leave of one video."""
    tokens = sight.tokens(unit)
    with full_precision():
        left, done = _run(pipeline, tokens, weights, unit.sample)
    if tokens.room is not None:
        left = _projected(left, sight.project, unit.video)
    return left, done


def _run(
    pipeline: Pipeline, tokens: VisualTokens, weights: Float[Tensor, "f"] | None, sample: int
) -> tuple[VisualTokens, list[StageReport]]:
    """What the stages leave of one video; `members` are of its uncompressed tokens."""
    done: list[StageReport] = []
    members: Tensor | None = None
    merged, first = False, tokens
    for stage in pipeline.at_input:
        if isinstance(stage, Condenser):
            after = contract.ask(stage, "condense", tokens, sample=sample)
            counts = vision.condensed(stage, tokens, after)
        else:
            budget = pipeline.budget(stage, tokens, weights, sample)
            after = contract.ask(stage, "compress", tokens, budget, sample=sample)
            counts = vision.kept(stage, tokens, budget, after)
        merged = merged or stage.merges or after.members is not None
        condensed = isinstance(stage, Condenser)
        done.append(StageReport(stage.name, None, *counts, condensed=condensed, merged=merged))
        if after.members is not None or members is not None:
            so_far = _members(first, tokens) if members is None else members
            own = _members(tokens, after) if after.members is None else after.members.long()
            members = onwards(own, so_far)
        tokens = replace(after, members=None, text=first.text, summary=first.summary)
    return replace(tokens, members=members), done


def _projected(
    patches: VisualTokens, project: Callable[[Tensor], Tensor], video: Video
) -> VisualTokens:
    """What is left of the patches, as tokens of the video: a token's slot is the cell below it."""
    side = math.isqrt(patches.cells)
    row, column = patches.slot // side, patches.slot % side
    slot = row * video.height // side * video.width + column * video.width // side
    return VisualTokens(
        features=project(patches.features),
        keys=None,
        saliency=None,
        frame=patches.frame,
        slot=slot,
        frames=video.frames,
        cells=video.cells,
        room=video.cells,
    )


def _members(before: VisualTokens, after: VisualTokens) -> Int[Tensor, "i"]:
    """Of each token that came, its row in what a stage left; -1 where it has none of its own."""
    row = after.frame.new_full((before.frames * before.cells,), -1)
    row[after.frame.long() * after.cells + after.slot] = torch.arange(len(after), device=row.device)
    return row[before.frame * before.cells + before.slot]


def _shortened(
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
