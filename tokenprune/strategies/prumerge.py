"""PruMerge keeps tokens with outlying vision-tower attention, merged with their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, compress
from operator import eq, sub
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, merging, ops, ragged, resembling
from tokenprune.strategy import Adjustable, Extent, TowerReader, VisionStage
from tokenprune.tokens import Signals, VisualTokens

NEIGHBOURS = 32

Scores = Float[Tensor, "f m"]
Mask = Bool[Tensor, "f m"]
Order = Int[Tensor, "f m"]
Counts = Int[Tensor, "f"]
Numbers = Sequence[int]  # of frames, on the host


def fates(asked: Numbers, there: Numbers, ruled: Numbers) -> tuple[list[bool], list[bool]]:
    """Whether a frame's tokens merge, and whether the last one kept is the extra token."""
    frames = [*zip(asked, there, ruled, strict=True)]
    merge = [b < n or r >= n - 1 for b, n, r in frames]  # or the rule itself selects everything
    return merge, [b > 1 and (b < n or r == n - 1) for b, n, r in frames]


def regular(selected: Counts, counts: Counts, width: int) -> Mask:
    """PruMerge+'s grid: every `int(int(1 / ratio) / 3)`-th token, as released without the last."""
    ratio = selected.double() / counts.clamp(min=1)
    stride = ((1.0 / ratio).long() // 3).clamp(min=1).unsqueeze(-1)
    index = torch.arange(width, device=counts.device)
    return (index % stride == 0) & (index < counts.unsqueeze(-1) - 1)


def arranged(attention: Scores, valid: Mask, selected: Mask, top: Mask) -> Order:
    """Outliers by attention, then the grid in raster order, then the rest by attention."""
    place = torch.arange(valid.shape[1], device=valid.device).expand_as(valid)
    tier = torch.where(top, 0, torch.where(selected, 1, 2)).masked_fill(~valid, 3)
    value = torch.where(tier == 1, -place, attention).masked_fill(~valid, 0)
    return ops.ranking_by_tier(tier, value)


@dataclass(frozen=True)
class PruMerge(VisionStage, TowerReader, Adjustable, name="prumerge"):
    """LLaVA-PruMerge: Adaptive Token Reduction for Efficient Large Multimodal Models (Shang et al., ICCV 2025), https://arxiv.org/abs/2403.15388

    Per frame, the tokens with outlying attention (interquartile rule) each absorb their 32 nearest
    neighbours; one extra token sums up what was not selected. `grid=true` is PruMerge+. Frames are
    independent, tokens come in descending attention, then the grid, the extra token last.

    Decisions: the mean query's attention is that of a single head, as AIM has it for
    LLaVA-OneVision. It runs after the host's pooling. With an explicit budget of b tokens, b - 1
    are selected and one is the extra token: with the grid, half of them are outliers under `keep`,
    all outliers that fit under an allocator, and the rest are evenly spaced over what is left. A
    budget of one is the top token; a full budget that was asked for changes nothing. The extra
    token takes the slot of the unselected token it is mostly made of.

    Differs from the authors' code: the outlier count is per frame and an integer (not pooled over
    the batch and truncated), the grid is deduplicated with a stride of at least one, no frame ends
    without a token, and where all are selected none is extra (there it is a row of zeros).

    Args:
        keep: fraction of each frame's tokens kept, 0 to 1; none: as many as the rule finds
        grid: also select a regular grid (PruMerge+)
        proxy: "cls" attention, or what stands in for it: the mean query's, or what is "received"
    """

    keep: float | None = None
    grid: bool = False
    proxy: Literal["mean_query", "received", "cls"] = "mean_query"
    merges: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ops.fraction("prumerge.keep", self.keep)

    def signals(self) -> Signals:
        return Signals(saliency=self.proxy, keys="full")

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        if self.keep is not None:
            return ops.count(tokens.counts, self.keep)
        attention, valid = self._attention(tokens)
        found = attention, valid, self._number(attention, valid)
        return hosted.note_choice(found[2].add(1).minimum(tokens.counts), tokens, found)

    def retaining(self, ratio: float, extent: Extent) -> PruMerge:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        counts, device, found = tokens.counts, budget.device, hosted.choice(budget, tokens)
        attention, valid, ruled = found or (*self._attention(tokens), None)
        asked, there = hosted.numbers(budget), hosted.numbers(counts)
        rule: Numbers = [0] * len(there)  # decides where all are kept
        if self.keep is None and any(map(eq, asked, there)):
            rule = hosted.numbers(self._number(attention, valid) if ruled is None else ruled)
        merge, extra = fates(asked, there, rule)
        if not all(merge):  # without attention a frame keeps its order, and nothing is absorbed
            attention = attention.where(hosted.moved(torch.tensor([merge]), device).mT, 0)
        number = hosted.sent([*map(sub, asked, extra)], device)
        if self.grid:
            order, selected = self._spread(attention, valid, number)
        else:
            order = ops.ranking(attention, valid)
            selected = ops.first_of(order, number)
        keys, _ = ops.by_frame(self.recorded(tokens, "keys"), counts)
        features, _ = ops.by_frame(tokens.features, counts)
        order = order[:, : ragged.widest(budget)]
        near = resembling.nearest_tokens(keys, valid, order, NEIGHBOURS)
        taken, rest = merging.absorbed_and_left(features, attention, near, ~selected)
        here = ragged.cells(budget, order.shape[1])
        kept = tokens[(order + ragged.starts(counts).unsqueeze(-1)).flatten()[here]]
        merged = kept.features + taken.flatten(0, 1)[here]
        ends = [*accumulate(asked, initial=-1)][1:]
        summed = [*compress(range(len(extra)), extra)]
        row, frame = hosted.sent_together(([*compress(ends, extra)], summed), device)
        return kept.with_features(merged.index_copy_(0, row, rest.index_select(0, frame)))

    def _attention(self, tokens: VisualTokens) -> tuple[Scores, Mask]:
        return ops.by_frame(self.recorded(tokens, "saliency").float(), tokens.counts)

    def _number(self, attention: Scores, valid: Mask) -> Counts:
        """How many the interquartile rule selects."""
        if not self.grid:
            return ops.outliers(attention, valid)
        return self._adaptive(attention, valid)[0].sum(-1)

    def _adaptive(self, attention: Scores, valid: Mask) -> tuple[Mask, Mask]:
        """What the rule selects with a grid: everything, and the outliers among it."""
        number = ops.outliers(attention, valid)
        top = ops.keep_top(attention, number, valid) & valid
        return top | regular(number, valid.sum(-1), valid.shape[1]), top

    def _spread(self, attention: Scores, valid: Mask, number: Counts) -> tuple[Order, Mask]:
        """An order, and exactly `number[f]` selected tokens of each frame, with a grid."""
        adaptive, outlying = self._adaptive(attention, valid)
        most = (number + 1) // 2 if self.keep is not None else outlying.sum(-1)
        top = ops.keep_top(attention, number.minimum(most), valid)
        spaced = ops.evenly_spaced(valid & ~top, number - top.sum(-1))
        published = (adaptive.sum(-1) == number).unsqueeze(-1) & (self.keep is None)
        selected = torch.where(published, adaptive, top | spaced)
        return arranged(attention, valid, selected, torch.where(published, outlying, top)), selected
