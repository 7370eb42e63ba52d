"""The vision stages of a prompt: its videos get shorter before it enters the language model.

Axes: `b` samples, `s` columns of the uncompressed prompt, `m` those that are left, `f` frames, `d`
the language model's width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.guards import contract, vision
from tokenprune.precision import full_precision
from tokenprune.runtime.layout import Layout, Unit, take
from tokenprune.runtime.report import StageReport
from tokenprune.runtime.tower import Sight
from tokenprune.strategy import Pipeline, VisionStage
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


def compress(
    pipeline: Pipeline,
    embeds: Float[Tensor, "b s d"],
    layout: Layout,
    sight: Sight,
    weights: Weights,
    lines: Lines,
) -> tuple[Shorter, dict[Unit, list[StageReport]]]:
    """The prompt that the vision stages leave, and what each of them did to each video."""
    left: dict[Unit, VisualTokens] = {}
    done: dict[Unit, list[StageReport]] = {}
    for unit in layout.units:
        tokens = sight.tokens(unit)
        with full_precision():
            left[unit], done[unit] = _run(pipeline, tokens, weights.get(unit), unit.sample)
    with full_precision():
        return _shortened(embeds, layout, left, lines), done


def _run(
    pipeline: Pipeline, tokens: VisualTokens, weights: Float[Tensor, "f"] | None, sample: int
) -> tuple[VisualTokens, list[StageReport]]:
    """What the vision stages leave of one video."""
    done: list[StageReport] = []
    for stage in pipeline.of(VisionStage):
        budget = pipeline.budget(stage, tokens, weights, sample)
        after = contract.ask(stage, "compress", tokens, budget, sample=sample)
        counts = vision.kept(stage, tokens, budget, after)
        done.append(StageReport(stage.name, None, *counts))
        tokens = after
    return tokens, done


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
        cell = tokens.frame * unit.video.cells + tokens.slot
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
    return Shorter(packed, layout, columns, removed if bool(removed.any()) else None)


def _drop_spent(
    kept: Bool[Tensor, "s"], first: Int[Tensor, ""], line: Int[Tensor, "r"], left: Int[Tensor, "n"]
) -> None:
    """Takes from `kept` the rows of lines of which no token is `left`.

    `first` is the column of the video's first row.
    """
    line = line.to(kept.device)
    alive = kept.new_zeros(len(line)).index_fill(0, line[left - first], True)
    kept[first + torch.arange(len(line), device=kept.device)] &= alive[line]
