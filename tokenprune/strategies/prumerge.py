"""PruMerge keeps tokens with outlying vision-tower attention, merged with their neighbours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, merging, ops, ragged, resembling
from tokenprune.strategy import Adjustable, Extent, TowerReader, VisionStage
from tokenprune.tokens import Signals, VisualTokens

NEIGHBOURS = 32

Scores = Float[Tensor, "f m"]
Mask = Bool[Tensor, "f m"]
Counts = Int[Tensor, "f"]


class Choice(NamedTuple):
    """What becomes of a frame's tokens."""

    order: Int[Tensor, "f m"]  # the kept ones first
    selected: Bool[Tensor, "f m"]
    merges: Bool[Tensor, "f"]  # unless all were asked for
    extra: Bool[Tensor, "f"]  # the last kept token sums up what was not selected


def regular(selected: Counts, counts: Counts, width: int) -> Mask:
    """PruMerge+'s grid: every `int(int(1 / ratio) / 3)`-th token, as released without the last."""
    ratio = selected.double() / counts.clamp(min=1)
    stride = ((1.0 / ratio).long() // 3).clamp(min=1).unsqueeze(-1)
    index = torch.arange(width, device=counts.device)
    return (index % stride == 0) & (index < counts.unsqueeze(-1) - 1)


def arranged(attention: Scores, valid: Mask, selected: Mask, top: Mask) -> Int[Tensor, "f m"]:
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
        ruled = self._number(attention, valid)
        quota = ruled.add(1).minimum(tokens.counts)
        return hosted.note_choice(quota, tokens, (attention, valid, ruled))

    def retaining(self, ratio: float, extent: Extent) -> PruMerge:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        counts, found = tokens.counts, hosted.choice(budget, tokens)
        attention, valid, ruled = found or (*self._attention(tokens), None)
        order, selected, merges, extra = self._choose(attention, valid, budget, ruled)
        keys, _ = ops.by_frame(self.recorded(tokens, "keys"), counts)
        features, _ = ops.by_frame(tokens.features, counts)
        order = order[:, : ragged.widest(budget)]
        near = resembling.nearest_tokens(keys, valid, order, NEIGHBOURS) & merges.view(-1, 1, 1)
        taken, rest = merging.absorbed_and_left(features, attention, near, ~selected)
        here = ragged.cells(budget, order.shape[1])
        kept = tokens[(order + ragged.starts(counts).unsqueeze(-1)).flatten()[here]]  # a copy
        merged = kept.features + taken.flatten(0, 1)[here]
        last = torch.where(extra, budget - 1, -1).unsqueeze(-1)  # is what is left
        summed = (torch.arange(order.shape[1], device=last.device) == last).flatten()[here]
        rest = rest.index_select(0, kept.frame)
        return kept.with_features(torch.where(summed.unsqueeze(-1), rest, merged))

    def _attention(self, tokens: VisualTokens) -> tuple[Scores, Mask]:
        return ops.by_frame(self.recorded(tokens, "saliency").float(), tokens.counts)

    def _choose(self, attention: Scores, valid: Mask, budget: Counts, ruled: Any) -> Choice:
        counts = valid.sum(-1)
        if ruled is None:
            ruled = counts * 0 if self.keep is not None else self._number(attention, valid)
        merges = (budget < counts) | (ruled >= counts - 1)  # where the rule itself keeps everything
        extra = (budget > 1) & merges & (budget.minimum(ruled) < counts)
        order, number = ops.ranking(attention, valid), budget - extra.long()
        selected = ops.first_of(order, number)
        if self.grid:
            selected, top = self._select(attention, valid, number)
            order = arranged(attention, valid, selected, top)
        place = torch.arange(valid.shape[1], device=valid.device)
        return Choice(torch.where(merges.unsqueeze(-1), order, place), selected, merges, extra)

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

    def _select(self, attention: Scores, valid: Mask, number: Counts) -> tuple[Mask, Mask]:
        """Exactly `number[f]` tokens of each frame with a grid, and the outliers among them."""
        adaptive, outlying = self._adaptive(attention, valid)
        most = (number + 1) // 2 if self.keep is not None else outlying.sum(-1)
        top = ops.keep_top(attention, number.minimum(most), valid)
        spaced = ops.evenly_spaced(valid & ~top, number - top.sum(-1))
        published = (adaptive.sum(-1) == number).unsqueeze(-1) & (self.keep is None)
        return torch.where(published, adaptive, top | spaced), torch.where(published, outlying, top)
