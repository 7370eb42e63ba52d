"""Vision stages and condensers: a prompt's videos get shorter before the language model's input.

Axes: `b` samples, `s` columns of the uncompressed prompt, `m` those that are left, `f` frames, `d`
the language model's width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune import hosted
from tokenprune.guards import contract, vision
from tokenprune.guards.promises import Promises
from tokenprune.merging import onwards
from tokenprune.precision import full_precision
from tokenprune.runtime.layout import Layout, Unit
from tokenprune.runtime.seen import Chosen
from tokenprune.runtime.shorter import Lines, Shorter, shortened
from tokenprune.runtime.stage_report import Done
from tokenprune.runtime.tower import Sight
from tokenprune.strategy import Condenser, Pipeline
from tokenprune.tokens import Video, VisualTokens

Weights = Mapping[Unit, Float[Tensor, "f"]]  # an allocator's


def compress(
    pipeline: Pipeline,
    embeds: Float[Tensor, "b s d"],
    layout: Layout,
    sight: Sight,
    weights: Weights,
    lines: Lines,
    known: Mapping[Unit, Chosen],
    promises: Promises,
) -> tuple[Shorter, dict[Unit, Chosen]]:
    """The prompt that the stages at the input leave, and what is left of each video.

    `known` is what they have left of videos before.
    """
    chosen = {
        unit: known.get(unit) or _chosen(pipeline, sight, unit, weights.get(unit), promises)
        for unit in layout.units
    }
    left = {unit: tokens for unit, (tokens, _) in chosen.items()}
    with full_precision():
        return shortened(embeds, layout, left, lines), chosen


def _chosen(
    pipeline: Pipeline,
    sight: Sight,
    unit: Unit,
    weights: Float[Tensor, "f"] | None,
    promises: Promises,
) -> Chosen:
    """What the stages leave of one video."""
    tokens = sight.tokens(unit)
    with full_precision():
        left, done = _run(pipeline, tokens, weights, unit.sample, promises)
    if tokens.room is not None:
        left = _projected(left, sight.project, unit.video)
    return left, done


def _run(
    pipeline: Pipeline,
    tokens: VisualTokens,
    weights: Float[Tensor, "f"] | None,
    sample: int,
    promises: Promises,
) -> tuple[VisualTokens, list[Done]]:
    """What the stages leave of one video; `members` are of its uncompressed tokens."""
    done: list[Done] = []
    members: Tensor | None = None
    merged, first = False, tokens
    for stage in pipeline.at_input:
        if isinstance(stage, Condenser):
            after = contract.ask(stage, "condense", tokens, sample=sample)
            counts = vision.condensed(stage, tokens, after, promises)
        else:
            budget = pipeline.budget(stage, tokens, weights, sample)
            after = contract.ask(stage, "compress", tokens, budget, sample=sample)
            counts = vision.kept(stage, tokens, budget, after, promises)
        merged = merged or stage.merges or after.members is not None
        condensed = isinstance(stage, Condenser)
        taken = partial(tuple, counts)
        done.append(Done(stage.name, None, taken, condensed=condensed, merged=merged))
        if after.members is not None or members is not None:
            own = _members(tokens, after) if after.members is None else after.members.long()
            if tokens is not first:
                own = onwards(own, _members(first, tokens) if members is None else members)
            members = own
        tokens = replace(after, members=None, text=first.text, summary=first.summary)
        hosted.note_counts(tokens.frame, counts[2])
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
