"""The vision stages of a prompt: its videos get shorter before it enters the language model.

Axes: `b` samples, `s` columns of the uncompressed prompt, `m` those that are left, `f` frames, `d`
the language model's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune.guards import contract, vision
from tokenprune.precision import full_precision
from tokenprune.runtime.layout import Layout, take
from tokenprune.runtime.report import StageReport
from tokenprune.runtime.tower import TowerReading, visual_tokens
from tokenprune.strategy import Pipeline, VisionStage
from tokenprune.tokens import VisualTokens

Weights = Mapping[int, Float[Tensor, "f"]]  # an allocator's, by sample


class Shorter(NamedTuple):
    """A prompt with fewer visual tokens, which has contiguous positions."""

    embeds: Float[Tensor, "b m d"]
    layout: Layout
    columns: Int[Tensor, "b m"]  # in the layout before
    removed: Int[Tensor, "b"] | None  # rows that each sample lost; None if none lost any


def compress(
    pipeline: Pipeline,
    embeds: Float[Tensor, "b s d"],
    layout: Layout,
    videos: list[int],
    reading: TowerReading | None,
    weights: Weights,
) -> tuple[Shorter, dict[int, list[StageReport]]]:
    """The prompt that the vision stages leave, and what each of them did to each sample."""
    left: dict[int, VisualTokens] = {}
    done: dict[int, list[StageReport]] = {}
    for number, sample in enumerate(videos):
        tokens = visual_tokens(embeds, layout, videos, number, reading, pipeline)
        with full_precision():
            left[sample], done[sample] = _run(pipeline, tokens, weights.get(sample), sample)
    with full_precision():
        return _shortened(embeds, layout, left), done


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
    embeds: Float[Tensor, "b s d"], before: Layout, tokens: Mapping[int, VisualTokens]
) -> Shorter:
    """A prompt with `tokens` in place of its samples' videos, and contiguous positions."""
    number = torch.zeros_like(before.row[:, 0])
    left = [len(video) for video in tokens.values()]
    number[[*tokens]] = torch.tensor(left, device=number.device)
    # the first rows of the video's span hold what is left of it
    place = before.frame * before.cells + before.slot
    after, columns = before.keep(~before.visual | (place < number.unsqueeze(-1)))
    packed, frame, slot = take(embeds, columns), after.frame.clone(), after.slot.clone()
    for sample, video in tokens.items():
        span = after.visual[sample]
        packed[sample, span] = video.features.to(packed.dtype)
        frame[sample, span], slot[sample, span] = video.frame, video.slot
    removed = before.valid.sum(1) - after.valid.sum(1)
    row = (after.valid.cumsum(1) - 1).clamp(min=0)
    layout = replace(after, frame=frame, slot=slot, row=row)
    return Shorter(packed, layout, columns, removed if bool(removed.any()) else None)
